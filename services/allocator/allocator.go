// Package allocator is the service that decides: it reads commands from Kafka, allocates stock in Postgres and
// publishes events, exactly once. DESIGN.md beside this file argues why that holds through every crash.
//
// This package is wiring only: Config, Validate, Run and Migrate. It may import the service's adapters, pkg and, for
// the names in Config, schemas; the command under cmd/, the operator's command (for Migrate) and the tests call it.
package allocator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/commandlog"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
	"github.com/lotline/lotline/topics"
)

// Config is what an operator says about an allocator.
type Config struct {
	Kafka                   kafkaclient.Config `embed:"" prefix:"kafka-"`
	postgresclient.Settings `embed:""`
	InstanceID              string           `help:"Names this process among the allocators, stable over restarts: a restart settles at once what the last life left open. Two processes must not share it. Empty = the host's name." placeholder:"NAME"`
	Sessions                int              `help:"Members of the consumer group in this process; each works alone, with a Kafka transaction at a time." default:"1"`
	PostgresConnections     int              `help:"Postgres connections of each session, over which it decides its partitions side by side." default:"2"`
	PollRecordsMax          int              `help:"Commands decided together at the most, 1 to 100000; up to a third more if those are all that was fetched." default:"10000"`
	ProductsCachedMax       int              `help:"SKUs kept in memory, an equal share for each Postgres connection; the least recently used leave." default:"100000"`
	SegmentBytesMax         int              `help:"Size at which an outbox row is closed and the next one begun." default:"4194304"`
	EventContentType        schemas.Encoding `help:"How events are written: json or protobuf. Both mean the same, and a topic may hold both." default:"json" placeholder:"json|protobuf"`
	CutLinesMax             int              `help:"Order lines that one cut of a batch may move; a larger cut is rejected. Must not change while commands may be replayed." default:"100000"`
	CommandIDRetention      time.Duration    `name:"command-id-retention" help:"How long ids of commands are kept to recognise repeats. Must not change while commands may be replayed." default:"168h"`
	SessionTimeout          time.Duration    `help:"How long the group waits for a silent allocator before others take its partitions over." default:"6s"`
	TransactionTimeout      time.Duration    `help:"How long the Kafka transaction of a dead allocator stays open. Brokers look every 10 s by default, so a successor may wait that much longer." default:"4s"`
	PostgresTimeout         time.Duration    `help:"How long one Postgres transaction may take; one of a frozen allocator blocks its successor no longer than that." default:"10s"`
	GracePeriod             time.Duration    `help:"How long a stop may take to finish the open transaction." default:"10s"`
	AdminAddr               string           `help:"Address (host:port) of health and metrics; empty = none." default:"127.0.0.1:9081" placeholder:"HOST:PORT"`
	AdminProfiles           bool             `help:"Serve Go's CPU and memory profiles there too, under /debug/pprof/. They show the command line."`
	Telemetry               telemetry.Config `embed:""`
}

// DefaultConfig returns the configuration of an allocator that is told nothing.
func DefaultConfig() Config {
	var cfg Config
	if err := kong.ApplyDefaults(&cfg); err != nil {
		panic(err) // a fault in the tags above, which every test would see
	}
	return cfg
}

var instanceID = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,200}$`)

// Validate names every fault of the configuration, a sentence each.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Settings.Validate(), c.Telemetry.Validate()}
	within := func(flag string, value, least, most int) {
		if value < least || value > most {
			errs = append(errs, fmt.Errorf("--%s is %d and must be from %d to %d", flag, value, least, most))
		}
	}
	during := func(flag string, value, least, most time.Duration) {
		if value < least || value > most {
			errs = append(errs, fmt.Errorf("--%s is %s and must be from %s to %s", flag, value, least, most))
		}
	}
	if !instanceID.MatchString(c.InstanceID) {
		errs = append(errs, fmt.Errorf("the instance id %q may have letters, digits, dots, dashes and underscores only, 200 at the most", c.InstanceID))
	}
	if !c.EventContentType.Known() {
		errs = append(errs, errors.New("--event-content-type must be json or protobuf"))
	}
	within("sessions", c.Sessions, 1, 64)
	within("postgres-connections", c.PostgresConnections, 1, 16)
	within("poll-records-max", c.PollRecordsMax, 1, 100_000)
	within("products-cached-max", c.ProductsCachedMax, 1, 100_000_000)
	within("segment-bytes-max", c.SegmentBytesMax, 1, 64<<20)
	within("cut-lines-max", c.CutLinesMax, 1, 1_000_000)
	during("command-id-retention", c.CommandIDRetention, time.Second, 10*365*24*time.Hour)
	during("session-timeout", c.SessionTimeout, time.Second, 10*time.Minute)
	during("transaction-timeout", c.TransactionTimeout, time.Second, 10*time.Minute)
	during("postgres-timeout", c.PostgresTimeout, time.Second, 10*time.Minute)
	during("grace-period", c.GracePeriod, 0, 10*time.Minute)
	return errors.Join(errs...)
}

// Migrate brings the database at url to what this build expects: tables, roles and their rights. Several may call it at
// once. A warning is a sentence for the operator: the tables are there, but roles or rights could not be made.
func Migrate(ctx context.Context, url string) (warning string, err error) {
	warning, err = postgres.Migrate(ctx, url, slog.Default())
	if err != nil {
		return "", fmt.Errorf("migrate the allocator's database: %w", err)
	}
	return warning, nil
}

// Run works until ctx ends, then finishes the open transactions, leaves the group and returns nil. It waits for Kafka
// and Postgres for as long as they are away; the admin endpoint says so.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	pgURL, err := cfg.ConnURL()
	if err != nil {
		return err
	}
	if cfg.InstanceID == "" {
		if cfg.InstanceID, err = os.Hostname(); err != nil {
			return fmt.Errorf("find the host's name for --instance-id: %w", err)
		}
	}
	health := &admin.Health{}
	registry := admin.NewRegistry("allocator", health)
	metrics := commandlog.NewMetrics(registry)
	log := slog.Default().With("component", "allocator")
	tracing, err := telemetry.Start(cfg.Telemetry, telemetry.Process{Service: "allocator", Instance: cfg.InstanceID}, registry, log)
	if err != nil {
		return err
	}
	defer tracing.Close()

	client, err := kgo.NewClient(cfg.Kafka.Opts("lotline-allocator-admin")...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()

	group, ctx := errgroup.WithContext(ctx)
	for slot := range cfg.Sessions {
		worker, err := newWorker(cfg, slot, kadm.NewClient(client), health, metrics, tracing.Tracer(), log)
		if err != nil {
			return err
		}
		group.Go(func() error { return worker.Run(ctx) })
	}
	var more []func(*http.ServeMux)
	if cfg.AdminProfiles {
		more = append(more, admin.Profiles)
	}
	group.Go(func() error { cfg.followMemory(ctx); return nil })
	group.Go(func() error { return admin.Serve(ctx, cfg.AdminAddr, health, registry, more...) })
	log.Info("allocating", "sessions", cfg.Sessions, "instance_id", cfg.InstanceID, "postgres", postgresclient.Redacted(pgURL))
	return group.Wait()
}

func newWorker(cfg Config, slot int, adm *kadm.Client, health *admin.Health, metrics *commandlog.Metrics, tracer trace.Tracer, log *slog.Logger) (*commandlog.Worker, error) {
	declared := topics.Declared(cfg.Kafka.TopicPrefix)
	lanes := make([]commandlog.Lane, cfg.PostgresConnections)
	for i := range lanes {
		store, err := postgres.New(cfg.ConnURL, cfg.PostgresTimeout)
		if err != nil {
			return nil, err
		}
		applier, err := apply.New(store, commandlog.Encoder(declared.Commands.Name, cfg.EventContentType), apply.Limits{
			Limits:            allocation.Limits{CutLinesMax: cfg.CutLinesMax, CommandIDRetention: cfg.CommandIDRetention},
			ProductsCachedMax: max(1, cfg.ProductsCachedMax/cfg.Sessions/cfg.PostgresConnections),
			SegmentBytesMax:   cfg.SegmentBytesMax,
		})
		if err != nil {
			return nil, err
		}
		lanes[i] = commandlog.Lane{Store: store, Applier: applier}
	}
	group := declared.AllocatorGroup
	id := fmt.Sprintf("%s.%s.%d", group, cfg.InstanceID, slot)
	return commandlog.New(commandlog.Config{
		Topics:             declared,
		Group:              group,
		TransactionalID:    id,
		Client:             cfg.Kafka.Opts(id),
		PollRecordsMax:     cfg.PollRecordsMax,
		SessionTimeout:     cfg.SessionTimeout,
		TransactionTimeout: cfg.TransactionTimeout,
		CommandIDRetention: cfg.CommandIDRetention,
		GracePeriod:        cfg.GracePeriod,
	}, lanes, adm, health, metrics, tracer, log), nil
}
