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

// measure has a subject do the work: some that does not count, then some as fast as it can, and in the first round some at a rate.
func (b *bench) measure(ctx context.Context, s *subject, round int) (err error) {
	commands, rate := b.Commands, b.Rate
	if s.slow {
		commands, rate = commands/20, rate/4
	}
	paced := 0
	if round == 0 {
		paced = rate * int(b.Duration.Seconds())
	}
	w := trial.Base(b.SKUs).New(s.warmUp+commands+paced, uint64(round+1))
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
		err = b.drive(ctx, s, site, w, commands, rate)
	}
	if run != nil {
		err = errors.Join(err, run.Stop())
	}
	if err == nil {
		err = site.CheckEvents(ctx, w)
	}
	if err == nil && s.postgres {
		err = site.CheckState(ctx, w)
	}
	if err != nil {
		return fmt.Errorf("%s, round %d: %w", s.name, round+1, err)
	}
	fmt.Fprintf(os.Stderr, "round %d, %s: checked\n", round+1, s.name)
	return nil
}

func (b *bench) drive(ctx context.Context, s *subject, site *trial.Site, w *trial.Work, commands, rate int) error {
	d, err := site.Drive()
	if err != nil {
		return err
	}
	defer d.Close()
	if !s.stocked {
		if _, err := d.Do(ctx, w, w.Setup); err != nil {
			return fmt.Errorf("create batches: %w", err)
		}
	}
	if _, err := d.Do(ctx, w, w.Commands[:s.warmUp]); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if err := b.ground.Exec(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	took, err := d.Do(ctx, w, w.Commands[s.warmUp:s.warmUp+commands])
	if err != nil {
		return err
	}
	b.report.Add(throughput, s.name, "commands", "/s", float64(commands)/took.Seconds())
	if len(w.Commands) == s.warmUp+commands {
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

// ratios says how many times the others' throughput Lotline's is.
func (b *bench) ratios(chosen []*subject) {
	for _, s := range chosen {
		if others := b.report.Value(throughput, s.name, "commands"); len(chosen) > 1 && chosen[0].name == lotline {
			b.report.Add(throughput, s.name, "Lotline's, as a multiple", "", b.report.Value(throughput, lotline, "commands")/others)
		}
	}
}
