// Package eventlog reads the events topic into blocks and has them written, in the projector's consumer group.
//
// It may import pkg (readmodel is the contract of whom it hands events), schemas and the Kafka client; the service
// root runs it with the read model's writer.
//
// A partition's committed offset says that every event below it is in the read model: it is committed only after
// the store has acknowledged all of them, and never moves back. Everything else may happen twice, since rows are
// known by key and version: after a crash, a rebalance or a lost acknowledgement events are simply read again.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	// QuietPeriod is how long nothing must arrive for a block to be written before it is full or due, and the least
	// FlushIntervalMin.
	QuietPeriod = 50 * time.Millisecond

	// maxBlockBytes bounds the values in a block whatever the number of events.
	maxBlockBytes = 32 << 20
	// fetchMaxBytes bounds what the client holds for a broker beside the blocks, before decompression.
	fetchMaxBytes = 2 << 20
	// sessionTimeout is after how long a dead projector's partitions are given to another.
	sessionTimeout = 10 * time.Second
	// heartbeatInterval bounds how long a projector goes on without knowing that another has left or come, and with it
	// most of a hand-over: nobody has the partitions of one that was stopped until the others hear of it. The client's
	// default is 3 s.
	heartbeatInterval = 300 * time.Millisecond
)

// Config says what to read and how to group it.
type Config struct {
	Topic, Group string
	// BlockEventsMax is the largest number of events in a block, at least 1.
	BlockEventsMax int
	// FlushInterval is how long an event waits for a block to fill, at most, while the writer is free; less if the
	// store is fast. FlushIntervalMin is how long it waits at least, unless the block is full: QuietPeriod to FlushInterval.
	FlushInterval, FlushIntervalMin time.Duration
	// HoleGrace is how long versions of a SKU that were jumped over may take to come over another partition.
	HoleGrace time.Duration
}

// Consumer reads the events topic. Create it with New, call Run once.
type Consumer struct {
	cfg     Config
	client  *kgo.Client
	writer  readmodel.Writer
	owned   *ownership
	metrics *Metrics
	health  *admin.Health
	tracer  trace.Tracer
	log     *slog.Logger

	insertTook atomic.Int64 // by the last block, in ns
	pace       pace         // of write alone
	holes      *holes       // nil if the store has no ledger
	kafka      []kgo.Opt    // for a client that reads events again

	looked readmodel.Aside // the note that was looked at last, of write alone
}

// New returns a consumer that reaches Kafka by opts (addresses, client id, security) and hands its blocks to writer. It
// waits neither for Kafka nor for the store.
func New(cfg Config, opts []kgo.Opt, writer readmodel.Writer, health *admin.Health, metrics *Metrics, tracer trace.Tracer, log *slog.Logger) (*Consumer, error) {
	c := &Consumer{cfg: cfg, kafka: slices.Clone(opts), writer: writer, metrics: metrics, health: health, tracer: tracer, log: log}
	c.owned = newOwnership(cfg.Topic, health, metrics, log)
	if c.ledger() != nil { // what is missing for good has to be noted somewhere
		c.holes = newHoles()
	}
	client, err := kgo.NewClient(append(opts,
		kgo.ConsumerGroup(cfg.Group),
		kgo.ConsumeTopics(cfg.Topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Transaction markers take offsets too; committing past them lets the lag come down to 0.
		kgo.KeepControlRecords(),
		kgo.DisableAutoCommit(),
		// A new group starts with the oldest event; an offset that the log does not have is a fault to look at.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// A poll and the note of who owned its partitions must not be parted by a rebalance.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(c.assigned),
		kgo.OnPartitionsRevoked(c.released),
		kgo.OnPartitionsLost(c.released),
		kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(heartbeatInterval),
		kgo.FetchMaxBytes(fetchMaxBytes),
	)...)
	if err != nil {
		return nil, fmt.Errorf("set up the Kafka client: %w", err)
	}
	c.client = client
	health.Set(component, errors.New("not reached yet"))
	return c, nil
}

// assigned is called by the client at each assignment, also of nothing: it is in the group.
func (c *Consumer) assigned(ctx context.Context, client *kgo.Client, added map[string][]int32) {
	c.health.Set(c.cfg.Group, nil)
	c.forgetVersions(added)
	c.owned.assigned(ctx, client, added)
}

// released is called by the client when partitions go.
func (c *Consumer) released(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
	c.forgetVersions(gone)
	c.owned.released(ctx, client, gone)
}

// forgetVersions forgets what SKUs were at when partitions come or go: of what comes another projector may have read more
// already, and less has been, and will be, read here of what goes.
func (c *Consumer) forgetVersions(changed map[string][]int32) {
	if c.holes != nil && len(changed[c.cfg.Topic]) > 0 {
		c.holes.forget()
	}
}

// Owns reports whether this process has a partition at the moment. It may be called concurrently.
func (c *Consumer) Owns(partition int32) bool { return c.owned.has(partition) }

// Run projects events until ctx ends, and then returns nil after leaving the group. What had been read and not
// written by then is read again by whoever comes next.
func (c *Consumer) Run(ctx context.Context) error {
	defer c.client.CloseAllowingRebalance()

	// Two deliveries exist: while one is written, the other fills. Memory is bounded by that.
	free, ready := make(chan *delivery, 2), make(chan *delivery)
	free <- newDelivery()
	free <- newDelivery()

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return c.fill(running, free, ready) })
	again := make(chan *delivery)
	g.Go(func() error { return c.write(running, ready, again, free) })
	if c.holes != nil {
		g.Go(func() error { return c.mendHoles(running, again) })
	}
	g.Go(func() error { return c.watchLag(running, kadm.NewClient(c.client)) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("project %s: %w", c.cfg.Topic, err)
	}
	return nil
}
