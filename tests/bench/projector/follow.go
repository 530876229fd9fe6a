package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/schemas"
)

const (
	// perSecond transactions publish the events of a second.
	perSecond = 50
	probeSKU  = "PROBE"
	// probeEvery is between two questions for the probe. One takes ClickHouse some 2 ms of a core: asked without a pause they
	// would be what is measured.
	probeEvery = 10 * time.Millisecond
	// restAfter is how long merges are given once nothing comes any more.
	restAfter = 20 * time.Second
)

const following = "from the end of a transaction to a row that is read with FINAL"

// follow publishes at a steady rate, whether or not rows appear in time, and watches them appear: each transaction has
// an event of a SKU of its own, whose newest version is asked for again and again.
func (b *bench) follow(ctx context.Context) (err error) {
	s, err := b.newSite(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	each := max(b.Rate/perSecond, 1)
	ticks := int(b.Duration.Seconds() * perSecond)
	h := readmodeltest.New(b.Seed+1, each*ticks)
	published := make([]time.Time, ticks+1) // by version of the probe; each is set before its events can be read
	due := make(chan int, ticks)
	seen := make([]time.Duration, 0, ticks)

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(due)
		start := time.Now()
		for tick := 1; tick <= ticks; tick++ {
			time.Sleep(time.Until(start.Add(time.Duration(tick) * time.Second / perSecond)))
			records := slices.Clone(h.Records[(tick-1)*each : tick*each])
			records = append(records, probe(tick, records[0].Time))
			at, err := s.publish(running, records)
			if err != nil {
				return err
			}
			copy(h.Records[(tick-1)*each:tick*each], records) // with the offsets that they got
			published[tick] = at
			due <- tick
		}
		return nil
	})
	var partsMax uint64
	g.Go(func() error {
		for tick := range due {
			if err := s.awaitProbe(running, tick); err != nil {
				return err
			}
			seen = append(seen, time.Since(published[tick]))
			if tick%perSecond == 0 {
				parts, err := s.parts(running)
				if err != nil {
					return err
				}
				partsMax = max(partsMax, parts)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.awaitProjected(ctx); err != nil {
		return err
	}
	time.Sleep(restAfter)
	atRest, err := s.parts(ctx)
	if err != nil {
		return err
	}
	memory, err := p.stop()
	if err != nil {
		return err
	}
	if err := s.check(ctx, h); err != nil {
		return err
	}
	b.followed(seen, partsMax, atRest, memory)
	return nil
}

func (b *bench) followed(seen []time.Duration, partsMax, atRest uint64, memory int64) {
	row := fmt.Sprintf("%d events/s", b.Rate)
	b.report.AddLatencies(following, row, seen)
	b.report.Add(following, row, "most active parts of a table", "", float64(partsMax))
	b.report.Add(following, row, "at rest", "", float64(atRest))
	b.report.Add(following, row, "most memory of the projector", "MiB", float64(memory>>20))
}

// probe is an event of the same time as the others of its transaction: with another month's every block would be two parts of
// the log.
func probe(version int, at time.Time) readmodel.Record {
	return readmodel.Record{
		ID: fmt.Sprintf("probe/0/%d/0", version), Time: at,
		Event: schemas.Event{
			Type: schemas.EventOutOfStock, SKU: probeSKU, Version: uint64(version), CommandID: fmt.Sprintf("probe-%d", version),
			CommandSource: "/bench", Last: true, OrderID: "o", Qty: 1,
		},
	}
}

// awaitProbe returns once the probe's newest version is at least that.
func (s *site) awaitProbe(ctx context.Context, version int) error {
	return await(ctx, probeEvery, func(ctx context.Context) (bool, error) {
		var newest uint64
		err := s.conn.QueryRow(ctx, "SELECT max(version) FROM skus FINAL WHERE sku = ? SETTINGS max_threads = 1", probeSKU).Scan(&newest)
		return newest >= uint64(version), err
	})
}

// parts returns the active parts of the table that has most.
func (s *site) parts(ctx context.Context) (most uint64, err error) {
	err = s.conn.QueryRow(ctx, `SELECT max(n) FROM (SELECT count() AS n FROM system.parts
		WHERE database = ? AND active GROUP BY table)`, s.prefix).Scan(&most)
	return most, err
}
