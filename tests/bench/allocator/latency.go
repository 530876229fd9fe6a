package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lotline/lotline/tests/bench/trial"
)

// The tables of latencies.
const (
	toEvent = "command to event, open loop"
	toRow   = "command to a row that is read with FINAL, open loop"
	rateRow = "%d/s"
)

// watchedPerSecond is how many commands a second are about the SKU whose rows are watched.
const watchedPerSecond = 100

// latencies measures at each rate how long events take, and then rows, with the projector running too.
func (b *bench) latencies(ctx context.Context) error {
	for _, rate := range b.Rates {
		row := fmt.Sprintf(rateRow, rate)
		if err := b.latency(ctx, rate, row, false); err != nil {
			return fmt.Errorf("command to event at %s: %w", row, err)
		}
		if b.ClickHouse == "" {
			continue
		}
		if err := b.latency(ctx, rate, row, true); err != nil {
			return fmt.Errorf("command to row at %s: %w", row, err)
		}
	}
	return nil
}

// latency has commands come at a rate, and checks what became of them.
func (b *bench) latency(ctx context.Context, rate int, name string, rows bool) (err error) {
	w := trial.Base(b.SKUs).New(rate*int(b.Duration.Seconds()), uint64(rate))
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	measure := func(a *trial.Allocators) error { return b.eventLatency(ctx, site, w, a, rate, name) }
	if rows {
		projector, failed := site.StartProjector(ctx, b.ClickHouse)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, projector.Stop()) }() // once it has projected what is checked
		measure = func(a *trial.Allocators) error { return b.rowLatency(ctx, site, projector, w, a, rate, name) }
	}
	allocators, err := site.StartAllocators(ctx, b.Allocators, b.Sessions, b.allocatorArgs()...)
	if err == nil {
		err = measure(allocators)
	}
	if err = errors.Join(err, allocators.Stop()); err != nil {
		return err
	}
	return site.Check(ctx, w)
}

func (b *bench) eventLatency(ctx context.Context, site *trial.Site, w *trial.Work, allocators *trial.Allocators, rate int, name string) error {
	driver, err := site.Drive()
	if err != nil {
		return err
	}
	defer driver.Close()
	if err := b.setUp(ctx, driver, w, allocators); err != nil {
		return err
	}
	l, err := site.Pace(ctx, driver, w, 0, rate, func(trial.Schedule) {})
	if err != nil {
		return err
	}
	l.Report(b.report, toEvent, name)
	return nil
}

// rowLatency asks ClickHouse, which a projector fills, all the time for the version of one SKU, of which every command
// makes the next.
func (b *bench) rowLatency(ctx context.Context, site *trial.Site, projector *trial.Projector, w *trial.Work, allocators *trial.Allocators, rate int, name string) error {
	driver, err := site.Drive()
	if err != nil {
		return err
	}
	defer driver.Close()
	if err := b.setUp(ctx, driver, w, allocators); err != nil {
		return err
	}
	sku := w.Watch(max(1, rate/watchedPerSecond))
	numbers, version := w.About(sku), uint64(w.Batches)
	if err := projector.AwaitVersion(ctx, sku, version, func(uint64, time.Time) {}); err != nil {
		return err
	}
	var schedule trial.Schedule
	var came []time.Time
	watched := make(chan error, 1)
	_, err = site.Pace(ctx, driver, w, 0, rate, func(begun trial.Schedule) {
		schedule = begun
		go func() {
			watched <- projector.AwaitVersion(ctx, sku, version+uint64(len(numbers)), func(newest uint64, at time.Time) {
				for ; version < newest; version++ {
					came = append(came, at)
				}
			})
		}()
	})
	if err != nil {
		return err
	}
	if err := <-watched; err != nil {
		return err
	}
	schedule.Since(numbers, came).Report(b.report, toRow, name)
	return nil
}
