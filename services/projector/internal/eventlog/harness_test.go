package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

const (
	topic = "t.events"
	group = "t.projector"
	// patience is how long a test waits for what must happen; moment is how long for what must not.
	patience = 15 * time.Second
	moment   = 300 * time.Millisecond
)

// broker is a Kafka in this process with an events topic of two partitions.
type broker struct {
	t     *testing.T
	fake  *kfake.Cluster
	addrs []string
	adm   *kadm.Client
	plain *kgo.Client
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topic),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	b := &broker{t: t, fake: fake, addrs: fake.ListenAddrs()}
	b.plain = b.client()
	b.adm = kadm.NewClient(b.plain)
	return b
}

func (b *broker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(b.t, err)
	b.t.Cleanup(client.Close)
	return client
}

// event is the record of an event whose id is id.
func event(partition int32, id string) *kgo.Record {
	e := schemas.Event{Type: schemas.EventOutOfStock, SKU: "LAMP", Version: 1, CommandID: id, OrderID: "o1", Qty: 1, Last: true}
	return &kgo.Record{
		Topic: topic, Partition: partition, Value: schemas.AppendEvent(nil, &e),
		Headers: cloudevents.Headers(cloudevents.Envelope{
			ID: id, Source: "/lotline/allocator", Type: "lotline.event.v1.OutOfStock",
			ContentType: schemas.ContentTypeJSON, Time: time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC),
		}),
	}
}

// produce appends events with ids like "0-a3": partition, name, number.
func (b *broker) produce(partition int32, name string, n int) (ids []string) {
	b.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%d-%s%d", partition, name, i)
		ids = append(ids, id)
		require.NoError(b.t, b.plain.ProduceSync(b.t.Context(), event(partition, id)).FirstErr())
	}
	return ids
}

// committed returns the group's offsets by partition.
func (b *broker) committed() map[int32]int64 {
	b.t.Helper()
	offsets, err := b.adm.FetchOffsets(b.t.Context(), group)
	require.NoError(b.t, err)
	at := map[int32]int64{}
	offsets.Each(func(o kadm.OffsetResponse) { at[o.Partition] = o.At })
	return at
}

func (b *broker) waitCommitted(want map[int32]int64) {
	b.t.Helper()
	eventually(b.t, func() bool { return fmt.Sprint(b.committed()) == fmt.Sprint(want) },
		func() string { return fmt.Sprintf("committed %v, want %v", b.committed(), want) })
}

func eventually(t *testing.T, done func() bool, state func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("after ", patience, ": ", state())
		}
	}
}

// sink notes the ids of the events that it is given. While it is shut it acknowledges nothing.
type sink struct {
	readmodel.Writer
	mu       sync.Mutex
	shut     chan struct{} // closed: open
	err      error
	pending  []readmodel.Record
	received []string // acknowledged, in order
	attempts [][]string
}

func newSink() *sink {
	s := &sink{shut: make(chan struct{})}
	close(s.shut)
	return s
}

func newShutSink() *sink { return &sink{shut: make(chan struct{})} }

func (*sink) Name() string { return "store" }

func (s *sink) Apply(ctx context.Context, b []readmodel.Record) error {
	s.mu.Lock()
	s.pending = b
	s.attempts = append(s.attempts, ids(b))
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.shut:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
	s.received = append(s.received, ids(b)...)
	return nil
}

// ids returns the ids of a block's events.
func ids(b []readmodel.Record) (ids []string) {
	for _, r := range b {
		ids = append(ids, r.ID)
	}
	return ids
}

// fail has every attempt from now on end with err; nil: no more.
func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.received...)
}

// blocks returns the ids of the events of each block that was handed over.
func (s *sink) blocks() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]string(nil), s.attempts...)
}

// held returns the ids of the block that waits for the acknowledgement, as they are now.
func (s *sink) held() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		return nil
	}
	return ids(s.pending)
}

func (s *sink) waitFor(t *testing.T, want []string) {
	t.Helper()
	eventually(t, func() bool { return len(s.all()) >= len(want) }, func() string { return fmt.Sprintf("received %v, want %v", s.all(), want) })
	require.ElementsMatch(t, want, s.all())
}

// waitHeld waits until a block waits for its acknowledgement.
func (s *sink) waitHeld(t *testing.T) []string {
	t.Helper()
	eventually(t, func() bool { return len(s.held()) > 0 }, func() string { return "no block came" })
	return s.held()
}

// projector is a running consumer.
type projector struct {
	t        *testing.T
	consumer *Consumer
	health   *admin.Health
	cancel   context.CancelFunc
	done     chan error
}

func (b *broker) start(s readmodel.Writer, change ...func(*Config)) *projector {
	b.t.Helper()
	cfg := Config{
		Topic: topic, Group: group, BlockEventsMax: 1000, FlushInterval: 100 * time.Millisecond, FlushIntervalMin: QuietPeriod,
		HoleGrace: 200 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	p := &projector{t: b.t, health: new(admin.Health), done: make(chan error, 1)}
	var err error
	p.consumer, err = New(cfg, kafkaclient.Config{Brokers: b.addrs}.Opts("test"), s, p.health,
		NewMetrics(prometheus.NewRegistry()), noop.NewTracerProvider().Tracer(""), slog.New(slog.DiscardHandler))
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.done <- p.consumer.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		select {
		case <-p.done:
		case <-time.After(patience):
			b.t.Error("the consumer did not end")
		}
	})
	return p
}

// stop ends the consumer as SIGTERM does, and requires that it ends well and soon.
func (p *projector) stop() {
	p.t.Helper()
	p.cancel()
	require.NoError(p.t, p.wait())
}

func (p *projector) wait() error {
	p.t.Helper()
	select {
	case err := <-p.done:
		close(p.done)
		return err
	case <-time.After(patience):
		return errors.New("the consumer did not end")
	}
}

// ends returns the end of each partition.
func (b *broker) ends() map[int32]int64 {
	b.t.Helper()
	offsets, err := b.adm.ListEndOffsets(b.t.Context(), topic)
	require.NoError(b.t, err)
	ends := map[int32]int64{}
	offsets.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

func retype(r *kgo.Record, kind string) {
	for i, h := range r.Headers {
		if h.Key == "ce_type" {
			r.Headers[i].Value = []byte(kind)
		}
	}
}

func withoutVersion(value []byte) string {
	return strings.Replace(string(value), `"version":1`, `"version":0`, 1)
}
