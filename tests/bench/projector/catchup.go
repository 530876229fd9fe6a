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

// catchUp has a projector start on a full topic, and a bare loop write the same blocks, in turn.
func (b *bench) catchUp(ctx context.Context) error {
	h := readmodeltest.New(b.Seed, b.Events)
	var projector, bare, ratio, memory []float64
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
		projector, bare, ratio = append(projector, n/p.Seconds()), append(bare, n/l.Seconds()), append(ratio, l.Seconds()/p.Seconds())
		memory = append(memory, float64(peak>>20))
	}
	fmt.Printf("catching up with %d events, median of %d rounds in rotation; every row checked\n", len(h.Records), b.Rounds)
	fmt.Printf("  %-44s %10.0f events/s\n", "bare loop, the same blocks without Kafka", median(bare))
	fmt.Printf("  %-44s %10.0f events/s\n", "projector, started and joined beforehand", median(projector))
	fmt.Printf("  %-44s %10.2f of the bare loop (rounds %.2f)\n", "", median(ratio), ratio)
	fmt.Printf("  %-44s %10.0f MiB (rounds %.0f)\n", "most memory of the projector", median(memory), memory)
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

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
