package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lotline/lotline/tests/bench/trial"
)

const killed = "after a kill -9 in the middle, and a restart half a second later"

// quiet is after how long without an event nothing more is waited for. All groups wait 6 s for a member that died.
const quiet = 45 * time.Second

const dead = 500 * time.Millisecond // between the kill and the restart

const late = 3 * time.Second // for events that come twice, once all are there

var errTooLate = errors.New("all was done before it could be killed")

const killTriesMax = 4

// kill has a subject do the work, kills it when half of the events are there, starts it again, and counts what a
// read_committed consumer has in the end. Who was too quick for that gets twice as much to do.
func (b *bench) kill(ctx context.Context, s *subject, round int) error {
	commands := b.Commands
	if s.slow {
		commands /= 20
	}
	for try := 1; ; try++ {
		err := b.killOf(ctx, s, round, commands)
		if !errors.Is(err, errTooLate) || try == killTriesMax {
			return err
		}
		commands *= 2
	}
}

// killOf is kill with a number of commands.
func (b *bench) killOf(ctx context.Context, s *subject, round, commands int) error {
	w := trial.Base(b.SKUs).New(s.warmUp+commands, uint64(round+1))
	err := b.onSite(ctx, s, w, func(site *trial.Site, run *running) error { return b.killInTheMiddle(ctx, s, site, w, run) },
		func(site *trial.Site) error { return b.tally(ctx, s, site, w) })
	if err != nil {
		return fmt.Errorf("%s, killed: %w", s.name, err)
	}
	return nil
}

// tally counts what a kill left. Only Lotline's events must be whole.
func (b *bench) tally(ctx context.Context, s *subject, site *trial.Site, w *trial.Work) error {
	tally, err := site.TallyEvents(ctx, w)
	if err != nil {
		return err
	}
	if s.name == lotline && tally != (trial.Tally{}) {
		return fmt.Errorf("its events are not those of the commands: %+v", tally)
	}
	if s.postgres {
		if err := site.CheckState(ctx, w); err != nil {
			return err
		}
	}
	b.report.Add(killed, s.name, "commands", "", float64(len(w.Commands)))
	b.report.Add(killed, s.name, "events twice", "", float64(tally.Twice))
	b.report.Add(killed, s.name, "lost", "", float64(tally.Missing))
	b.report.Add(killed, s.name, "wrong", "", float64(tally.Wrong))
	fmt.Fprintf(os.Stderr, "%s, killed: %+v\n", s.name, tally)
	return nil
}

func (b *bench) killInTheMiddle(ctx context.Context, s *subject, site *trial.Site, w *trial.Work, run *running) error {
	d, err := site.Drive()
	if err != nil {
		return err
	}
	defer d.Close()
	if err := warm(ctx, s, d, w); err != nil {
		return err
	}
	show, err := d.Send(ctx, w, w.Commands[s.warmUp:])
	if err != nil {
		return err
	}
	if _, err := show(); err != nil {
		return err
	}
	counted := d.Count(w, s.warmUp)
	all := len(w.Commands) - s.warmUp
	if _, err := counted.Await(ctx, all/2, quiet); err != nil {
		return err
	}
	at := time.Now()
	if err := (*run).Kill(); err != nil {
		return err
	}
	if _, err := counted.Await(ctx, all, dead); err != nil { // what it had published by then
		return err
	}
	if counted.Commands() == all {
		return errTooLate
	}
	if *run, err = s.start(ctx, site); err != nil {
		return err
	}
	last, err := counted.Await(ctx, all, quiet)
	if err != nil {
		return err
	}
	b.report.Add(killed, s.name, "until the last event", "s", last.Sub(at).Seconds())
	_, err = counted.Await(ctx, all+1, late) // never: what comes twice may come after
	return err
}
