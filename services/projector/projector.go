// Package projector is the service that keeps the read model: it reads the events topic and writes its rows to
// ClickHouse. This file is wiring only; DESIGN.md says how it works.
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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/topics"

	"github.com/lotline/lotline/services/projector/internal/clickhouse"
	"github.com/lotline/lotline/services/projector/internal/eventlog"
)

// Bounds of what an operator may set.
const (
	blockEventsLimit   = 100_000
	flushIntervalMinMs = 50
	flushIntervalLimit = 5_000
)

// Config is what an operator sets.
type Config struct {
	Kafka              kafkaclient.Config      `embed:"" prefix:"kafka-"`
	ClickHouse         clickhouseclient.Config `embed:"" prefix:"clickhouse-"`
	BlockEventsMax     int                     `help:"Most events written in one block, 1 to 100000." default:"10000" placeholder:"N"`
	FlushIntervalMaxMs int                     `help:"Longest time, in milliseconds, that an event waits for a block to fill, 50 to 5000." default:"500" placeholder:"MS"`
	AdminAddr          string                  `help:"Address (host:port) of /healthz, /readyz and /metrics. Empty: none." default:"127.0.0.1:9102" placeholder:"HOST:PORT"`
}

// DefaultConfig returns the settings that the flags have by default, without an admin listener.
func DefaultConfig() Config {
	return Config{
		Kafka:              kafkaclient.Config{Brokers: []string{"127.0.0.1:9092"}, TopicPrefix: "lotline"},
		ClickHouse:         clickhouseclient.Config{Addrs: []string{"127.0.0.1:9000"}, Database: "lotline", User: "default"},
		BlockEventsMax:     10_000,
		FlushIntervalMaxMs: 500,
	}
}

// Validate names every fault of the configuration, a sentence each.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.ClickHouse.Validate()}
	if c.BlockEventsMax < 1 || c.BlockEventsMax > blockEventsLimit {
		errs = append(errs, fmt.Errorf("the block size %d is not between 1 and %d events", c.BlockEventsMax, blockEventsLimit))
	}
	if c.FlushIntervalMaxMs < flushIntervalMinMs || c.FlushIntervalMaxMs > flushIntervalLimit {
		errs = append(errs, fmt.Errorf("the flush interval %d is not between %d and %d ms", c.FlushIntervalMaxMs, flushIntervalMinMs, flushIntervalLimit))
	}
	if c.AdminAddr != "" {
		if _, _, err := net.SplitHostPort(c.AdminAddr); err != nil {
			errs = append(errs, fmt.Errorf("the admin address %q is not of the form host:port", c.AdminAddr))
		}
	}
	return errors.Join(errs...)
}

// Migrate brings the read model's tables to this build's version, and creates the database if it is missing. It
// may run in several processes at once, and again.
func Migrate(ctx context.Context, cfg clickhouseclient.Config) error {
	return clickhouse.Migrate(ctx, cfg, slog.Default())
}

// Run projects events until ctx ends, and then returns nil. Kafka or ClickHouse being away does not end it.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("projector configuration: %w", err)
	}
	log := slog.Default().With("component", "projector")
	health := new(admin.Health)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	writer, err := clickhouse.NewWriter(cfg.ClickHouse, health, clickhouse.NewMetrics(registry), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return admin.Serve(ctx, cfg.AdminAddr, health, registry) })
	g.Go(func() error {
		if err := writer.Check(ctx); err != nil {
			return ignoreEnd(ctx, err)
		}
		consumer, err := eventlog.New(eventlog.Config{
			Topic:          topics.Declared(cfg.Kafka.TopicPrefix).Events.Name,
			Group:          cfg.Kafka.TopicPrefix + ".projector",
			BlockEventsMax: cfg.BlockEventsMax,
			FlushInterval:  time.Duration(cfg.FlushIntervalMaxMs) * time.Millisecond,
		}, cfg.Kafka.Opts("lotline-projector"), writer, health, eventlog.NewMetrics(registry), log)
		if err != nil {
			return err
		}
		return consumer.Run(ctx)
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
