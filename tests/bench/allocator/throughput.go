package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/trial"
	"github.com/lotline/lotline/tests/bench/usage"
)

// The tables of the report.
const (
	throughput = "throughput"
	cpuTable   = "CPU ms per 1,000 commands"
	memory     = "memory of an allocator"
)

type bench struct {
	flags
	ground *trial.Ground
	report *report.Report
}

// round measures every row once; which of allocator and ceiling comes first alternates.
func (b *bench) round(ctx context.Context, round int, rows []trial.Row) error {
	for i, row := range rows {
		w := row.New(b.Commands, uint64(round+1))
		var rate, ceiling float64
		measures := []func() error{
			func() (err error) { rate, err = b.allocate(ctx, w, row.Name); return err },
			func() (err error) { ceiling, err = b.ceiling(ctx, w); return err },
		}
		if b.NoCeiling {
			measures = measures[:1]
		} else if (round+i)%2 == 1 {
			slices.Reverse(measures)
		}
		for _, measure := range measures {
			if err := measure(); err != nil {
				return fmt.Errorf("%s, round %d: %w", row.Name, round+1, err)
			}
		}
		if !b.NoCeiling {
			b.report.Add(throughput, row.Name, "ceiling", "/s", ceiling)
			b.report.Add(throughput, row.Name, "of the ceiling", "", rate/ceiling)
		}
		fmt.Fprintf(os.Stderr, "round %d, %s: %.0f commands/s, ceiling %.0f; checked\n", round+1, row.Name, rate, ceiling)
	}
	return nil
}

// allocate has allocators do the work, checks what they did, and adds what it took to the report if it has a name.
func (b *bench) allocate(ctx context.Context, w *trial.Work, name string) (rate float64, err error) {
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if w.Lines > 0 {
		if err := site.Fill(ctx, w.Lines); err != nil {
			return 0, fmt.Errorf("fill Postgres: %w", err)
		}
	}
	args := append(b.allocatorArgs(), "--event-content-type="+w.Encoding.String())
	allocators, err := site.StartAllocators(ctx, max(b.Allocators, w.Allocators), b.Sessions, args...)
	if err == nil {
		rate, err = b.measure(ctx, site, w, allocators, name)
	}
	if err = errors.Join(err, allocators.Stop()); err != nil {
		return 0, err
	}
	return rate, errors.Join(site.Check(ctx, w), site.CheckDeadlocks(ctx))
}

func (b *bench) measure(ctx context.Context, site *trial.Site, w *trial.Work, allocators *trial.Allocators, name string) (rate float64, err error) {
	driver, err := site.Drive()
	if err != nil {
		return 0, err
	}
	defer driver.Close()
	atRest, _, err := allocators.Processes()[0].Memory()
	if err != nil {
		return 0, err
	}
	if err := b.setUp(ctx, driver, w, allocators); err != nil {
		return 0, err
	}
	show, err := driver.Send(ctx, w, w.Commands)
	if err != nil {
		return 0, err
	}
	if b.Profile != "" && name != "" {
		profiled := allocators.Profile(ctx, b.Profile)
		defer func() { err = errors.Join(err, <-profiled) }()
	}
	servers, err := b.ground.Processes()
	if err != nil {
		return 0, err
	}
	meter, err := newMeter(append(allocators.Processes(), servers...))
	if err != nil {
		return 0, err
	}
	began, err := show()
	if err != nil {
		return 0, err
	}
	ended, err := driver.Await(ctx, len(w.Commands))
	if err != nil {
		return 0, err
	}
	rate = float64(len(w.Commands)) / ended.Sub(began).Seconds()
	if name == "" {
		return rate, nil
	}
	b.report.Add(throughput, name, "commands", "/s", rate)
	if err := meter.add(b.report, name, len(w.Commands)); err != nil {
		return 0, err
	}
	_, most, err := allocators.Processes()[0].Memory()
	b.report.Add(memory, name, "at rest", "MiB", float64(atRest>>20))
	b.report.Add(memory, name, "at most", "MiB", float64(most>>20))
	return rate, err
}

// setUp sends the batches, and has the allocators forget the SKUs if the work wants it so.
func (b *bench) setUp(ctx context.Context, driver *trial.Driver, w *trial.Work, allocators *trial.Allocators) error {
	if _, err := driver.Do(ctx, w, w.Setup); err != nil {
		return fmt.Errorf("create batches: %w", err)
	}
	if w.Cold {
		if err := allocators.Restart(ctx); err != nil {
			return err
		}
	}
	return b.ground.Exec(ctx, "CHECKPOINT")
}

// meter is what processes, and this one, had used when something began.
type meter struct {
	processes []usage.Process
	used      []time.Duration
	own       time.Duration
}

func newMeter(processes []usage.Process) (*meter, error) {
	m := &meter{processes: processes, own: usage.Own()}
	for _, p := range processes {
		used, err := p.CPU()
		if err != nil {
			return nil, err
		}
		m.used = append(m.used, used)
	}
	return m, nil
}

// add reports what was used since; several processes of one name count together.
func (m *meter) add(r *report.Report, row string, commands int) error {
	by := make(map[string]time.Duration)
	var names []string
	for i, p := range m.processes {
		used, err := p.CPU()
		if err != nil {
			return err
		}
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
		by[p.Name] += used - m.used[i]
	}
	by["driver"] = usage.Own() - m.own
	for _, name := range append(names, "driver") {
		r.Add(cpuTable, row, name, "", by[name].Seconds()*1e6/float64(commands))
	}
	return nil
}
