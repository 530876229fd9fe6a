//go:build integration

package projector_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/projector"
	"github.com/lotline/lotline/topics"
)

// bench is one installation for one test: its own database on a real ClickHouse, its own topics on Apache Kafka.
type bench struct {
	t      testing.TB
	config projector.Config
	topic  string
	group  string
	client *kgo.Client // publishes as an allocator does
	adm    *kadm.Client
	conn   driver.Conn
}

func address(t testing.TB, variable string) string {
	t.Helper()
	addr := os.Getenv(variable)
	require.NotEmpty(t, addr, variable+" must be the host:port of a server: run `make test`")
	return addr
}

func install(t testing.TB) *bench {
	t.Helper()
	prefix := "p" + strings.ToLower(rand.Text()[:12])
	b := &bench{t: t, config: projector.DefaultConfig(), group: prefix + ".projector"}
	b.config.AdminAddr = "" // another projector may have the port
	b.config.Kafka.Brokers, b.config.Kafka.TopicPrefix = []string{address(t, "LOTLINE_TEST_KAFKA")}, prefix
	b.config.ClickHouse.Addrs, b.config.ClickHouse.Database = []string{address(t, "LOTLINE_TEST_CLICKHOUSE")}, prefix
	_, err := projector.Migrate(t.Context(), stores.MigrateConfig{Config: b.config.Config})
	require.NoError(t, err)
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: b.config.ClickHouse.Addrs, Auth: clickhouse.Auth{Database: prefix, Username: "default"}})
	require.NoError(t, err)
	b.conn = conn

	client, err := kgo.NewClient(append(b.config.Kafka.Opts("test"), kgo.TransactionalID(prefix))...)
	require.NoError(t, err)
	b.client, b.adm = client, kadm.NewClient(client)
	declared := topics.Declared(prefix)
	b.topic = declared.Events.Name
	changes, err := topics.Diff(t.Context(), b.adm, []topics.Topic{declared.Events}, 1)
	require.NoError(t, err)
	require.NoError(t, topics.Apply(t.Context(), b.adm, changes))
	t.Cleanup(func() {
		_, err := b.adm.DeleteTopics(context.Background(), b.topic)
		require.NoError(t, err)
		_, err = b.adm.DeleteGroup(context.Background(), b.group)
		require.NoError(t, err)
		client.Close()
		require.NoError(t, conn.Exec(context.Background(), "DROP DATABASE "+prefix))
		require.NoError(t, conn.Close())
	})
	return b
}

// start boots a projector and returns a function that stops it as SIGTERM does.
func (b *bench) start() (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- projector.Run(ctx, b.config) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(b.t, err)
		case <-time.After(20 * time.Second):
			b.t.Error("the projector did not stop")
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// publish appends the events in one transaction, and notes where they went.
func (b *bench) publish(records []readmodel.Record, how kgo.TransactionEndTry) {
	b.t.Helper()
	ctx := b.t.Context()
	require.NoError(b.t, b.client.BeginTransaction())
	produced := make([]*kgo.Record, len(records))
	for i, r := range records {
		produced[i] = &kgo.Record{
			Topic: b.topic, Key: []byte(r.Event.SKU), Value: schemas.AppendEvent(nil, &r.Event),
			Headers: cloudevents.Headers(cloudevents.Envelope{
				ID: r.ID, Source: "/lotline/allocator", Type: "lotline.event.v1." + r.Event.Type.String(),
				ContentType: schemas.ContentTypeJSON, Time: r.Time,
			}),
		}
	}
	require.NoError(b.t, b.client.ProduceSync(ctx, produced...).FirstErr())
	require.NoError(b.t, b.client.EndTransaction(ctx, how))
	for i, p := range produced {
		records[i].Partition, records[i].Offset = p.Partition, p.Offset
	}
}

// waitProjected waits until the group's offsets are at the end of every partition that has something.
func (b *bench) waitProjected() {
	b.t.Helper()
	missing := ""
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if missing = b.missing(); missing == "" {
			return
		}
	}
	b.t.Fatal("not projected after 60 s: ", missing)
}

func (b *bench) missing() string {
	b.t.Helper()
	ends, err := b.adm.ListEndOffsets(b.t.Context(), b.topic)
	require.NoError(b.t, err)
	at, err := b.adm.FetchOffsets(b.t.Context(), b.group)
	if !errors.Is(err, kerr.GroupIDNotFound) && !errors.Is(err, kerr.CoordinatorNotAvailable) { // no member has joined it yet, or any group of a new broker: nothing is projected
		require.NoError(b.t, err)
	}
	missing := ""
	ends.Each(func(end kadm.ListedOffset) {
		committed, _ := at.Lookup(b.topic, end.Partition)
		if committed.At != end.Offset && end.Offset > 0 {
			missing += fmt.Sprintf("partition %d is at %d of %d; ", end.Partition, committed.At, end.Offset)
		}
	})
	return missing
}

// requireReadModel compares every row of every table with a fold of the events.
func (b *bench) requireReadModel(h *readmodeltest.History) {
	b.t.Helper()
	for query, want := range h.Tables() {
		rows, err := b.conn.Query(b.t.Context(), query)
		require.NoError(b.t, err)
		got := []string{}
		for rows.Next() {
			var line string
			require.NoError(b.t, rows.Scan(&line))
			got = append(got, line)
		}
		require.NoError(b.t, rows.Err())
		slices.Sort(got)
		require.NotEmpty(b.t, want)
		require.Equal(b.t, want, got, query)
	}
}

// misleading are copies of events that would change the read model if they were read.
func misleading(records []readmodel.Record) []readmodel.Record {
	wrong := make([]readmodel.Record, len(records))
	for i, r := range records {
		r.Event.Version += 1_000_000
		r.Event.Available = -1
		r.ID += "-aborted"
		wrong[i] = r
	}
	return wrong
}

func TestReadModelIsTheFoldOfTheEvents(t *testing.T) {
	b := install(t)
	b.config.BlockEventsMax = 150
	h := readmodeltest.New(5, 3000)
	stop := b.start()
	n := 0
	for part := range slices.Chunk(h.Records, 100) {
		b.publish(misleading(part), kgo.TryAbort)
		b.publish(part, kgo.TryCommit)
		if n++; n%8 == 0 { // the projector comes and goes while events arrive
			stop()
			stop = b.start()
		}
	}
	b.waitProjected()
	b.requireReadModel(h)

	stop()
	_, err := b.adm.DeleteGroup(t.Context(), b.group)
	require.NoError(t, err)
	require.NotEmpty(t, b.missing(), "a group without offsets reads everything again")
	b.start()
	b.waitProjected()
	b.requireReadModel(h)
}

// BenchmarkProjector is the rate from a full topic to ClickHouse with the default settings, starting included.
// The events are all different: ClickHouse would spare itself the copies within a block.
func BenchmarkProjector(b *testing.B) {
	h := readmodeltest.New(5, 200_000)
	for b.Loop() {
		b.StopTimer()
		bench := install(b)
		for part := range slices.Chunk(h.Records, 10_000) {
			bench.publish(part, kgo.TryCommit)
		}
		b.StartTimer()
		stop := bench.start()
		bench.waitProjected()
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(len(h.Records)*b.N)/b.Elapsed().Seconds(), "events/s")
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}
