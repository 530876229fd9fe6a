// Command peers measures the allocator beside what else could do its work, on the same servers, in rotation, and checks the
// answers of each:
//
//	go run ./tests/cmd/servers --postgres --kafka --long -- go run ./tests/bench/peers
//
// Each reads the same commands and publishes the same events, one a command. By hand and Watermill allocate in Postgres, in the
// allocator's own tables; Kafka Streams keeps its state in RocksDB and in Kafka. Each has as many commands as it does in a few
// seconds, and before that some that do not count: the group is formed, and JVMs have compiled what they do often.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/trial"
)

type flags struct {
	trial.Servers `embed:""`
	Only          []string      `help:"Whom to measure, by their names; all if none is given. Other names are refused with a list of them." placeholder:"NAME"`
	Rounds        int           `default:"3" env:"BENCH_ROUNDS" help:"How often each is measured; 0 only kills."`
	Commands      int           `default:"100000" help:"Commands of a round, for those who are fast; those with a transaction a command have a twentieth."`
	SKUs          int           `name:"skus" default:"10000" help:"SKUs."`
	Rate          int           `default:"1000" help:"Commands a second at which latency is measured, of those who are fast; the others have a quarter."`
	Duration      time.Duration `default:"10s" help:"How long, in each round; 0 leaves latency out."`
	Kills         int           `default:"1" help:"How often each is killed in the middle of a round of its own, and started again."`
	Name          string        `default:"peers" help:"Of the files of results." json:"-"`
	Results       string        `env:"BENCH_RESULTS" help:"Folder in which results are kept; empty = none." placeholder:"DIR" json:"-"`
}

// Validate is called by kong.
func (f flags) Validate() error {
	var names []string
	for _, s := range subjects(f) {
		names = append(names, s.name)
	}
	for _, name := range f.Only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("nobody is named %s; there are: %s", name, strings.Join(names, "; "))
		}
	}
	if f.Rounds < 0 || f.Commands < 20 || f.SKUs < 1 || f.Rate < 4 {
		return errors.New("SKUs must be 1 or more, commands 20, the rate 4")
	}
	if f.Duration != 0 && f.Duration < time.Second {
		return errors.New("latency wants a second or more (--duration=0 leaves it out)")
	}
	return nil
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("peers"), kong.Description("Measures the allocator beside other ways to do its work, and checks what each did."))
	slog.SetLogLoggerLevel(slog.LevelError)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "peers bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (err error) {
	chosen := slices.DeleteFunc(subjects(f), func(s *subject) bool { return len(f.Only) > 0 && !slices.Contains(f.Only, s.name) })
	ground, err := trial.NewGround(ctx, f.Servers, trial.AllocatorProgram, "tests/bench/peers/byhand")
	defer func() { err = errors.Join(err, ground.Close()) }()
	if err != nil {
		return err
	}
	for _, s := range chosen {
		if s.build == nil {
			continue
		}
		if err := s.build(ctx, ground); err != nil {
			return fmt.Errorf("build %s: %w", s.name, err)
		}
	}
	versions, err := ground.Versions(ctx)
	if err != nil {
		return err
	}
	b := &bench{flags: f, ground: ground, report: report.New(f.Name, f, versions)}
	b.report.Plots = []report.Plot{{Name: "throughput", Title: "The same work, done otherwise", Table: throughput, Measures: []string{"commands"}, Y: "commands/s"}}
	if f.Rounds > 1 { // one is for a look
		if err := b.warmUp(ctx, chosen[0]); err != nil {
			return err
		}
	}
	for round := range f.Rounds {
		for i := range chosen { // another one is first each time
			if err := b.measure(ctx, chosen[(i+round)%len(chosen)], round); err != nil {
				return err
			}
		}
	}
	if f.Rounds > 0 {
		b.ratios(chosen)
	}
	for round := range f.Kills {
		for _, s := range chosen {
			if err := b.kill(ctx, s, round); err != nil {
				return err
			}
		}
	}
	return b.report.Done(os.Stdout, f.Results)
}
