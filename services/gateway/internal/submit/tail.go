package submit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	// lookInterval is how often the ends of the topic are asked for, and new partitions are looked for. Until one is
	// found, outcomes on it are not seen, and their waiters get "pending".
	lookInterval = 5 * time.Second
	// proveInterval is how often if somebody has to know how far the tail is.
	proveInterval  = 100 * time.Millisecond
	endsTimeout    = 2 * time.Second
	fetchWaitMax   = 500 * time.Millisecond // a new partition is read when a fetch that waits has ended
	metadataMin    = 250 * time.Millisecond // and leaders are asked for no more often than that
	pollRecordsMax = 10_000
	warnInterval   = 10 * time.Second
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
	follower  Follower // nil: nobody
	listeners []Listener
	report    func(error)
	metrics   *Metrics
	log       *slog.Logger
	warned    time.Time // of what could not be read

	lookWarned   time.Time
	lookInterval time.Duration
}

// NewTail returns a Tail of topic. Its clients are made with opts; report is
// told nil whenever following begins, and why when it fails. Follower, unless it
// is nil, and listeners hear of events.
func NewTail(opts []kgo.Opt, topic string, waiters *Waiters, report func(error), metrics *Metrics, log *slog.Logger, follower Follower, listeners ...Listener) *Tail {
	t := &Tail{
		opts: opts, topic: topic, waiters: waiters, follower: follower, listeners: listeners, report: report, metrics: metrics, log: log,
		lookInterval: lookInterval,
	}
	if follower != nil {
		t.lookInterval = proveInterval
	}
	return t
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
	opts := []kgo.Opt{kgo.FetchMaxWait(fetchWaitMax), kgo.MetadataMinAge(metadataMin)}
	client, err := kgo.NewClient(append(append(opts, t.opts...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Transactions' marks take offsets too: the end is reached past the last of them.
		kgo.KeepControlRecords(),
		// A position that is gone ends the tail: only follow says where it begins.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()

	start, err := t.findEnds(ctx, client)
	if err != nil {
		return err
	}
	at := newProgress(start.offset)
	if t.follower != nil {
		t.follower.Began(start.offset)
	}
	t.consume(client, start.offset)
	t.report(nil)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.poll(ctx, client, at) })
	group.Go(func() error { return t.look(ctx, client, start, at) })
	return group.Wait()
}

func (t *Tail) consume(client *kgo.Client, from map[int32]int64) {
	offsets := make(map[int32]kgo.Offset, len(from))
	for partition, offset := range from {
		offsets[partition] = kgo.NewOffset().At(offset)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: offsets})
}

// poll hands over what comes.
func (t *Tail) poll(ctx context.Context, client *kgo.Client, at *progress) error {
	for {
		fetches := client.PollRecords(ctx, pollRecordsMax)
		if ctx.Err() != nil { // which the client reports as a failed fetch
			return ctx.Err()
		}
		at.move(t.deliver(fetches))
		for _, e := range fetches.Errors() {
			return fmt.Errorf("partition %d: %w", e.Partition, e.Err)
		}
	}
}

// look finds new partitions, and says when everything up to the ends was handed over. If that fails, there is a next
// time. Only that the topic is gone or another is returned: the client may wait for it without a word.
func (t *Tail) look(ctx context.Context, client *kgo.Client, start ends, at *progress) error {
	tick := time.NewTicker(t.lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		asked := time.Now()
		now, err := t.findEnds(ctx, client)
		switch {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			return err
		case err != nil:
			if ctx.Err() == nil && time.Since(t.lookWarned) > warnInterval {
				t.lookWarned = time.Now()
				t.log.Warn("could not look where the events end", "error", err)
			}
			continue
		case now.topic != start.topic:
			return errTopicMadeAnew
		}
		if added := at.add(now.offset); len(added) > 0 {
			t.consume(client, added)
		}
		if t.follower == nil {
			continue
		}
		awaiting, cancel := context.WithTimeout(ctx, endsTimeout)
		if at.await(awaiting, now.offset) {
			t.follower.Current(asked)
		}
		cancel()
	}
}

// deliver hands events over, and returns where it has come to by partition. It decodes only when somebody waits or
// listens: the topic carries everybody's events, and most of the time nobody here asks.
func (t *Tail) deliver(fetches kgo.Fetches) map[int32]int64 {
	var listening []Listener
	for _, l := range t.listeners {
		if l.Listening() {
			listening = append(listening, l)
		}
	}
	next := map[int32]int64{}
	read := t.follower != nil || len(listening) > 0 || !t.waiters.none()
	for record := range fetches.RecordsAll() {
		next[record.Partition] = record.Offset + 1
		if read && !record.Attrs.IsControl() {
			t.handOver(record, listening)
		}
	}
	return next
}

func (t *Tail) handOver(record *kgo.Record, listening []Listener) {
	envelope, event, err := cloudevents.Decode(record.Headers, record.Value, schemas.DecodeEvent)
	if err != nil {
		// Not an event of this version. Whoever waits for its outcome will hear that it is pending.
		t.unreadable(record, err)
		return
	}
	if t.follower != nil { // before whoever waits asks what has become of it
		t.follower.Event(&event, record.Partition, record.Offset)
	}
	for _, l := range listening {
		l.Event(record, &envelope, &event)
	}
	if event.Last && event.CommandSource == Source {
		t.waiters.wake(Outcome{event, record.Partition, record.Offset})
	}
}

// unreadable counts a record that is no event, and names one of them now and then: a newer allocator may publish
// many.
func (t *Tail) unreadable(record *kgo.Record, err error) {
	t.metrics.unreadable.Inc()
	if t.follower != nil {
		t.follower.Unreadable(record.Partition, record.Offset)
	}
	if time.Since(t.warned) < warnInterval {
		return
	}
	t.warned = time.Now()
	t.log.Warn("an event could not be read, so whoever waits for it hears that it is pending; is the gateway older than the allocator?",
		"topic", record.Topic, "partition", record.Partition, "offset", record.Offset, "error", err)
}
