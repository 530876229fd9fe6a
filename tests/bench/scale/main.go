// Command scale looks at shapes that no two cores can run, such as 1,000 partitions and 100 allocators:
//
//	go run ./tests/cmd/servers --kafka --long -- go run ./tests/bench/scale
//
// How a group of so many members shares so many partitions is measured, on a real broker, with members that do nothing else.
// How polls thin out, and how many transactions that makes, is simulated: sessions as the allocator's loop has them, with what
// a step costs as flags. Their defaults are assumed, of the order of what the benchmark allocator finds on two quiet cores.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/servers"
)

type flags struct {
	Kafka       []string      `env:"LOTLINE_TEST_KAFKA" help:"Kafka brokers; none: only the simulation." json:"-"`
	Partitions  int           `default:"1000" help:"Of the commands topic."`
	Allocators  int           `default:"100" help:"Processes."`
	Sessions    int           `default:"2" help:"Sessions of each."`
	Rates       []int         `default:"100,1000,10000,50000,100000" help:"Commands a second."`
	Transaction time.Duration `default:"5ms" help:"What a poll's Kafka transaction takes, assumed."`
	Commit      time.Duration `default:"3ms" help:"What a poll's Postgres transaction takes, beside its commands; assumed."`
	Segment     time.Duration `default:"100us" help:"What each partition of a poll takes in it; assumed."`
	Command     time.Duration `default:"45us" help:"What a command takes; assumed."`
	PollMax     int           `default:"10000" help:"Commands of a poll at the most."`
	Span        time.Duration `default:"20s" help:"How long sessions live in the simulation."`
	Seed        uint64        `default:"1" help:"Of when commands come."`
	Results     string        `env:"BENCH_RESULTS" help:"Folder in which scale.json and its plots are kept; empty = none." placeholder:"DIR" json:"-"`
}

// Validate is called by kong.
func (f flags) Validate() error {
	if f.Partitions < 1 || f.Allocators < 1 || f.Sessions < 1 || f.PollMax < 1 || f.Span < time.Second {
		return errors.New("partitions, allocators, sessions and polls must be 1 or more, the span a second")
	}
	for _, rate := range f.Rates {
		if rate < 1 || rate > 1_000_000 {
			return errors.New("rates must be 1 to 1000000")
		}
	}
	return nil
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("scale"), kong.Description("Simulates many partitions and allocators, and measures how their group shares them."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "scale bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	versions := map[string]string{}
	if len(f.Kafka) > 0 {
		versions["kafka"] = servers.KafkaVersion()
	}
	r := report.New("scale", f, versions)
	many := shape{Partitions: f.Partitions, Sessions: f.Allocators * f.Sessions}
	f.model(r, fmt.Sprintf("%d partitions, %d sessions", many.Partitions, many.Sessions), many)
	f.model(r, fmt.Sprintf("%d partitions, as many sessions", many.Sessions), shape{Partitions: many.Sessions, Sessions: many.Sessions})
	f.model(r, "4 partitions, 2 sessions", shape{Partitions: 4, Sessions: 2})
	r.Plots = plots(r)
	if len(f.Kafka) > 0 {
		if err := f.sharing(ctx, r, many); err != nil {
			return fmt.Errorf("share partitions: %w", err)
		}
	}
	return r.Done(os.Stdout, f.Results)
}

const rateRow = "%d commands/s"

// model simulates a shape at each rate.
func (f flags) model(r *report.Report, table string, s shape) {
	c := costs{Transaction: f.Transaction, Commit: f.Commit, Segment: f.Segment, Command: f.Command, PollMax: f.PollMax}
	for _, s.Rate = range f.Rates {
		row, o := fmt.Sprintf(rateRow, s.Rate), simulate(s, c, f.Span, f.Seed)
		r.Add(table, row, "polls", "/s", o.Polls)
		r.Add(table, row, "outbox rows", "/s", o.Segments)
		r.Add(table, row, "commands of a poll", "", o.PerPoll)
		r.Add(table, row, "busy", "%", 100*o.Busy)
		r.Add(table, row, "p50", "ms", report.Milliseconds(o.P50))
		r.Add(table, row, "p99", "ms", report.Milliseconds(o.P99))
		r.Add(table, row, "not kept up with", "%", 100*o.Behind)
	}
}

func plots(r *report.Report) (plots []report.Plot) {
	for i, table := range r.Tables() {
		plots = append(plots, report.Plot{
			Name: fmt.Sprint("polls-", i+1), Title: "Polls and rows of the outbox: " + table, Table: table, Measures: []string{"polls", "outbox rows"},
			Row: rateRow, X: "commands/s", Y: "a second", Steep: true,
		})
	}
	return plots
}

const sharingTable = "a group shares its partitions"

// sharing has members come and go on the broker.
func (f flags) sharing(ctx context.Context, r *report.Report, s shape) (err error) {
	name := "scale" + strings.ToLower(rand.Text()[:12])
	config := kafkaclient.Config{Brokers: f.Kafka, TopicPrefix: name}
	client, err := kgo.NewClient(config.Opts("scale")...)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, int32(s.Partitions), 1, nil, name); err != nil {
		return err
	}
	defer func() {
		_, failed := admin.DeleteTopics(context.WithoutCancel(ctx), name)
		err = errors.Join(err, failed)
	}()
	g := &group{topic: name, name: name, opts: config.Opts("scale"), partitions: s.Partitions, owned: make(map[int]int), changed: make(chan struct{}, 1)}
	row := fmt.Sprintf("%d partitions, %d members", s.Partitions, s.Sessions)
	for _, change := range []struct {
		measure string
		do      func() error
	}{
		{"all come at once", func() error {
			for range s.Sessions {
				if err := g.add(ctx); err != nil {
					return err
				}
			}
			return nil
		}},
		{"another comes", func() error { return g.add(ctx) }},
		{"one leaves", func() error { g.leave(); return nil }},
	} {
		began := time.Now()
		if err := errors.Join(change.do(), g.shared(ctx)); err != nil {
			return errors.Join(err, g.close())
		}
		r.Add(sharingTable, row, change.measure, "s", time.Since(began).Seconds())
	}
	return g.close()
}
