package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/tests/bench/usage"
)

const (
	blockEvents = 10_000          // the projector's default
	profileSpan = 3 * time.Second // less than it takes to catch up with --events
)

// The table, and a row of it.
const (
	catchingUp   = "catching up"
	projectorRow = "projector, started and joined beforehand"

	catchingUpCPU = "CPU us an event"
)

// cpuOf are those whose CPU time is told, in the order of their columns.
var cpuOf = [3]string{"ClickHouse", "Kafka", "projector"}

// catchUp has a projector start on a full topic, and a bare loop write the same blocks, in turn.
func (b *bench) catchUp(ctx context.Context) error {
	h := readmodeltest.New(b.Seed, b.Events)
	if b.WarmUp {
		if _, err := b.fromTopic(ctx, h); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	for round := range b.Rounds {
		var p caughtUp
		var l time.Duration
		var err error
		run := []func() error{
			func() error { p, err = b.fromTopic(ctx, h); return err },
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
		b.report.Add(catchingUp, projectorRow, "events", "/s", n/p.took.Seconds())
		b.report.Add(catchingUp, projectorRow, "of the bare loop", "", l.Seconds()/p.took.Seconds())
		b.report.Add(catchingUp, projectorRow, "most memory", "MiB", float64(p.memory>>20))
		for i, name := range cpuOf {
			b.report.Add(catchingUpCPU, projectorRow, name, "us", float64(p.cpu[i].Microseconds())/n)
		}
	}
	return nil
}

// caughtUp is what a projector took: as if all events had been written at the rate of what was left at its first rows.
type caughtUp struct {
	took   time.Duration
	cpu    [3]time.Duration // of cpuOf
	memory int64            // the most, in bytes
}

// fromTopic measures from the first row in ClickHouse's log to the last committed offset, so that starting and joining
// the group are not in it. What was written by then counts as one block more.
func (b *bench) fromTopic(ctx context.Context, h *readmodeltest.History) (c caughtUp, err error) {
	s, err := b.newSite(ctx)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	for part := range slices.Chunk(h.Records, blockEvents) {
		if _, err := s.publish(ctx, part); err != nil {
			return c, err
		}
	}
	p, err := s.start(ctx)
	if err != nil {
		return c, err
	}
	var first uint64
	if err := await(ctx, time.Millisecond, func(ctx context.Context) (bool, error) {
		err := s.conn.QueryRow(ctx, "SELECT count() FROM events").Scan(&first)
		return first > 0, err
	}); err != nil {
		return c, err
	}
	if int(first) >= len(h.Records)/2 {
		return c, fmt.Errorf("%d of %d events were written at once: take more events", first, len(h.Records))
	}
	if err := s.theRest(ctx, p, &c); err != nil {
		return c, err
	}
	all := float64(len(h.Records)) / float64(len(h.Records)-int(first))
	c.took = time.Duration(float64(c.took) * all)
	for i := range c.cpu {
		c.cpu[i] = time.Duration(float64(c.cpu[i]) * all)
	}
	c.memory, err = p.stop()
	return c, errors.Join(err, s.check(ctx, h))
}

// theRest measures until all is projected.
func (s *site) theRest(ctx context.Context, p *process, c *caughtUp) error {
	processes := append(slices.Clone(s.servers), usage.Process{Name: "projector", PID: p.cmd.Process.Pid})
	for i, of := range processes {
		used, err := of.CPU()
		if err != nil {
			return err
		}
		c.cpu[i] = -used
	}
	profiled := s.profile(ctx, p)
	start := time.Now()
	if err := s.awaitProjected(ctx); err != nil {
		return err
	}
	c.took = time.Since(start)
	for i, of := range processes {
		used, err := of.CPU()
		if err != nil {
			return err
		}
		c.cpu[i] += used
	}
	return <-profiled
}

// profile writes a CPU profile of the projector, if there is to be one; the channel gets how it went.
func (s *site) profile(ctx context.Context, p *process) <-chan error {
	done := make(chan error, 1)
	if s.Profile == "" {
		done <- nil
		return done
	}
	go func() {
		profile, err := usage.CPUProfile(ctx, p.admin, profileSpan)
		if err == nil {
			err = os.WriteFile(s.Profile, profile, 0o644)
		}
		done <- err
	}()
	return done
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
