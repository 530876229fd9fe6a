package commandlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
	"github.com/lotline/lotline/topics"
)

// Config is what a Worker is told. All fields are required.
type Config struct {
	Topics             topics.Set
	Group              string
	TransactionalID    string // stable over restarts and unique, also with "/2" behind it: its next life settles what this one left open
	Client             []kgo.Opt
	PollRecordsMax     int           // commands decided together at the most, but for a small rest (see restShare)
	SessionTimeout     time.Duration // how long a silent member keeps its partitions
	TransactionTimeout time.Duration // how long the transaction of a dead member blocks its successor
	CommandIDRetention time.Duration // ids older than this are forgotten
	GracePeriod        time.Duration // for finishing the transaction when told to stop
}

// openMax is how long a transaction may be open for Postgres, or for the markers of the last one: the broker ends it after twice that.
func (c *Config) openMax() time.Duration { return c.TransactionTimeout / 2 }

// Worker is one member of the group with two producers. Run must be called once.
type Worker struct {
	config  Config
	lanes   []Lane
	store   *postgres.Store // the first lane's, for all that is not of one partition
	admin   *kadm.Client
	health  *admin.Health
	metrics *Metrics
	tracer  trace.Tracer
	log     *slog.Logger
	name    string         // of this worker in health and logs
	counted apply.Counters // of all lanes, as far as they are in the metrics
}

// Lane is a Postgres connection, and what is decided over it. A partition is of one lane for as long as it is assigned: what is
// known of its SKUs is in that lane's cache. Few commands of several lanes are decided over the connection of one of them, those of
// each with its own cache. Neither may be used by anyone but the worker.
type Lane struct {
	Store   *postgres.Store
	Applier *apply.Applier
}

// New makes a worker with one lane or more. The admin client is its own business.
func New(config Config, lanes []Lane, adm *kadm.Client,
	health *admin.Health, metrics *Metrics, tracer trace.Tracer, log *slog.Logger,
) *Worker {
	return &Worker{
		config: config, lanes: lanes, store: lanes[0].Store, admin: adm, health: health, metrics: metrics, tracer: tracer,
		log: log.With("transactional_id", config.TransactionalID), name: config.TransactionalID,
	}
}

// pauses between sessions that ended by an error: long enough not to spin, short beside a takeover.
const (
	sessionPauseMin = 100 * time.Millisecond
	sessionPauseMax = 5 * time.Second
)

// Run works until ctx ends, and then finishes the open transaction and leaves the group. It returns an error only if
// the configuration cannot work; outages are waited out.
func (w *Worker) Run(ctx context.Context) error {
	w.health.Set(w.name, errors.New("joining the consumer group in Kafka"))
	pause := sessionPauseMin
	for ctx.Err() == nil {
		start := time.Now()
		err := kafkaclient.Explain(w.session(ctx))
		if ctx.Err() != nil {
			break
		}
		if time.Since(start) > time.Minute {
			pause = sessionPauseMin
		}
		w.metrics.sessions.Inc()
		w.health.Set(w.name, fmt.Errorf("joining the consumer group in Kafka again: %w", err))
		w.log.Warn("joining the consumer group again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, sessionPauseMax)
	}
	for _, l := range w.lanes {
		l.Store.Close()
	}
	return nil
}

// forget drops what is cached: it is true only while no commit has an unknown outcome.
func (w *Worker) forget() {
	for _, l := range w.lanes {
		l.Applier.Forget()
	}
}

// session is one membership: it starts from what Kafka and Postgres say, never from what an earlier session
// believed. It ends with the reason why only a fresh start is safe.
func (w *Worker) session(ctx context.Context) error {
	w.forget()
	if err := w.settle(ctx); err != nil {
		return err
	}
	s := &session{Worker: w, parts: make(map[int32]*part), paused: make(map[int32]bool), waits: make(map[int32]*wait), elsewhere: make(map[int32]int64), newest: make(map[int32]time.Time), laneOf: make(map[int32]int), recordsMax: w.config.PollRecordsMax, sinceMax: sinceMax, oneTransactionMax: oneTransactionMax, publishSlow: publishSlow, generation: -1, lostGeneration: -1, stopSettling: func() {}}
	kafka, err := kgo.NewClient(append(slices.Clone(w.config.Client),
		kgo.WithHooks(&s.cuts),
		kgo.ConsumerGroup(w.config.Group),
		kgo.ConsumeTopics(w.config.Topics.Commands.Name),
		kgo.DisableAutoCommit(), // transactions have them
		kgo.SessionTimeout(w.config.SessionTimeout),
		// Nobody has the partitions of a member that left before the others hear of it, with their next heartbeat.
		kgo.HeartbeatInterval(w.config.SessionTimeout/20),
		kgo.RebalanceTimeout(w.config.SessionTimeout),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(fetchMaxBytes),
		// Of several partitions, so that there is something for each lane: by itself a broker fills an answer with what the first has.
		kgo.FetchMaxPartitionBytes(fetchMaxBytes/4),
		// Every position is one that was read: a start at the group's commit only, and no reset, ever. A reset to
		// the start would publish everything again; one to the end would lose commands.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.AdjustFetchOffsetsFn(s.adjust),
	)...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	s.kafka = kafka
	defer s.releaseHalts()
	defer s.setHealth(orderComponent, nil)
	defer kafka.Close()
	if s.groupAddedByOffsets, err = groupAddedByOffsets(ctx, kafka); err != nil {
		return err
	}
	s.producers, err = w.newProducers(ctx, s.groupAddedByOffsets, &s.cuts)
	defer s.producers.close()
	if err != nil {
		return err
	}
	if err := s.checkTopics(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.watchLag(watching) })
	defer watch.Wait()
	defer stop()
	for ctx.Err() == nil {
		if err := s.step(ctx); err != nil {
			return err
		}
	}
	s.trimLast(ctx)
	return nil
}

// checkTopics asks Kafka whether this process may do its work, which it would otherwise find out from the first command.
func (s *session) checkTopics(ctx context.Context) error {
	return kafkaclient.Check(ctx, s.kafka, map[string]kadm.ACLOperation{
		s.config.Topics.Commands.Name: kadm.OpRead, s.config.Topics.Events.Name: kadm.OpWrite, s.config.Topics.DeadLetters.Name: kadm.OpWrite,
	})
}

// batchMaxBytes is the size of a batch that each topic accepts. A dead letter may be a record as large as the client
// would read.
func (w *Worker) batchMaxBytes(topic string) int32 {
	if topic == w.config.Topics.DeadLetters.Name {
		return deadLetterBatchMaxBytes
	}
	return eventBatchMaxBytes
}

// fetchMaxBytes is what is asked of a broker at once. Compressed, commands inflate to five times as much, and are as much again as
// records: more than the two polls that one answer is dealt in would only lie in memory (see hand). Uncompressed, as most producers send
// unless told otherwise, it is some 2,600 commands of 350 bytes. The next answer is taken too if it comes at once (see fetch). A poll may
// stay below PollRecordsMax: then more polls, and transactions, take the same commands.
const fetchMaxBytes = 896 << 10

const (
	eventBatchMaxBytes      = 1 << 20
	deadLetterBatchMaxBytes = 16<<20 + 64<<10 // a record as large as a batch may inflate to, and the headers that say why
)
