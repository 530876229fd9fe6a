// Command rebuild measures how fast `lotline rebuild --from=state` fills a generation, and what that does to the live
// path, on real servers, and checks what came out:
//
//	go run ./tests/cmd/servers --postgres --clickhouse --kafka --long -- go run ./tests/bench/rebuild
//
// Order lines are put into Postgres as allocators would have left them; ClickHouse has none of them. A whole pipeline runs
// and gets commands at a steady rate: how long after a command was acknowledged by Kafka is its row there to be read, before
// the rebuild and meanwhile? It fails if the rebuild did not switch, or if the read model then has other lines, batches
// or SKUs than Postgres.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/trial"
	"github.com/lotline/lotline/tests/servers"
)

type flags struct {
	trial.Servers `embed:""`
	ClickHouse    string        `name:"clickhouse" required:"" env:"LOTLINE_TEST_CLICKHOUSE" help:"host:port of ClickHouse's native protocol." json:"-"`
	Lines         int           `default:"5000000" help:"Order lines to rebuild, a tenth of them deallocated since."`
	Rate          int           `default:"500" help:"Commands a second."`
	Before        time.Duration `default:"15s" help:"How long the live path is measured before the rebuild."`
	Workers       int           `default:"4" help:"Of the rebuild; 4 is its own default."`
	Rounds        int           `default:"3" env:"BENCH_ROUNDS" help:"How often to rebuild, each beside the generation before it."`
	Results       string        `env:"BENCH_RESULTS" help:"Folder in which rebuild.json is kept; empty = none." placeholder:"DIR" json:"-"`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("rebuild"), kong.Description("Measures a rebuild from state, and checks what it made."))
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	var rounds []*rebuilt
	for range f.Rounds {
		done, err := s.round(ctx, live)
		if err != nil {
			return err
		}
		rounds = append(rounds, done)
	}
	if err := live.stop(); err != nil {
		return err
	}
	read, insert, err := s.floor(ctx)
	if err != nil {
		return fmt.Errorf("measure the floor: %w", err)
	}
	version, err := s.clickHouseVersion(ctx)
	if err != nil {
		return err
	}
	r := report.New("rebuild", f, map[string]string{"kafka": servers.KafkaVersion(), "clickhouse": version})
	for _, done := range rounds {
		done.add(r, float64(f.Lines), read, insert)
	}
	if err := s.check(ctx, "%"); err != nil {
		return err
	}
	return r.Done(os.Stdout, f.Results)
}

// round measures the live path, and a rebuild beside it, which it looks at before it ends the generation that is no longer asked.
func (s *site) round(ctx context.Context, live *live) (done *rebuilt, err error) {
	before, err := live.during(ctx, func() error { return pause(ctx, s.Before) })
	if err != nil {
		return nil, err
	}
	var began time.Time
	meanwhile, err := live.during(ctx, func() (err error) {
		began = time.Now()
		done, err = s.rebuild(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	filled := began.Add(time.Duration(done.FillSeconds * float64(time.Second)))
	at, _ := slices.BinarySearchFunc(meanwhile, filled, func(s seen, moment time.Time) int { return s.at.Compare(moment) })
	done.before, done.filling, done.comparing = took(before), took(meanwhile[:at]), took(meanwhile[at:])
	if err := s.check(ctx, "SKU-%"); err != nil { // those of the live path are on their way
		return nil, err
	}
	return done, s.drop(ctx)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
