package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/trial"
)

const (
	lives     = "lives of allocators"
	livesRate = 500             // commands a second meanwhile
	lifeAfter = 2 * time.Second // something happens to one of them
	// lifeTakes is how long commands come. A takeover after a kill waits for the session timeout, 6 s by default.
	lifeTakes = 14 * time.Second
)

// live measures how long an allocator takes to begin, and how long commands wait while one of two ends, or another comes.
func (b *bench) live(ctx context.Context) error {
	if err := b.beginning(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, change := range []struct {
		name  string
		count int // of those that are there before
		do    func(context.Context, *trial.Allocators) error
	}{
		{"one of two is killed (kill -9)", 2, func(_ context.Context, a *trial.Allocators) error { return a.KillLast() }},
		{"one of two is stopped (SIGTERM)", 2, func(_ context.Context, a *trial.Allocators) error { return a.StopLast() }},
		{"another comes to one", 1, func(ctx context.Context, a *trial.Allocators) error { return a.AddOne(ctx) }},
	} {
		if err := b.change(ctx, change.name, change.count, change.do); err != nil {
			return fmt.Errorf("%s: %w", change.name, err)
		}
	}
	return nil
}

// beginning measures from the start of the process, while a command waits for it.
func (b *bench) beginning(ctx context.Context) (err error) {
	w := trial.Base(b.SKUs).New(1, 1)
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	driver, err := site.Drive()
	if err != nil {
		return err
	}
	defer driver.Close()
	allocators, err := site.StartAllocators(ctx, 1, b.Sessions, b.allocatorArgs()...)
	if err == nil {
		err = b.setUp(ctx, driver, w, allocators)
	}
	if err = errors.Join(err, allocators.Stop()); err != nil {
		return err
	}
	show, err := driver.Send(ctx, w, w.Commands)
	if err != nil {
		return err
	}
	if _, err := show(); err != nil {
		return err
	}
	var event time.Time
	came := make(chan error, 1)
	began := time.Now()
	go func() {
		var err error
		event, err = driver.Await(ctx, 1)
		came <- err
	}()
	allocators, err = site.StartAllocators(ctx, 1, b.Sessions, b.allocatorArgs()...)
	if err == nil {
		err = allocators.AwaitReady(ctx)
	}
	ready := time.Now()
	if err = errors.Join(err, <-came, allocators.Stop()); err != nil {
		return err
	}
	b.report.Add(lives, "started", "until ready", "ms", report.Milliseconds(ready.Sub(began)))
	b.report.Add(lives, "started", "until the event of a command that waits", "ms", report.Milliseconds(event.Sub(began)))
	return site.Check(ctx, w)
}

// change does something to allocators under a steady load.
func (b *bench) change(ctx context.Context, name string, count int, do func(context.Context, *trial.Allocators) error) (err error) {
	w := trial.Base(b.SKUs).New(livesRate*int(lifeTakes.Seconds()), 1)
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	allocators, err := site.StartAllocators(ctx, count, b.Sessions, b.allocatorArgs()...)
	if err == nil {
		err = b.changeUnderLoad(ctx, site, w, allocators, name, do)
	}
	if err = errors.Join(err, allocators.Stop()); err != nil {
		return err
	}
	return site.Check(ctx, w)
}

func (b *bench) changeUnderLoad(ctx context.Context, site *trial.Site, w *trial.Work, a *trial.Allocators, name string, do func(context.Context, *trial.Allocators) error) error {
	driver, err := site.Drive()
	if err != nil {
		return err
	}
	defer driver.Close()
	if err := b.setUp(ctx, driver, w, a); err != nil {
		return err
	}
	done := make(chan error, 1)
	l, err := site.Pace(ctx, driver, w, 0, livesRate, func(s trial.Schedule) {
		go func() {
			time.Sleep(time.Until(s.Start.Add(lifeAfter)))
			done <- do(ctx, a)
		}()
	})
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	b.report.Add(lives, name, "the longest that a command waited", "ms", report.Milliseconds(report.At(l.Took, 1)))
	b.report.Add(lives, name, "waited over a second", "%", 100*l.Over(time.Second))
	return nil
}
