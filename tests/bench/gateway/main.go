// Command gateway measures the gateway on real servers, beside the questions and the database that it stands in front of,
// and checks every answer:
//
//	go run ./tests/cmd/servers --postgres --clickhouse --kafka --long -- go run ./tests/bench/gateway
//
// Requests come when they are due, whether or not earlier ones were answered, and latencies count from then; only for the most
// that there is, each connection asks again at once. The client runs on the same machine and takes its share: take ratios,
// which are of one run, in rounds and by medians.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/bench/trial"
)

type flags struct {
	trial.Servers `embed:""`
	ClickHouse    string        `name:"clickhouse" required:"" env:"LOTLINE_TEST_CLICKHOUSE" help:"host:port of ClickHouse's native protocol." json:"-"`
	Lines         int           `default:"1000000" help:"Order lines that are asked for."`
	SKUs          int           `name:"skus" default:"100000" help:"SKUs whose availability is asked for."`
	Events        int           `default:"2000" help:"Events a second that change them meanwhile."`
	Connections   int           `default:"128" help:"Of clients that ask."`
	Writers       int           `default:"256" help:"Of clients that allocate."`
	Duration      time.Duration `default:"5s" help:"How long each measurement takes."`
	Warm          time.Duration `default:"3m" help:"How long things run before the first measurement: the cache fills, and the broker's JVM compiles."`
	Rounds        int           `default:"3" env:"BENCH_ROUNDS" help:"How often those are taken that are compared with each other."`
	CPU           bool          `help:"Say what CPU time an answer took, by process."`
	Profile       string        `help:"Directory (made) for a CPU profile of the gateway during each measurement; see go tool pprof." placeholder:"DIR"`
	AllocatorArg  []string      `sep:"none" help:"Another argument for the allocator, such as --sessions=1; may be repeated." placeholder:"ARG"`
	ProjectorArg  []string      `sep:"none" default:"--flush-interval-min=500ms" help:"Argument of the projector (several times). The default spares ClickHouse, which shares the machine with those that ask."`
	Results       string        `env:"BENCH_RESULTS" help:"Folder in which gateway.json is kept; empty = none." placeholder:"DIR" json:"-"`
	Only          string        `enum:",allocations,availability,allocate,memory" default:"" help:"Measure one of: allocations, availability, allocate, memory."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("gateway"), kong.Description("Measures the gateway, and checks its answers."))
	slog.SetLogLoggerLevel(slog.LevelError)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "gateway bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (err error) {
	s, err := newSite(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"allocations", s.allocations}, {"availability", s.availability}, {"memory", s.memory}, {"allocate", s.allocate}} {
		if f.Only != "" && f.Only != part.name {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: measured, every answer checked\n", part.name)
	}
	return s.report.Done(os.Stdout, f.Results)
}
