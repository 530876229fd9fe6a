package submit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// partitionsInterval is how often new partitions are looked for. Until one is
	// found, outcomes on it are not seen, and their waiters get "pending".
	partitionsInterval = 30 * time.Second
	partitionsTimeout  = 2 * time.Second
	pollRecordsMax     = 10_000
	warnInterval       = 10 * time.Second
)

// Listener hears of the events that a Tail sees. Both methods are called by one goroutine, which follows all
// partitions: they must not wait for anything.
type Listener interface {
	// Listening reports whether Event wants to be called now: reading events costs.
	Listening() bool
	// Event is told of a committed event, in the order of its partition. It must not keep record or event.
	Event(record *kgo.Record, envelope *cloudevents.Envelope, event *schemas.Event)
}

// Tail follows the events topic, without a consumer group, from the end that
// the topic has when it starts, and wakes those who wait for an event.
type Tail struct {
	opts      []kgo.Opt
	topic     string
	waiters   *Waiters
	listeners []Listener
	report    func(error)
	metrics   *Metrics
	log       *slog.Logger
	warned    time.Time // of what could not be read

	partitionsInterval time.Duration
}

// NewTail returns a Tail of topic. Its clients are made with opts; report is
// told nil whenever following begins, and why when it fails.
func NewTail(opts []kgo.Opt, topic string, waiters *Waiters, report func(error), metrics *Metrics, log *slog.Logger, listeners ...Listener) *Tail {
	return &Tail{
		opts: opts, topic: topic, waiters: waiters, listeners: listeners, report: report, metrics: metrics, log: log,
		partitionsInterval: partitionsInterval,
	}
}

// Run follows the topic until ctx ends, and then returns nil. Short outages of
// Kafka are the client's to bridge. After anything that it cannot bridge (a
// topic made anew, records gone) Run begins at the end again with another
// client: those who waited meanwhile are not woken, their time is bounded.
func (t *Tail) Run(ctx context.Context) error {
	err := fault.Retry(ctx, t.log, "follow the events topic", func(ctx context.Context) error {
		err := t.follow(ctx)
		if ctx.Err() == nil {
			t.report(err)
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow does not return before something fails or ctx ends, and its error is
// never nil.
func (t *Tail) follow(ctx context.Context) error {
	client, err := kgo.NewClient(append(t.opts[:len(t.opts):len(t.opts)],
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// A position that is gone ends the tail: only follow says where it begins.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()

	followed, err := t.ends(ctx, client)
	if err != nil {
		return err
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: maps.Clone(followed)})
	t.report(nil)
	look := time.NewTicker(t.partitionsInterval)
	defer look.Stop()
	for {
		pollCtx, cancel := context.WithTimeout(ctx, t.partitionsInterval)
		fetches := client.PollRecords(pollCtx, pollRecordsMax)
		interrupted := pollCtx.Err() // which the client reports as a failed fetch
		cancel()
		t.deliver(fetches)
		for _, e := range fetches.Errors() {
			if interrupted == nil || !errors.Is(e.Err, interrupted) {
				return fmt.Errorf("partition %d: %w", e.Partition, e.Err)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-look.C:
			if err := t.addPartitions(ctx, client, followed); err != nil {
				return err
			}
		default:
		}
	}
}

// deliver decodes only when somebody waits or listens: the topic carries
// everybody's events, and most of the time nobody here asks.
func (t *Tail) deliver(fetches kgo.Fetches) {
	var listening []Listener
	for _, l := range t.listeners {
		if l.Listening() {
			listening = append(listening, l)
		}
	}
	if len(listening) == 0 && t.waiters.none() {
		return
	}
	for record := range fetches.RecordsAll() {
		envelope, data, err := cloudevents.Read(record.Headers, record.Value)
		var event schemas.Event
		if err == nil {
			event, err = schemas.DecodeEvent(envelope.Type, envelope.ContentType, data)
		}
		if err != nil {
			// Not an event of this version. Whoever waits for its outcome will hear that it is pending.
			t.unreadable(record, err)
			continue
		}
		for _, l := range listening {
			l.Event(record, &envelope, &event)
		}
		if event.Last && event.CommandSource == Source {
			t.waiters.wake(Outcome{event, record.Partition, record.Offset})
		}
	}
}

// unreadable counts a record that is no event, and names one of them now and then: a newer allocator may publish
// many.
func (t *Tail) unreadable(record *kgo.Record, err error) {
	t.metrics.unreadable.Inc()
	if time.Since(t.warned) < warnInterval {
		return
	}
	t.warned = time.Now()
	t.log.Warn("an event could not be read, so whoever waits for it hears that it is pending; is the gateway older than the allocator?",
		"topic", record.Topic, "partition", record.Partition, "offset", record.Offset, "error", err)
}

// ends returns where each partition of the topic ends for those who read
// committed events only.
func (t *Tail) ends(ctx context.Context, client *kgo.Client) (map[int32]kgo.Offset, error) {
	listed, err := kadm.NewClient(client).ListCommittedOffsets(ctx, t.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", t.topic, err)
	}
	ends := map[int32]kgo.Offset{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = kgo.NewOffset().At(o.Offset) })
	return ends, nil
}

// addPartitions follows partitions that the topic did not have before, from
// their first record: all of it is new. If it fails, there is a next time. Only
// that the topic is gone is returned: the client may wait for it without a word.
func (t *Tail) addPartitions(ctx context.Context, client *kgo.Client, followed map[int32]kgo.Offset) error {
	ctx, cancel := context.WithTimeout(ctx, partitionsTimeout)
	defer cancel()
	ends, err := t.ends(ctx, client)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return err
	}
	if err != nil {
		t.log.Warn("could not look for new partitions", "error", err)
		return nil
	}
	added := map[int32]kgo.Offset{}
	for partition := range ends {
		if _, ok := followed[partition]; !ok {
			added[partition] = kgo.NewOffset().At(0)
		}
	}
	if len(added) > 0 {
		maps.Copy(followed, added)
		client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: added})
	}
	return nil
}
