// Command readmodels fills the four read models with one made-up history, in rotation, asks them the
// same questions, in rotation, and holds every answer to the history.
//
// Beside them it asks the repository way, as chapter 12 of the book begins with: an order's batches by way of the objects of
// the write model, a query each. It may import the test servers, the stores and the allocator's root, for its migrations.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/servers"
)

type flags struct {
	Events   int           `help:"Events of the history." default:"60000"`
	Block    int           `help:"Events of a block." default:"10000"`
	Together int           `help:"Orders that are asked for in one question, as the gateway gathers them." default:"64"`
	Clients  int           `help:"Questions under way at once." default:"2"`
	Duration time.Duration `help:"How long a store is asked in each round." default:"3s"`
	Rounds   int           `help:"How often each is asked." default:"3" env:"BENCH_ROUNDS"`
	Results  string        `help:"Folder in which readmodels.json is kept; empty = none." env:"BENCH_RESULTS" placeholder:"DIR" json:"-"`
}

func main() {
	servers.Init()
	var f flags
	kong.Parse(&f, kong.Name("readmodels"), kong.Description("Measures the four read models side by side."))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, f, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "readmodels:", err)
		os.Exit(1)
	}
}

// subject is a store that is measured.
type subject struct {
	reader readmodel.Reader
	writer readmodel.Writer                     // nil: filled at once
	bytes  func(context.Context) (int64, error) // of all it keeps

	wrote time.Duration
	took  []time.Duration // each question
}

func run(ctx context.Context, f flags, out io.Writer) error {
	dir, err := os.MkdirTemp("", "lotline-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the servers: %w", err)
	}
	defer os.RemoveAll(dir)
	h, stop, err := start(ctx, dir)
	defer stop()
	if err != nil {
		return err
	}
	records := readmodeltest.New(1, f.Events).Records
	rows := readmodel.Fold(records)
	subjects, err := h.open(ctx, rows)
	if err != nil {
		return err
	}
	for block := range slices.Chunk(records, f.Block) {
		for _, s := range subjects {
			if s.writer == nil {
				continue
			}
			began := time.Now()
			if err := s.writer.Apply(ctx, block); err != nil {
				return fmt.Errorf("fill %s: %w", s.reader.Name(), err)
			}
			s.wrote += time.Since(began)
		}
	}
	want := ordersOf(rows)
	r := report.New("readmodels", f, nil)
	for range f.Rounds {
		for _, s := range subjects {
			rate, err := s.ask(ctx, f, want)
			if err != nil {
				return fmt.Errorf("ask %s: %w", s.reader.Name(), err)
			}
			r.Add(asking, s.reader.Name(), "orders", "/s", rate)
		}
	}
	for _, s := range subjects {
		if err := s.add(ctx, r, len(records)); err != nil {
			return err
		}
	}
	repository, err := h.repositoryWay(ctx, want, f.Duration)
	if err != nil {
		return err
	}
	r.Add(asking, "repository way", "orders", "/s", float64(repository.orders)/repository.took.Seconds())
	r.Add(asking, "repository way", "queries an order", "", float64(repository.queries)/float64(repository.orders))
	return r.Done(out, f.Results)
}

// ordersOf returns the answer for each order that has a line.
func ordersOf(rows readmodel.Rows) map[string][]readmodel.Allocation {
	orders := map[string][]readmodel.Allocation{}
	for _, l := range rows.Lines { // in the order of their keys
		if l.BatchRef != "" {
			orders[l.OrderID] = append(orders[l.OrderID], l.Allocation())
		}
	}
	return orders
}

// ask asks for a while, holds what is answered to want, and returns of how many orders a second.
func (s *subject) ask(ctx context.Context, f flags, want map[string][]readmodel.Allocation) (rate float64, err error) {
	ids := make([]string, 0, len(want))
	for id := range want { // in another order each time
		ids = append(ids, id)
	}
	end := time.Now().Add(f.Duration)
	took := make([][]time.Duration, f.Clients)
	var g errgroup.Group
	for c := range f.Clients {
		g.Go(func() error {
			for i := c * 1000; time.Now().Before(end); i += f.Together {
				keys := make([]string, f.Together)
				for k := range keys {
					keys[k] = ids[(i+k)%len(ids)]
				}
				began := time.Now()
				found, err := s.reader.Orders(ctx, keys)
				if err != nil {
					return err
				}
				took[c] = append(took[c], time.Since(began))
				for _, id := range keys {
					if !slices.Equal(found[id], want[id]) {
						return fmt.Errorf("order %s is %v and should be %v", id, found[id], want[id])
					}
				}
			}
			return nil
		})
	}
	err = g.Wait()
	asked := slices.Concat(took...)
	s.took = append(s.took, asked...)
	return float64(f.Together*len(asked)) / f.Duration.Seconds(), err
}

// The tables of the report.
const (
	filling = "filled with events"
	asking  = "asked where orders are"
)

func (s *subject) add(ctx context.Context, r *report.Report, events int) error {
	size, err := s.bytes(ctx)
	if err != nil {
		return fmt.Errorf("ask how much %s keeps: %w", s.reader.Name(), err)
	}
	if s.writer != nil {
		r.Add(filling, s.reader.Name(), "events", "/s", float64(events)/s.wrote.Seconds())
	}
	r.Add(filling, s.reader.Name(), "kept", "MB", float64(size)/1e6)
	r.AddLatencies(asking, s.reader.Name(), s.took)
	return nil
}

func dataDir(dir, server string) servers.Options {
	return servers.Options{DataDir: filepath.Join(dir, server)}
}
