//go:build integration

package allocator_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/topics"
)

// bench is one installation for one test: its own database on a real Postgres, its own topics on a Kafka.
type bench struct {
	t      *testing.T
	config allocator.Config // its Postgres user may do what an allocator has to, and nothing else
	owner  string           // URL of a user who may do everything
	topics topics.Set
	client *kgo.Client // produces commands, as an upstream system would
	adm    *kadm.Client
	fake   *kfake.Cluster // nil on Apache Kafka
}

// onKfake runs the installation on a Kafka in this process, whose requests a test can make fail.
func onKfake(t *testing.T) *bench {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	b := install(t, fake.ListenAddrs())
	b.fake = fake
	return b
}

// onKafka runs the installation on Apache Kafka.
func onKafka(t *testing.T) *bench {
	t.Helper()
	brokers := os.Getenv("LOTLINE_TEST_KAFKA")
	require.NotEmpty(t, brokers, "LOTLINE_TEST_KAFKA must name an Apache Kafka broker: run this through make test")
	return install(t, []string{brokers})
}

func install(t *testing.T, brokers []string) *bench {
	t.Helper()
	prefix := "t" + rand.Text()[:12]
	b := &bench{t: t, config: allocator.DefaultConfig(), topics: topics.Declared(prefix)}
	b.config.Kafka.Brokers, b.config.Kafka.TopicPrefix = brokers, prefix
	b.owner = postgrestest.Database(t)
	warning, err := allocator.Migrate(t.Context(), b.owner)
	require.NoError(t, err)
	require.Empty(t, warning)
	b.config.PostgresURL = leastPrivileged(t, b.owner)
	b.config.InstanceID, b.config.AdminAddr = "test", ""

	client, err := kgo.NewClient(append(b.config.Kafka.Opts("test"), kgo.DefaultProduceTopic(b.topics.Commands.Name),
		// A broker that is asked for a topic which was just made, or made anew, may not know it for a moment.
		kgo.UnknownTopicRetries(30))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	b.client, b.adm = client, kadm.NewClient(client)
	b.createTopics()
	return b
}

func (b *bench) createTopics() {
	b.t.Helper()
	changes, err := topics.Diff(b.t.Context(), b.adm, b.topics.All(), 1)
	require.NoError(b.t, err)
	require.NoError(b.t, topics.Apply(b.t.Context(), b.adm, changes))
}

// start boots an allocator and returns a function that stops it and waits for its end.
func (b *bench) start(change ...func(*allocator.Config)) (stop func()) {
	b.t.Helper()
	config := b.config
	for _, c := range change {
		c(&config)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- allocator.Run(ctx, config) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("the allocator ended with: %v", err)
			}
		case <-time.After(30 * time.Second):
			b.t.Error("the allocator did not stop")
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// command is a record as an upstream system would produce it.
func (b *bench) command(id string, c schemas.Command) *kgo.Record {
	return &kgo.Record{
		Topic: b.topics.Commands.Name,
		Key:   []byte(c.SKU),
		Value: schemas.AppendCommand(nil, &c),
		Headers: cloudevents.Headers(cloudevents.Envelope{
			ID: id, Source: "test", Type: c.Type.CEType(), ContentType: schemas.ContentTypeJSON,
		}),
	}
}

func (b *bench) send(records ...*kgo.Record) {
	b.t.Helper()
	require.NoError(b.t, b.client.ProduceSync(b.t.Context(), records...).FirstErr())
}

// published is an event as a read_committed consumer sees it.
type published struct {
	schemas.Event
	id string
	at time.Time
}

// events reads a topic with read_committed until n records of it are there and then for a moment more, so that one
// too many is seen as well.
func (b *bench) records(topic string, n int) []*kgo.Record {
	b.t.Helper()
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("reader"), kgo.ConsumeTopics(topic),
		// It holds the topic as a whole: within what the clients of a service may inflate at once it would never come to an
		// end, and keep the allocator of this process from reading.
		kgo.WithDecompressor(kgo.DefaultDecompressor()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	require.NoError(b.t, err)
	defer client.Close()
	var got []*kgo.Record
	deadline, cancel := context.WithTimeout(b.t.Context(), 40*time.Second)
	defer cancel()
	for {
		ctx, done := deadline, context.CancelFunc(func() {})
		if len(got) >= n {
			ctx, done = context.WithTimeout(deadline, 300*time.Millisecond)
		}
		fetches := client.PollFetches(ctx)
		ended := ctx.Err()
		done()
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, r) })
		if deadline.Err() != nil {
			b.t.Fatalf("%d of %d records of %s after 40 s", len(got), n, topic)
		}
		if errors.Is(ended, context.DeadlineExceeded) {
			return got
		}
	}
}

func (b *bench) events(n int) []published {
	b.t.Helper()
	var events []published
	seen := make(map[string]bool)
	for _, r := range b.records(b.topics.Events.Name, n) {
		envelope, e, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeEvent)
		require.NoError(b.t, err)
		require.Equal(b.t, e.SKU, string(r.Key), "events are keyed by SKU")
		require.False(b.t, seen[envelope.ID], "event %s is there twice", envelope.ID)
		seen[envelope.ID] = true
		events = append(events, published{Event: e, id: envelope.ID, at: envelope.Time})
	}
	require.Len(b.t, events, n)
	return events
}

// readiness asks a started allocator's admin endpoint.
type readiness struct {
	t    *testing.T
	url  string
	stop func()
}

func (b *bench) startReady(change ...func(*allocator.Config)) readiness {
	b.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b.t, err)
	addr := listener.Addr().String()
	require.NoError(b.t, listener.Close())
	stop := b.start(append(change, func(c *allocator.Config) { c.AdminAddr = addr })...)
	return readiness{b.t, "http://" + addr + "/readyz", stop}
}

func (r readiness) says(what string) bool {
	resp, err := http.Get(r.url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), what)
}

// otherPartition is a SKU whose commands go to another partition.
func (b *bench) otherPartition(partition int32) string {
	b.t.Helper()
	for i := range 100 {
		probe := b.command("", allocate("o", name("PROBE", i), 1))
		key := kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(probe, int(b.topics.Commands.Partitions))
		if int32(key) != partition {
			return name("PROBE", i)
		}
	}
	b.t.Fatal("no such SKU")
	return ""
}

func create(ref, sku string, qty int32) schemas.Command {
	return schemas.Command{Type: schemas.CommandCreateBatch, Ref: ref, SKU: sku, Qty: qty}
}

func allocate(order, sku string, qty int32) schemas.Command {
	return schemas.Command{Type: schemas.CommandAllocate, OrderID: order, SKU: sku, Qty: qty}
}

func TestMain(m *testing.M) {
	level := slog.LevelError
	if os.Getenv("LOTLINE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	os.Exit(m.Run())
}

func name(prefix string, i int) string { return fmt.Sprintf("%s-%04d", prefix, i) }

const (
	waitMax = 20 * time.Second
	tick    = 50 * time.Millisecond
)

// place is where a produced record stands: partition/offset.
func place(r *kgo.Record) string { return fmt.Sprintf("%d/%d", r.Partition, r.Offset) }

func headerOf(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
