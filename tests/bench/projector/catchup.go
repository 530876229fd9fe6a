package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

const blockEvents = 10_000 // the projector's default

// The table, and a row of it.
const (
	catchingUp   = "catching up"
	projectorRow = "projector, started and joined beforehand"
)

// catchUp has a projector start on a full topic, and a bare loop write the same blocks, in turn.
func (b *bench) catchUp(ctx context.Context) error {
	h := readmodeltest.New(b.Seed, b.Events)
	for round := range b.Rounds {
		var p, l time.Duration
		var peak int64
		var err error
		run := []func() error{
			func() error { p, peak, err = b.fromTopic(ctx, h); return err },
			func() error { l, err = b.bareLoop(ctx, h); return err },
		}
		if round%2 == 1 {
			slices.Reverse(run)
		}
		for _, measure := range run {
			if err := measure(); err != nil {
				return err
			}
		}
		n := float64(len(h.Records))
		b.report.Add(catchingUp, "bare loop, the same blocks without Kafka", "events", "/s", n/l.Seconds())
		b.report.Add(catchingUp, projectorRow, "events", "/s", n/p.Seconds())
		b.report.Add(catchingUp, projectorRow, "of the bare loop", "", l.Seconds()/p.Seconds())
		b.report.Add(catchingUp, projectorRow, "most memory", "MiB", float64(peak>>20))
	}
	return nil
}

// fromTopic measures from the first row in ClickHouse's log to the last committed offset, so that starting and joining
// the group are not in it. What was written by then counts as one block more.
func (b *bench) fromTopic(ctx context.Context, h *readmodeltest.History) (took time.Duration, memory int64, err error) {
	s, err := b.newSite(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	for part := range slices.Chunk(h.Records, blockEvents) {
		if _, err := s.publish(ctx, part); err != nil {
			return 0, 0, err
		}
	}
	p, err := s.start(ctx)
	if err != nil {
		return 0, 0, err
	}
	var first uint64
	for first == 0 {
		if err := s.conn.QueryRow(ctx, "SELECT count() FROM events").Scan(&first); err != nil {
			return 0, 0, err
		}
	}
	if int(first) >= len(h.Records)/2 {
		return 0, 0, fmt.Errorf("%d of %d events were written at once: take more events", first, len(h.Records))
	}
	start := time.Now()
	if err := s.awaitProjected(ctx); err != nil {
		return 0, 0, err
	}
	// As if all had been written at the rate of what was left then.
	took = time.Since(start) * time.Duration(len(h.Records)) / time.Duration(len(h.Records)-int(first))
	memory, err = p.stop()
	return took, memory, errors.Join(err, s.check(ctx, h))
}

// bareLoop writes the records in blocks, from memory.
func (b *bench) bareLoop(ctx context.Context, h *readmodeltest.History) (took time.Duration, err error) {
	s, err := b.newSite(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	w, err := clickhouse.NewWriter(s.cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	start := time.Now()
	for block := range slices.Chunk(h.Records, blockEvents) {
		if err := w.Apply(ctx, block); err != nil {
			return 0, err
		}
	}
	took = time.Since(start)
	return took, s.check(ctx, h)
}
