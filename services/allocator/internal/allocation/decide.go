package allocation

import (
	"fmt"
	"time"
)

// What a command may ask for. Dates compare as strings.
const (
	qtyMax = 1_000_000_000
	etaMin = "1970-01-01"
	etaMax = "2299-12-31"
)

// Decide appends the command's events, one at least, to dst. On an error,
// which wraps ErrMoreLinesNeeded or ErrInconsistent, nothing was changed or appended.
func (p *Product) Decide(c Command, dst []Event) ([]Event, error) {
	start := len(dst)
	dst, err := p.decide(&c, dst)
	if err != nil {
		return dst, err
	}
	for i := start; i < len(dst); i++ {
		dst[i].Seq = int32(i - start)
	}
	dst[len(dst)-1].Last = true
	return dst, nil
}

// decide looks for a repeat first: it is answered as one, whatever became of the
// SKU meanwhile.
func (p *Product) decide(c *Command, dst []Event) ([]Event, error) {
	if first := p.chunk.seen[c.ID]; first != nil && p.remembered(first.Time, c.Time) {
		if first.Body != c.body() {
			return p.rejectOtherBody(c, first.Position, dst), nil
		}
		return p.ignore(c, ReasonDuplicateCommand, fmt.Sprintf(
			"The command was seen before, at partition %d, offset %d", first.Position.Partition, first.Position.Offset), dst), nil
	}
	if reason, message := outOfRange(c); reason != "" {
		return p.reject(c, reason, message, dst), nil
	}
	if p.Version == 0 && c.Kind != CreateBatch {
		return p.reject(c, ReasonInvalidSKU, "Invalid sku "+p.SKU, dst), nil
	}
	switch c.Kind {
	case CreateBatch:
		return p.createBatch(c, dst), nil
	case Allocate:
		return p.allocate(c, dst), nil
	case Deallocate:
		return p.deallocate(c, dst)
	default:
		return p.changeBatchQuantity(c, dst)
	}
}

// outOfRange returns why the command asks for too little or too much, or "".
func outOfRange(c *Command) (reason Reason, message string) {
	least := int32(1)
	switch c.Kind {
	case Deallocate:
		return "", ""
	case ChangeBatchQuantity:
		least = 0 // a batch can be lost entirely
	}
	if c.Qty < least || c.Qty > qtyMax {
		return ReasonQtyOutOfRange, fmt.Sprintf("qty %d is not from %d to %d", c.Qty, least, qtyMax)
	}
	if c.ETA != "" && (c.ETA < etaMin || c.ETA > etaMax) {
		return ReasonETAOutOfRange, fmt.Sprintf("eta %s is not from %s to %s", c.ETA, etaMin, etaMax)
	}
	return "", ""
}

func (p *Product) createBatch(c *Command, dst []Event) []Event {
	if b := p.batches.get(c.Ref); b != nil {
		if b.CreatedQty == c.Qty && b.ETA == c.ETA {
			return p.ignore(c, ReasonDuplicateBatch, fmt.Sprintf("Batch %s was created before", b.Ref), dst)
		}
		return p.reject(c, ReasonConflictingBatch, fmt.Sprintf(
			"Batch %s was created before, with qty %d and %s", b.Ref, b.CreatedQty, arrival(b.ETA)), dst)
	}
	b := p.add(Batch{Ref: c.Ref, ETA: c.ETA, CreatedVersion: p.Version + 1, CreatedQty: c.Qty, Qty: c.Qty, Available: c.Qty})
	p.work(b).changed = true
	return p.record(dst, ofBatch(BatchCreated, b))
}

func (p *Product) allocate(c *Command, dst []Event) []Event {
	l := p.chunk.lines.get(c.OrderID)
	if l != nil && l.BatchRef != "" {
		switch {
		case l.Qty == c.Qty:
			dst = p.ignore(c, ReasonDuplicateLine, fmt.Sprintf("Order line %s has batch %s already", l.OrderID, l.BatchRef), dst)
		case l.Command == c.ID && c.ID.Given():
			dst = p.rejectOtherBody(c, l.Position, dst)
		default:
			dst = p.reject(c, ReasonConflictingLine, fmt.Sprintf("Order line %s is allocated with qty %d", l.OrderID, l.Qty), dst)
		}
		dst[len(dst)-1].BatchRef = l.BatchRef
		return dst
	}
	return p.offer(&line{Line: Line{
		OrderID: c.OrderID, Qty: c.Qty, Command: c.ID, Position: c.Position, CommandTime: c.Time,
	}, stored: l != nil && l.stored}, c.Time, dst)
}

func (p *Product) deallocate(c *Command, dst []Event) ([]Event, error) {
	l := p.chunk.lines.get(c.OrderID)
	if l == nil || l.BatchRef == "" {
		return p.reject(c, ReasonNotAllocated, fmt.Sprintf("Order line %s is not allocated", c.OrderID), dst), nil
	}
	if l.Command == c.ID && c.ID.Given() {
		return p.rejectOtherBody(c, l.Position, dst), nil
	}
	b := p.batches.get(l.BatchRef)
	if b == nil {
		return dst, fmt.Errorf("deallocating line %q of SKU %q: no batch %q: %w", l.OrderID, p.SKU, l.BatchRef, ErrInconsistent)
	}
	dst = p.release(l, b, ReasonRequested, dst)
	p.rememberLine(l, c.Time)
	p.remember(c)
	return dst, nil
}

// offer gives l, which has no batch, to the first batch with enough. If there is
// none, a line that was allocated before keeps its row as it is.
func (p *Product) offer(l *line, now time.Time, dst []Event) []Event {
	b := p.open.first(l.Qty)
	if b == nil {
		p.rememberLine(l, now)
		return p.record(dst, Event{Kind: OutOfStock, OrderID: l.OrderID, Qty: l.Qty})
	}
	p.supply(b, -l.Qty)
	dst = p.record(dst, ofLine(Allocated, l, b))
	l.BatchRef, l.AllocatedVersion, l.changed = b.Ref, p.Version, true
	p.chunk.lines.put(l)
	b.work.newest = append(b.work.newest, l)
	return dst
}

// release takes l out of b, its batch.
func (p *Product) release(l *line, b *batch, why Reason, dst []Event) []Event {
	p.supply(b, l.Qty)
	l.BatchRef, l.changed = "", true
	e := ofLine(Deallocated, l, b)
	e.Reason = why
	return p.record(dst, e)
}

func arrival(eta string) string {
	if eta == "" {
		return "in stock"
	}
	return "eta " + eta
}
