package eventlog

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/telemetry"
)

// write has full deliveries stored and commits them, in order.
func (c *Consumer) write(ctx context.Context, ready <-chan *delivery, free chan<- *delivery) error {
	for {
		var d *delivery
		select {
		case <-ctx.Done():
			return ctx.Err()
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

// apply returns nil once the store has acknowledged every event of d. Whatever it answers until then (away, overloaded,
// a table missing), the same block is written again, for ever: events that were already written do no harm. It returns
// an error only when ctx ends.
func (c *Consumer) apply(ctx context.Context, d *delivery) error {
	if len(d.records) == 0 {
		return nil
	}
	ctx, span := telemetry.Together(ctx, "insert block", d.traced, trace.WithAttributes(attribute.Int("lotline.events", len(d.records))))
	err := fault.Retry(ctx, c.log, "write a block to "+c.writer.Name(), func(ctx context.Context) error {
		start := time.Now()
		err := c.writer.Apply(ctx, d.records)
		c.health.Set(c.writer.Name(), err)
		switch {
		case err == nil:
			took := time.Since(start)
			c.insertTook.Store(int64(took))
			c.metrics.insertSeconds.Observe(took.Seconds())
		case ctx.Err() == nil:
			c.metrics.insertRetries.Inc()
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
