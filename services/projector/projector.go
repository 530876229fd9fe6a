// Package projector is the service that keeps the read model: it reads the events topic and writes its rows to
// ClickHouse, or to another store that --read-model names. This file is wiring only; DESIGN.md says how it works.
//
// cmd/projector runs it as a process, and the development stack and the tests run the same Run. It may import its
// own adapters, topics and pkg.
package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/topics"

	"github.com/lotline/lotline/services/projector/internal/audit"
	"github.com/lotline/lotline/services/projector/internal/eventlog"
)

// auditorsPartition is the partition of the events whose owner audits: one of several projectors.
const auditorsPartition = 0

// holeGrace is how long versions of a SKU that were jumped over may take to come over another partition.
const holeGrace = 5 * time.Second

// Config is what an operator sets.
type Config struct {
	Kafka            kafkaclient.Config `embed:"" prefix:"kafka-"`
	stores.Config    `embed:""`
	BlockEventsMax   int              `help:"Most events written in one block, 1 to 100000." default:"10000" placeholder:"N"`
	FlushIntervalMax time.Duration    `help:"Longest time that an event waits for a block to fill, 50ms to 5s; less while the store is fast." default:"500ms"`
	FlushIntervalMin time.Duration    `help:"Shortest time that an event waits for a block to fill, 50ms to --flush-interval-max. Longer: fewer and larger blocks, which cost the store less, and events are seen later." default:"50ms"`
	Postgres         writeSide        `embed:""`
	AuditInterval    time.Duration    `help:"Pause between two steps of the audit, 1s to 1h." default:"10s"`
	AuditRowsMax     int              `help:"Most SKUs, and most order lines, compared in a step of the audit, 1 to 10000." default:"500" placeholder:"N"`
	AdminAddr        string           `help:"Address (host:port) of health and metrics; empty = none." default:"127.0.0.1:9082" placeholder:"HOST:PORT"`
	AdminProfiles    bool             `help:"Serve Go's CPU and memory profiles there too, under /debug/pprof/. They show the command line."`
	Telemetry        telemetry.Config `embed:""`
}

// writeSide says where Postgres is, for the audit. Unlike for others it may be left out, and that is the default.
type writeSide struct {
	PostgresURL          string `name:"postgres-url" help:"Where the write side's state is: a postgres:// URL without a password, of a user of lotline_bi. With it the read model is audited: held against Postgres, a few rows at a time, for ever. Empty = no audit." placeholder:"URL"`
	PostgresURLFile      string `name:"postgres-url-file" help:"File that holds the Postgres URL; overrides --postgres-url." placeholder:"PATH"`
	PostgresPasswordFile string `name:"postgres-password-file" help:"File with the user's password; empty = the one in the URL, or in the variable LOTLINE_POSTGRES_PASSWORD, or in PGPASSFILE." placeholder:"PATH"`
}

func (w writeSide) given() bool { return w.PostgresURL != "" || w.PostgresURLFile != "" }

// DefaultConfig returns the configuration of a projector that is told nothing.
func DefaultConfig() Config {
	var cfg Config
	if err := kong.ApplyDefaults(&cfg); err != nil {
		panic(err) // a fault in the tags above, which every test would see
	}
	return cfg
}

// Validate names every fault of the configuration, a sentence each.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.CheckKept(), c.Telemetry.Validate()}
	if c.BlockEventsMax < 1 || c.BlockEventsMax > 100_000 {
		errs = append(errs, fmt.Errorf("--block-events-max is %d and must be from 1 to 100000", c.BlockEventsMax))
	}
	if c.FlushIntervalMax < 50*time.Millisecond || c.FlushIntervalMax > 5*time.Second {
		errs = append(errs, fmt.Errorf("--flush-interval-max is %s and must be from 50ms to 5s", c.FlushIntervalMax))
	}
	if c.FlushIntervalMin < eventlog.QuietPeriod || c.FlushIntervalMin > c.FlushIntervalMax {
		errs = append(errs, fmt.Errorf("--flush-interval-min is %s and must be from %s to --flush-interval-max", c.FlushIntervalMin, eventlog.QuietPeriod))
	}
	if c.Postgres.given() {
		errs = append(errs, postgresclient.Settings(c.Postgres).Validate())
	}
	if c.AuditInterval < time.Second || c.AuditInterval > time.Hour {
		errs = append(errs, fmt.Errorf("--audit-interval is %s and must be from 1s to 1h", c.AuditInterval))
	}
	if c.AuditRowsMax < 1 || c.AuditRowsMax > 10_000 {
		errs = append(errs, fmt.Errorf("--audit-rows-max is %d and must be from 1 to 10000", c.AuditRowsMax))
	}
	if c.AdminAddr != "" {
		if _, _, err := net.SplitHostPort(c.AdminAddr); err != nil {
			errs = append(errs, fmt.Errorf("--admin-addr is %q and must be of the form host:port", c.AdminAddr))
		}
	}
	return errors.Join(errs...)
}

// Migrate brings the chosen read model to this build's version, and creates its database or schema if it is missing. It
// may run in several processes at once, and again. A warning is a sentence for the operator: the tables are there, but
// not all rights.
func Migrate(ctx context.Context, cfg stores.MigrateConfig) (warning string, err error) {
	return cfg.Migrate(ctx, slog.Default())
}

// Run projects events until ctx ends, and then returns nil. Kafka or the read model being away does not end it.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("projector configuration: %w", err)
	}
	log := slog.Default().With("component", "projector")
	health := new(admin.Health)
	registry := admin.NewRegistry("projector", health)
	tracing, err := telemetry.Start(cfg.Telemetry, telemetry.Process{Service: "projector"}, registry, log)
	if err != nil {
		return err
	}
	defer tracing.Close()

	writer, err := cfg.NewWriter()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	health.Set(writer.Name(), errors.New("not reached yet"))
	audits := audit.NewMetrics(registry)

	g, ctx := errgroup.WithContext(ctx)
	var more []func(*http.ServeMux)
	if cfg.AdminProfiles {
		more = append(more, admin.Profiles)
	}
	g.Go(func() error { return admin.Serve(ctx, cfg.AdminAddr, health, registry, more...) })
	g.Go(func() error {
		if err := fault.Retry(ctx, log, "find the read model in "+writer.Name(), func(ctx context.Context) error {
			err := writer.Check(ctx)
			health.Set(writer.Name(), err)
			return err
		}); err != nil {
			return ignoreEnd(ctx, err)
		}
		declared := topics.Declared(cfg.Kafka.TopicPrefix)
		consumer, err := eventlog.New(eventlog.Config{
			Topic:            declared.Events.Name,
			Group:            declared.ProjectorGroupOf(writer.Name()),
			BlockEventsMax:   cfg.BlockEventsMax,
			FlushInterval:    cfg.FlushIntervalMax,
			FlushIntervalMin: cfg.FlushIntervalMin,
			HoleGrace:        holeGrace,
		}, cfg.Kafka.Opts("lotline-projector"), writer, health, eventlog.NewMetrics(registry), tracing.Tracer(), log)
		if err != nil {
			return err
		}
		if !cfg.Postgres.given() {
			return consumer.Run(ctx)
		}
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() error { return consumer.Run(ctx) })
		both.Go(func() error {
			return audit.Run(ctx, audit.Config{
				Topic: declared.Events.Name, Group: declared.ProjectorGroupOf(writer.Name()),
				Interval: cfg.AuditInterval, RowsMax: cfg.AuditRowsMax,
				Postgres: postgresclient.Settings(cfg.Postgres), ReadModel: cfg.Config,
				Mine: func() bool { return consumer.Owns(auditorsPartition) },
			}, cfg.Kafka.Opts("lotline-projector"), audits, log)
		})
		return both.Wait()
	})
	return g.Wait()
}

// ignoreEnd returns err, unless it only says that ctx has ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
