package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/trial"
)

// The tables of the report.
const (
	throughput = "commands decided and published"
	latency    = "command to event, open loop"
)

type bench struct {
	flags
	ground *trial.Ground
	report *report.Report
}

// measure has a subject do the work: some that does not count, then some as fast as it can, and some at a rate.
func (b *bench) measure(ctx context.Context, s *subject, round int) error {
	commands, rate := b.Commands, b.Rate
	if s.slow {
		commands, rate = commands/20, rate/4
	}
	paced := rate * int(b.Duration.Seconds())
	w := trial.Base(b.SKUs).New(s.warmUp+commands+paced, uint64(round+1))
	err := b.onSite(ctx, s, w, func(site *trial.Site, _ *running) error { return b.drive(ctx, s, site, w, commands, rate) }, func(site *trial.Site) error {
		if err := site.CheckEvents(ctx, w); err != nil || !s.postgres {
			return err
		}
		return site.CheckState(ctx, w)
	})
	if err != nil {
		return fmt.Errorf("%s, round %d: %w", s.name, round+1, err)
	}
	fmt.Fprintf(os.Stderr, "round %d, %s: checked\n", round+1, s.name)
	return nil
}

// warmUp has a subject do its work once before anybody is measured. The broker's JVM compiles what it does often: at a steady rate whoever
// came first waited four times as long for his events as two rounds later, and the others did not.
func (b *bench) warmUp(ctx context.Context, s *subject) error {
	uncounted := *b
	uncounted.report = new(report.Report)
	fmt.Fprintln(os.Stderr, "a round that does not count, for the broker")
	return uncounted.measure(ctx, s, 0)
}

// onSite starts a subject on a site of its own, has it work, stops what runs of it then, and checks what it left there.
func (b *bench) onSite(ctx context.Context, s *subject, w *trial.Work, work func(*trial.Site, *running) error, check func(*trial.Site) error) (err error) {
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if s.stocked {
		if err := site.Stock(ctx, w); err != nil {
			return err
		}
	}
	run, err := s.start(ctx, site)
	if err == nil {
		err = work(site, &run)
	}
	if run != nil {
		err = errors.Join(err, run.Stop())
	}
	if err != nil {
		return err
	}
	return check(site)
}

// warm sends what does not count.
func warm(ctx context.Context, s *subject, d *trial.Driver, w *trial.Work) error {
	if !s.stocked {
		if _, err := d.Do(ctx, w, w.Setup); err != nil {
			return fmt.Errorf("create batches: %w", err)
		}
	}
	if _, err := d.Do(ctx, w, w.Commands[:s.warmUp]); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
}

func (b *bench) drive(ctx context.Context, s *subject, site *trial.Site, w *trial.Work, commands, rate int) error {
	d, err := site.Drive()
	if err != nil {
		return err
	}
	defer d.Close()
	if err := warm(ctx, s, d, w); err != nil {
		return err
	}
	if err := b.ground.Exec(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	took, err := d.Do(ctx, w, w.Commands[s.warmUp:s.warmUp+commands])
	if err != nil {
		return err
	}
	b.report.Add(throughput, s.name, "commands", "/s", float64(commands)/took.Seconds())
	if b.Duration == 0 {
		return nil
	}
	l, err := site.Pace(ctx, d, w, s.warmUp+commands, rate, func(trial.Schedule) {})
	if err != nil {
		return err
	}
	b.report.Add(latency, s.name, "rate", "/s", float64(rate))
	l.Report(b.report, latency, s.name)
	return nil
}

// ratios says how many times the others' throughput Lotline's is, and its latency, where that is at the same rate.
func (b *bench) ratios(chosen []*subject) {
	if len(chosen) == 1 || chosen[0].name != lotline {
		return
	}
	for _, s := range chosen {
		b.report.Add(throughput, s.name, "Lotline's, as a multiple", "", b.report.Value(throughput, lotline, "commands")/b.report.Value(throughput, s.name, "commands"))
		if b.Duration > 0 && !s.slow {
			b.report.Add(latency, s.name, "Lotline's p50, as a multiple", "", b.report.Value(latency, lotline, "p50")/b.report.Value(latency, s.name, "p50"))
		}
	}
}
