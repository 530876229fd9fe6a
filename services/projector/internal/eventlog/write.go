package eventlog

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/telemetry"
)

// write has full deliveries stored and commits them, in order.
func (c *Consumer) write(ctx context.Context, ready, again <-chan *delivery, free chan<- *delivery) error {
	look, search := time.NewTicker(asidesInterval), time.NewTicker(rereadPauses*c.cfg.HoleGrace)
	defer look.Stop()
	defer search.Stop()
	c.lookForMissing(ctx)
	c.nameAsides(ctx)
	for {
		var d *delivery
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			c.nameAsides(ctx)
			continue
		case <-search.C:
			c.lookForMissing(ctx)
			c.nameAsides(ctx)
			continue
		case d = <-again:
			d.done <- c.writeAgain(ctx, d)
			continue
		case d = <-ready:
		}
		err := c.apply(ctx, d)
		if err == nil {
			err = c.commit(ctx, d.next)
		}
		d.ended(err)
		if err != nil {
			return err
		}
		d.reset()
		free <- d
	}
}

// writeAgain writes what was read once more, or asks the store.
func (c *Consumer) writeAgain(ctx context.Context, d *delivery) error {
	if d.ask == nil {
		return c.apply(ctx, d)
	}
	err := d.ask(ctx, c.ledger())
	c.nameAsides(ctx)
	return err
}

// apply returns nil once the store has acknowledged every event of d, or has noted that it refuses it. Whatever it answers
// until then (away, overloaded, a table missing), the same block is written again, for ever: events that were already
// written do no harm. It returns an error only when ctx ends.
func (c *Consumer) apply(ctx context.Context, d *delivery) error {
	if len(d.records) == 0 {
		return nil
	}
	ctx, span := telemetry.Together(ctx, "insert block", d.traced, trace.WithAttributes(attribute.Int("lotline.events", len(d.records))))
	err := fault.Retry(ctx, c.log, "write a block to "+c.writer.Name(), func(ctx context.Context) error {
		if err := c.pace.wait(ctx); err != nil {
			return err
		}
		start := time.Now()
		err := c.writer.Apply(ctx, d.records)
		if ledger, refused := c.ledger(), new(readmodel.RefusedError); ledger != nil && errors.As(err, &refused) {
			err = c.sift(ctx, ledger, d.records, err)
		}
		c.health.Set(c.writer.Name(), err)
		c.pace.answered(err)
		switch {
		case err == nil:
			took := time.Since(start)
			c.insertTook.Store(int64(took))
			c.metrics.insertSeconds.Observe(took.Seconds())
		case ctx.Err() == nil:
			c.metrics.insertRetries.WithLabelValues(reasonOf(err)).Inc()
		}
		return err
	})
	telemetry.End(span, err)
	if err != nil {
		return err
	}
	c.metrics.blockEvents.Observe(float64(len(d.records)))
	c.metrics.events.Add(float64(len(d.records)))
	now := time.Now().UnixMilli()
	for i := range d.records {
		c.metrics.ageSeconds.Observe(float64(max(0, now-d.records[i].Time.UnixMilli())) / 1000)
	}
	return nil
}

// Values of the label reason.
const (
	reasonOutage     = "outage"
	reasonOverloaded = "overloaded"
	reasonRefused    = "refused"
)

func reasonOf(err error) string {
	var overloaded *readmodel.OverloadedError
	var refused *readmodel.RefusedError
	switch {
	case errors.As(err, &overloaded):
		return reasonOverloaded
	case errors.As(err, &refused):
		return reasonRefused
	default:
		return reasonOutage
	}
}

// Bounds of a pace.
const (
	paceMin = 200 * time.Millisecond
	paceMax = 5 * time.Second
)

// pace is the pause before a block. A store that is overloaded doubles it, and each block that it takes halves it: blocks
// come more slowly, and are longer for it, as long as there are many. Without it a store that merges too slowly would be
// asked as often as before as soon as it had merged a little.
type pace struct{ pause time.Duration }

func (p *pace) wait(ctx context.Context) error {
	if p.pause == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.pause):
		return nil
	}
}

func (p *pace) answered(err error) {
	var overloaded *readmodel.OverloadedError
	switch {
	case errors.As(err, &overloaded):
		p.pause = min(max(2*p.pause, paceMin), paceMax)
	case err == nil:
		if p.pause /= 2; p.pause < paceMin/2 {
			p.pause = 0
		}
	}
}
