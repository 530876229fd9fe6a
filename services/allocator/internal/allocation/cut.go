package allocation

import "fmt"

// changeBatchQuantity sets what was purchased of a batch. If less is left than is
// allocated, the newest lines leave until the rest fits, and only then is each
// offered to the SKU's batches, the cut one among them: so no line moves twice,
// and no batch is oversold at any version.
func (p *Product) changeBatchQuantity(c *Command, dst []Event) ([]Event, error) {
	b := p.batches.get(c.Ref)
	if b == nil {
		return p.reject(c, ReasonUnknownBatch, fmt.Sprintf("SKU %s has no batch %s", p.SKU, c.Ref), dst), nil
	}
	if b.Qty == c.Qty {
		return p.ignore(c, ReasonUnchangedQuantity, fmt.Sprintf("The quantity of batch %s is %d already", b.Ref, b.Qty), dst), nil
	}
	w := p.work(b)
	leaving, staying, err := w.split(b.Qty-b.Available-c.Qty, p.limits.CutLinesMax)
	if err != nil {
		return dst, fmt.Errorf("cutting batch %q of SKU %q: %w", b.Ref, p.SKU, err)
	}
	if len(leaving) > p.limits.CutLinesMax {
		return p.reject(c, ReasonCutTooLarge, fmt.Sprintf(
			"More than %d lines would have to leave batch %s: cut it in smaller steps", p.limits.CutLinesMax, b.Ref), dst), nil
	}
	w.newest = staying
	for _, l := range leaving {
		dst = p.release(l, b, ReasonBatchQuantityChanged, dst)
	}
	change := c.Qty - b.Qty
	b.Qty = c.Qty
	p.supply(b, change)
	dst = p.record(dst, ofBatch(BatchQuantityChanged, b))
	for _, l := range leaving {
		dst = p.offer(l, c.Time, dst)
	}
	p.remember(c)
	return dst, nil
}

// split returns the newest lines of the batch, newest first, that hold excess or
// more together, and the rest. It stops at one line more than linesMax.
func (w *work) split(excess int32, linesMax int) (leaving, staying []*line, err error) {
	staying = w.newest
	for excess > 0 && len(leaving) <= linesMax {
		if len(staying) == 0 {
			if w.complete {
				return nil, nil, fmt.Errorf("its lines hold %d less than is allocated: %w", excess, ErrInconsistent)
			}
			return nil, nil, ErrMoreLinesNeeded
		}
		l := staying[len(staying)-1]
		staying = staying[:len(staying)-1]
		if l.BatchRef != "" {
			leaving = append(leaving, l)
			excess -= l.Qty
		}
	}
	return leaving, staying, nil
}
