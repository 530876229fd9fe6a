// Command readmodels is `make bench`: it fills the four read models with one made-up history, in rotation, asks them the
// same questions, in rotation, holds every answer to the history, and prints a table.
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
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/tests/servers"
)

type flags struct {
	Events   int           `help:"Events of the history." default:"60000"`
	Block    int           `help:"Events of a block." default:"10000"`
	Together int           `help:"Orders that are asked for in one question, as the gateway gathers them." default:"64"`
	Clients  int           `help:"Questions under way at once." default:"2"`
	Round    time.Duration `help:"How long a store is asked in each of three rounds." default:"3s"`
}

const rounds = 3

func main() {
	servers.Init()
	var f flags
	kong.Parse(&f, kong.Name("readmodels"), kong.Description("Measures the four read models side by side."))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
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
	keys  int
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
	for range rounds {
		for _, s := range subjects {
			if err := s.ask(ctx, f, want); err != nil {
				return fmt.Errorf("ask %s: %w", s.reader.Name(), err)
			}
		}
	}
	repository, err := h.repositoryWay(ctx, want, f.Round)
	if err != nil {
		return err
	}
	return report(ctx, out, f, len(records), len(want), subjects, repository)
}

// ordersOf returns the answer for each order that has a line.
func ordersOf(rows readmodel.Rows) map[string][]readmodel.Line {
	orders := map[string][]readmodel.Line{}
	for _, l := range rows.Lines { // in the order of their keys
		if l.BatchRef != "" {
			orders[l.OrderID] = append(orders[l.OrderID], l.Line)
		}
	}
	return orders
}

// ask asks for a while, and holds what is answered to want.
func (s *subject) ask(ctx context.Context, f flags, want map[string][]readmodel.Line) error {
	ids := make([]string, 0, len(want))
	for id := range want { // in another order each time
		ids = append(ids, id)
	}
	end := time.Now().Add(f.Round)
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
	err := g.Wait()
	s.took = append(s.took, slices.Concat(took...)...)
	s.keys = f.Together * len(s.took)
	return err
}

func report(ctx context.Context, out io.Writer, f flags, events, orders int, subjects []*subject, r repository) error {
	fmt.Fprintf(out, "%d events in blocks of %d; %d orders, asked for %d at a time, %d questions at once; all answers held to the history\n\n",
		events, f.Block, orders, f.Together, f.Clients)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "store\tevents/s in\torders/s out\tp50 of a question\tp99\tMB kept")
	for _, s := range subjects {
		size, err := s.bytes(ctx)
		if err != nil {
			return fmt.Errorf("ask how much %s keeps: %w", s.reader.Name(), err)
		}
		in := "-"
		if s.writer != nil {
			in = fmt.Sprintf("%.0f", float64(events)/s.wrote.Seconds())
		}
		slices.Sort(s.took)
		fmt.Fprintf(table, "%s\t%s\t%.0f\t%s\t%s\t%.1f\n", s.reader.Name(), in, float64(s.keys)/(rounds*f.Round.Seconds()),
			s.took[len(s.took)/2].Round(10*time.Microsecond), s.took[len(s.took)*99/100].Round(10*time.Microsecond), float64(size)/1e6)
	}
	fmt.Fprintf(table, "repository way\t-\t%.0f\t\t\t%.1f queries an order\n", float64(r.orders)/r.took.Seconds(), float64(r.queries)/float64(r.orders))
	return table.Flush()
}

func dataDir(dir, server string) servers.Options {
	return servers.Options{DataDir: filepath.Join(dir, server)}
}
