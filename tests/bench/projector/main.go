// Command projector measures the way from events to rows, on real servers, and checks what came out:
//
//	go run ./tests/cmd/servers --clickhouse --kafka --long -- go run ./tests/bench/projector
//
// Three questions. How fast does a projector catch up with a full topic, as a share of what the same blocks take when a
// bare loop writes them? How long after its publication is an event a row that can be read, at a steady rate? How
// many parts do the tables have meanwhile, and how much memory does the projector take? The machine is noisy: rounds are
// in rotation, medians are printed, and ratios are of one run.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/usage"
	"github.com/lotline/lotline/tests/servers"
)

type flags struct {
	ClickHouse string        `name:"clickhouse" required:"" env:"LOTLINE_TEST_CLICKHOUSE" help:"host:port of ClickHouse's native protocol." json:"-"`
	Kafka      []string      `required:"" env:"LOTLINE_TEST_KAFKA" help:"Kafka brokers." json:"-"`
	Events     int           `default:"300000" help:"Events to catch up with."`
	WarmUp     bool          `default:"true" negatable:"" help:"Catch up once before it counts: the broker's JVM compiles what it does often."`
	Rounds     int           `default:"3" env:"BENCH_ROUNDS" help:"How often to catch up, in rotation with the bare loop."`
	Rate       int           `default:"1000" help:"Events a second for the latency."`
	Duration   time.Duration `default:"30s" help:"How long to publish at that rate."`
	Seed       uint64        `default:"1" help:"Of the made-up history."`
	Profile    string        `type:"path" help:"Write a CPU profile of a projector that catches up to this file, of three seconds from its first rows on." placeholder:"FILE" json:"-"`
	Results    string        `env:"BENCH_RESULTS" help:"Folder in which projector.json is kept; empty = none." placeholder:"DIR" json:"-"`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("projector"), kong.Description("Measures the projector, and checks what it wrote."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "projector bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	binary, remove, err := buildProjector(ctx)
	if err != nil {
		return err
	}
	defer remove()
	version, err := clickHouseVersion(ctx, f.ClickHouse)
	if err != nil {
		return err
	}
	clickHouse, err := usage.Listening("ClickHouse", f.ClickHouse)
	if err != nil {
		return err
	}
	kafka, err := usage.Listening("Kafka", f.Kafka[0])
	if err != nil {
		return err
	}
	b := bench{flags: f, binary: binary, servers: []usage.Process{clickHouse, kafka}, report: report.New("projector", f, map[string]string{"kafka": servers.KafkaVersion(), "clickhouse": version})}
	if err := b.catchUp(ctx); err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	if err := b.follow(ctx); err != nil {
		return fmt.Errorf("follow a steady rate: %w", err)
	}
	return b.report.Done(os.Stdout, f.Results)
}
