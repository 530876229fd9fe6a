// Command allocator measures how many commands a second allocators decide and publish, on real servers, and checks
// everything that came out:
//
//	go run ./tests/cmd/servers --postgres --kafka --long -- go run ./tests/bench/allocator
//	go run ./tests/cmd/servers --postgres --kafka --long -- go run ./tests/bench/allocator --only='4 partitions' --rounds=1 --profile=cpu.pprof
//
// A round of a row: commands lie in Kafka, in a transaction that has not ended, so that nobody can read them. It is
// committed; the allocator's processes decide them against Postgres; the time is over when a read_committed consumer has
// the last event. In rotation with it, the ceiling: the same commands by the same decisions and the same SQL, without
// Kafka (services/allocator/internal/ceiling). And once a round the floor: a bare Kafka transaction, a bare Postgres commit.
//
// Then latencies, in an open loop: commands are sent when they are due, at a rate, whether or not anything keeps up, and
// count from then.
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
	"github.com/lotline/lotline/tests/bench/usage"
)

type flags struct {
	trial.Servers `embed:""`
	Only          []string      `help:"Rows to measure, by their names; all if none is given. Other names are refused with a list of them." placeholder:"NAME"`
	Rounds        int           `default:"3" env:"BENCH_ROUNDS" help:"How often each row is measured; 0 leaves rows out."`
	Commands      int           `default:"100000" help:"Commands of a round."`
	SKUs          int           `name:"skus" default:"10000" help:"SKUs of the rows that do not name another number."`
	Allocators    int           `default:"1" help:"Processes; rows of mixed producers have two at the least."`
	Sessions      int           `default:"1" help:"Sessions of each."`
	Connections   int           `name:"postgres-connections" default:"2" help:"Postgres connections of each session; the ceiling has as many in all."`
	AllocatorArg  []string      `sep:"none" help:"Another argument for the allocators, such as --poll-records-max=20000; may be repeated." placeholder:"ARG"`
	Rates         []int         `default:"100,1000,5000,20000" help:"Commands a second at which latencies are measured."`
	Duration      time.Duration `default:"10s" help:"How long at each rate; 0 leaves latencies out, and so does --only."`
	ClickHouse    string        `name:"clickhouse" env:"LOTLINE_TEST_CLICKHOUSE" help:"host:port of ClickHouse's native protocol, for the latency until there is a row; empty leaves that out." json:"-"`
	Lines         []int         `default:"10000,100000,1000000" help:"Order lines that Postgres has, of other SKUs, when the first row is measured again: how does it grow? make 50000000 beforehand, with --seed. None, as of all that follows, with --only."`
	Ascending     bool          `help:"Orders' ids ascend in what is added to those lines, as numbers and UUIDs of version 7 do; otherwise they come in no order, as UUIDs of version 4."`
	SKUCounts     []int         `name:"sku-counts" default:"100,10000,100000" help:"The same, for SKUs; 1000000 are created first, one command each."`
	Cuts          []int         `default:"1,10,100,1000,10000" help:"Lines that one cut of a batch moves."`
	Stages        time.Duration `default:"10s" help:"How long an allocator is profiled, from the first command on, for where its time goes and what it allocates; 0, and --only, leave that out."`
	LiveRounds    int           `default:"1" help:"How often allocators are started, stopped and killed; 0, and --only, leave that out."`
	Seed          []int         `help:"Make databases with so many order lines, for later runs on the same data directory, and end." placeholder:"LINES"`
	WarmUp        int           `default:"20000" help:"Commands of a first round that does not count: the broker's JVM compiles what it does often."`
	FloorTimes    int           `default:"200" help:"Transactions and commits of the floor, in each round; 0 = none."`
	NoCeiling     bool          `help:"Leave the ceiling out."`
	ChunkMax      int           `default:"10000" help:"Commands of one transaction of the ceiling, by default more than an allocator polls: larger ones cost less each."`
	Profile       string        `help:"Write a CPU profile of the first allocator to this file, of ten seconds from the first command; one row and one round only." placeholder:"FILE"`
	Name          string        `default:"allocator" help:"Of the files of results." json:"-"`
	Results       string        `env:"BENCH_RESULTS" help:"Folder in which results are kept; empty = none." placeholder:"DIR" json:"-"`
}

// allocatorArgs are the arguments of every allocator.
func (f flags) allocatorArgs() []string {
	return append([]string{fmt.Sprintf("--postgres-connections=%d", f.Connections)}, f.AllocatorArg...)
}

// Validate is called by kong.
func (f flags) Validate() error {
	if _, err := f.rows(); err != nil {
		return err
	}
	if f.Profile != "" && (f.Rounds != 1 || len(f.Only) != 1) {
		return errors.New("--profile wants one row (--only=NAME) and --rounds=1")
	}
	if f.Rounds < 0 || f.Commands < 1 || f.SKUs < 2 || f.Allocators < 1 || f.Sessions < 1 || f.Connections < 1 || f.ChunkMax < 1 {
		return errors.New("commands, allocators, sessions, connections and chunks must be 1 or more, SKUs 2")
	}
	if f.Stages != 0 && (f.Stages < time.Second || f.Stages > usage.ProfileMax) {
		return fmt.Errorf("--stages must be 1s to %s, or 0", usage.ProfileMax)
	}
	if f.Duration != 0 && f.Duration < time.Second || slices.ContainsFunc(f.Rates, func(rate int) bool { return rate < 1 }) {
		return errors.New("latencies want a second or more at each rate (--duration=0 leaves them out), and rates of 1 or more")
	}
	return nil
}

// rows are those that are asked for.
func (f flags) rows() ([]trial.Row, error) {
	rows := trial.Rows(f.SKUs)
	if len(f.Only) == 0 {
		return rows, nil
	}
	var names, unknown []string
	for _, r := range rows {
		names = append(names, r.Name)
	}
	for _, name := range f.Only {
		if !slices.Contains(names, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("no row is named %s; there are: %s", strings.Join(unknown, ", "), strings.Join(names, "; "))
	}
	return slices.DeleteFunc(rows, func(r trial.Row) bool { return !slices.Contains(f.Only, r.Name) }), nil
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("allocator"), kong.Description("Measures the allocator, its ceiling and its floor, and checks what they did."))
	slog.SetLogLoggerLevel(slog.LevelError)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "allocator bench:", err)
		os.Exit(1)
	}
}

// programs are built for it.
var programs = []string{trial.AllocatorProgram, trial.ProjectorProgram, ceilingProgram}

func run(ctx context.Context, f flags) (err error) {
	ground, err := trial.NewGround(ctx, f.Servers, programs...)
	defer func() { err = errors.Join(err, ground.Close()) }()
	if err != nil {
		return err
	}
	for _, lines := range f.Seed {
		if err := ground.Seed(ctx, lines); err != nil {
			return fmt.Errorf("make %d order lines: %w", lines, err)
		}
	}
	if len(f.Seed) > 0 {
		return nil
	}
	return measure(ctx, f, ground)
}

func measure(ctx context.Context, f flags, ground *trial.Ground) error {
	versions, err := ground.Versions(ctx)
	if err != nil {
		return err
	}
	rows, err := f.rows()
	if err != nil {
		return err
	}
	b := &bench{flags: f, ground: ground, report: report.New(f.Name, f, versions)}
	b.report.Plots = plots()
	if f.WarmUp > 0 {
		if _, err := b.allocate(ctx, trial.Base(f.SKUs).New(f.WarmUp, 0), ""); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	for round := range f.Rounds {
		if err := b.round(ctx, round, rows); err != nil {
			return err
		}
		if f.FloorTimes > 0 {
			if err := b.floor(ctx); err != nil {
				return fmt.Errorf("the floor: %w", err)
			}
		}
	}
	if f.Duration > 0 && len(f.Only) == 0 {
		if err := b.latencies(ctx); err != nil {
			return err
		}
	}
	if len(f.Only) == 0 {
		if err := b.rest(ctx); err != nil {
			return err
		}
	}
	return b.report.Done(os.Stdout, f.Results)
}

// rest is what is measured besides rows and latencies.
func (b *bench) rest(ctx context.Context) error {
	if b.Stages > 0 {
		if err := b.stages(ctx); err != nil {
			return fmt.Errorf("stages: %w", err)
		}
	}
	for range b.LiveRounds {
		if err := b.live(ctx); err != nil {
			return err
		}
	}
	return b.curves(ctx)
}
