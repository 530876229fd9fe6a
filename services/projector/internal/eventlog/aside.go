package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

const (
	// refusedMax is how many events of a block may be refused for what is in them. If more are, it is the table that is
	// not as it should be, and the block waits.
	refusedMax = 10
	// asidesInterval is how often the store is asked what it lacks, and asidesTimeout bounds that question.
	asidesInterval = 5 * time.Second
	asidesTimeout  = 5 * time.Second
	// asideComponent names what is set aside in the readiness report.
	asideComponent = "set aside"
	// repair is what brings back what was refused.
	repair = "lotline verify --repair, or where the read model is not in ClickHouse lotline rebuild"
)

// ledger returns the writer's, or nil if it has none.
func (c *Consumer) ledger() readmodel.Ledger {
	ledger, _ := c.writer.(readmodel.Ledger)
	return ledger
}

// sift finds the events for which the store refuses a block, by halving it, writes the others and notes these. why is what
// the store said of all of them.
func (c *Consumer) sift(ctx context.Context, ledger readmodel.Ledger, records []readmodel.Record, why error) error {
	asides, err := Sift(ctx, records, why, refusedMax, c.writer.Apply)
	if err != nil {
		return err
	}
	if err := ledger.SetAside(ctx, asides); err != nil {
		return err
	}
	for _, a := range asides {
		c.log.ErrorContext(ctx, "an event was refused and set aside; the read model lacks it", "sku", a.SKU, "version", a.Version, "event", a.EventID,
			"topic", c.cfg.Topic, "partition", a.Partition, "offset", a.Offset, "reason", a.Reason,
			"todo", "mend what refuses it, then run "+repair)
	}
	c.nameAsides(ctx)
	return nil
}

// Sift writes all of records that apply takes, by halving them, and returns notes of the others. why is what apply said of all of
// them. If more than refusedMax are refused, it is not for what is in them, and the rest may not be written.
func Sift(ctx context.Context, records []readmodel.Record, why error, refusedMax int, apply func(context.Context, []readmodel.Record) error) ([]readmodel.Aside, error) {
	var asides []readmodel.Aside
	var sift func(records []readmodel.Record, why error) error
	sift = func(records []readmodel.Record, why error) error {
		if len(records) == 1 {
			if len(asides) == refusedMax {
				return fmt.Errorf("more than %d events of a block are refused, so it is not for what is in them: %w", refusedMax, why)
			}
			r := &records[0]
			asides = append(asides, readmodel.Aside{
				What: readmodel.AsideRefused, SKU: r.Event.SKU, Version: r.Event.Version, EventID: r.ID, Reason: why.Error(),
				Event: string(schemas.AppendEvent(nil, &r.Event)), Time: r.Time, Partition: r.Partition, Offset: r.Offset,
			})
			return nil
		}
		for _, half := range [][]readmodel.Record{records[:len(records)/2], records[len(records)/2:]} {
			err := apply(ctx, half)
			if refused := new(readmodel.RefusedError); errors.As(err, &refused) {
				err = sift(half, err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := sift(records, why)
	return asides, err
}

// nameAsides says what the store lacks, whoever noted it, for as long as it does.
func (c *Consumer) nameAsides(ctx context.Context) {
	ledger := c.ledger()
	if ledger == nil {
		return
	}
	asking, cancel := context.WithTimeout(ctx, asidesTimeout)
	defer cancel()
	noted, all, err := ledger.Asides(asking, readmodel.Aside{}, 1)
	if err != nil {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "could not ask what is set aside", "error", err)
		}
		return
	}
	c.metrics.asides.Set(float64(all))
	if all == 0 {
		c.health.Set(asideComponent, nil)
		return
	}
	a, todo := noted[0], "Mend the cause, then run "+repair
	if a.What == readmodel.AsideMissing {
		todo = "lotline verify says what else is wrong with it"
	}
	c.health.Set(asideComponent, fmt.Errorf("%s lacks %d events, the first of SKU %q: %s is version %d (%s/%d@%d): %s. %s",
		c.writer.Name(), all, a.SKU, a.What, a.Version, c.cfg.Topic, a.Partition, a.Offset, a.Reason, todo))
}

// lookForMissing takes back what was noted as missing and is there now, however it came. It looks at as many notes as holesMax
// each time, after those of the last time, and after all of them at the first ones again.
func (c *Consumer) lookForMissing(ctx context.Context) {
	ledger := c.ledger()
	if ledger == nil {
		return
	}
	asking, cancel := context.WithTimeout(ctx, asidesTimeout)
	defer cancel()
	noted, _, err := ledger.Asides(asking, c.looked, holesMax)
	if err == nil {
		err = takeBack(asking, ledger, noted)
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "could not look for events that were missing", "error", err)
		}
		return
	}
	c.looked = readmodel.Aside{}
	if len(noted) == holesMax {
		c.looked = noted[len(noted)-1]
	}
}

// takeBack takes back those notes of what was missing and is not.
func takeBack(ctx context.Context, ledger readmodel.Ledger, noted []readmodel.Aside) error {
	of := slices.DeleteFunc(slices.Clone(noted), func(a readmodel.Aside) bool { return a.What != readmodel.AsideMissing })
	if len(of) == 0 {
		return nil
	}
	still, err := ledger.Missing(ctx, of, time.Time{})
	if err != nil {
		return err
	}
	missing := make(map[skuVersion]bool)
	for _, a := range still {
		missing[skuVersion{a.SKU, a.Version}] = true
	}
	there := slices.DeleteFunc(of, func(a readmodel.Aside) bool { return missing[skuVersion{a.SKU, a.Version}] })
	if len(there) == 0 {
		return nil
	}
	return ledger.Returned(ctx, there)
}
