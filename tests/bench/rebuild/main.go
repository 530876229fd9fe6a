// Command rebuild measures how fast `lotline rebuild --from=state` fills a generation, and what that does to the live
// path, on real servers, and checks what came out:
//
//	go run ./tests/cmd/servers --postgres --clickhouse --kafka -- go run ./tests/bench/rebuild
//
// Order lines are put into Postgres as allocators would have left them; ClickHouse has none of them. A whole pipeline runs
// and gets commands at a steady rate: how long after a command was acknowledged by Kafka is its row there to be read, before
// the rebuild and meanwhile? It fails if the rebuild did not switch, or if the read model then has other lines than Postgres.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"
)

type flags struct {
	ClickHouse string        `required:"" env:"LOTLINE_TEST_CLICKHOUSE" help:"host:port of ClickHouse's native protocol."`
	Kafka      []string      `required:"" env:"LOTLINE_TEST_KAFKA" help:"Kafka brokers."`
	Postgres   string        `required:"" env:"LOTLINE_TEST_POSTGRES" help:"URL of a superuser of Postgres."`
	Lines      int           `default:"5000000" help:"Order lines to rebuild, a tenth of them deallocated since."`
	Rate       int           `default:"500" help:"Commands a second."`
	Before     time.Duration `default:"15s" help:"How long the live path is measured before the rebuild."`
	Workers    int           `default:"2" help:"Of the rebuild."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Description("Measures a rebuild from state, and checks what it made."))
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "rebuild bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (err error) {
	s, err := newSite(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = s.close(err) }()
	if err := s.fill(ctx); err != nil {
		return fmt.Errorf("fill Postgres: %w", err)
	}
	live, err := s.follow(ctx)
	if err != nil {
		return fmt.Errorf("send commands: %w", err)
	}
	before, err := live.during(ctx, func() error { return pause(ctx, f.Before) })
	if err != nil {
		return err
	}
	var report *report
	meanwhile, err := live.during(ctx, func() (err error) {
		report, err = s.rebuild(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := live.stop(); err != nil {
		return err
	}
	read, insert, err := s.floor(ctx)
	if err != nil {
		return fmt.Errorf("measure the floor: %w", err)
	}
	report.print(f, read, insert)
	growth := before.at(0.99).Seconds()
	growth = meanwhile.at(0.99).Seconds() / growth
	fmt.Printf("live path at %d commands/s: from Kafka's acknowledgement to a row that is read with FINAL\n", f.Rate)
	for _, part := range []struct {
		name string
		of   latencies
	}{{"before", before}, {"meanwhile", meanwhile}} {
		fmt.Printf("  %-52s p50 %5.0f ms, p99 %5.0f ms, most %5.0f ms (%d looked at)\n", part.name,
			ms(part.of.at(0.5)), ms(part.of.at(0.99)), ms(part.of.at(1)), len(part.of))
	}
	fmt.Printf("  %-52s %10.2f\n", "p99 meanwhile, as a multiple of before", growth)
	return s.check(ctx)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
