package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/lotline/lotline/tests/bench/trial"
)

// The rows of curves, which plots know by their names.
const (
	linesRow = "%d order lines"
	skusRow  = "%d SKUs"
	cutting  = "one cut of a batch"
	cutRow   = "moves %d lines"
)

// curves measures the first row with more order lines in Postgres, and with other numbers of SKUs, and cuts that move more and
// more lines.
func (b *bench) curves(ctx context.Context) error {
	for _, lines := range b.Lines {
		row := trial.Base(b.SKUs)
		row.Lines, row.Ascending = lines, b.Ascending
		if err := b.grown(ctx, row, fmt.Sprintf(linesRow, lines)); err != nil {
			return err
		}
	}
	for _, skus := range b.SKUCounts {
		if err := b.grown(ctx, trial.Base(skus), fmt.Sprintf(skusRow, skus)); err != nil {
			return err
		}
	}
	if len(b.Cuts) == 0 {
		return nil
	}
	return b.cuts(ctx)
}

func (b *bench) grown(ctx context.Context, row trial.Row, name string) error {
	row.Name = name
	// Orders of its own, each time: those of an earlier run in the same database were deleted, and finding each of them takes time.
	rate, err := b.allocate(ctx, row.New(b.Commands, rand.Uint64()), name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(os.Stderr, "%s: %.0f commands/s; checked\n", name, rate)
	return nil
}

// cuts allocates lines to a batch, and takes all of it away at once: each line is deallocated and finds a place in another.
func (b *bench) cuts(ctx context.Context) (err error) {
	site, err := b.ground.NewSite(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	allocators, err := site.StartAllocators(ctx, b.Allocators, b.Sessions, b.allocatorArgs()...)
	if err == nil {
		err = b.cut(ctx, site)
	}
	if err = errors.Join(err, allocators.Stop()); err != nil {
		return fmt.Errorf("cuts: %w", err)
	}
	return site.CheckLog(ctx)
}

func (b *bench) cut(ctx context.Context, site *trial.Site) error {
	driver, err := site.Drive()
	if err != nil {
		return err
	}
	defer driver.Close()
	for _, lines := range b.Cuts {
		setup, cut := trial.CutOf(lines)
		w := &trial.Work{}
		if _, err := driver.Do(ctx, w, setup); err != nil {
			return err
		}
		show, err := driver.Send(ctx, w, []trial.Command{cut})
		if err != nil {
			return err
		}
		began, err := show()
		if err != nil {
			return err
		}
		ended, err := driver.Await(ctx, 1+2*lines) // the cut, and of each line that it left one batch and is in another
		if err != nil {
			return err
		}
		took := float64(ended.Sub(began).Microseconds())
		row := fmt.Sprintf(cutRow, lines)
		b.report.Add(cutting, row, "took", "ms", took/1000)
		b.report.Add(cutting, row, "a line", "us", took/float64(lines))
	}
	return nil
}
