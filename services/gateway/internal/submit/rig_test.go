package submit

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

const (
	commands = "test.commands"
	events   = "test.events"
	// patience is more than Kafka takes on a busy machine; what is about its absence waits for ackWait.
	patience = 10 * time.Second
	ackWait  = time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a gateway's way to Kafka and back, on a cluster of its own.
type rig struct {
	*Submitter
	cluster *kfake.Cluster
	client  *kgo.Client
	waiters *Waiters
	tail    *Tail
	states  chan error // what the tail reports
	stop    chan struct{}
	past    *past
}

// one submits one command under a new id.
func (r *rig) one(ctx context.Context, cmd schemas.Command, wait time.Duration) (Receipt, error) {
	result := r.Submit(ctx, wait, Request{Command: cmd})[0]
	return result.Receipt, result.Err
}

func newRig(t *testing.T) *rig { return newRigWith(t, patience) }

func newRigWith(t *testing.T, wait time.Duration, opts ...kgo.Opt) *rig {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, commands, events))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafkaclient.Config{Brokers: cluster.ListenAddrs()}
	client, err := kgo.NewClient(append(append(cfg.Opts("test"), ProducerOpts(wait)...), opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	r := &rig{cluster: cluster, client: client, waiters: new(Waiters), states: make(chan error, 100), stop: make(chan struct{}), past: new(past)}
	// By default the client sees a new partition after up to 5 s of cached
	// metadata and reads it when a fetch that waits up to 5 s has ended.
	tailOpts := append(cfg.Opts("test-tail"), kgo.MetadataMinAge(50*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond))
	r.tail = NewTail(tailOpts, events, r.waiters, func(err error) { r.states <- err }, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), nil)
	r.Submitter = New(client, commands, wait, r.waiters, r.past, r.stop)
	return r
}

// follow runs the tail until the test ends, and returns when it runs.
func (r *rig) follow(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.tail.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	r.awaitRunning(t)
}

func (r *rig) awaitRunning(t *testing.T) { r.await(t, true) }

// await waits until the tail reports that it runs, or that it does not.
func (r *rig) await(t *testing.T, running bool) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case err := <-r.states:
			if (err == nil) == running {
				return
			}
		case <-timeout:
			require.FailNow(t, "the tail has not said so", "that it runs: %t", running)
		}
	}
}

// eventRecord completes e as the allocator would: an event without ids cannot
// be read.
func eventRecord(e *schemas.Event) *kgo.Record {
	e.OrderID, e.BatchRef = "o1", "b1"
	return &kgo.Record{
		Topic: events, Key: []byte(e.SKU), Value: schemas.AppendEvent(nil, e),
		Headers: cloudevents.Headers(cloudevents.Envelope{ID: "e", Source: "/lotline/allocator", Type: e.Type.CEType()}),
	}
}

// each has every command answered, until the test ends, one after the other.
func (r *rig) each(t *testing.T, answer func(*kgo.Client, *kgo.Record)) {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumeTopics(commands),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond), kgo.ProducerLinger(0))
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { client.Close(); <-done })
	go func() {
		defer close(done)
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			for record := range fetches.RecordsAll() {
				answer(client, record)
			}
		}
	}()
}

// inKafka is how many commands are in Kafka, once none is on its way there.
func (r *rig) inKafka(t *testing.T) (n int64) {
	require.NoError(t, r.client.Flush(t.Context()))
	for partition := range int32(3) {
		n += r.cluster.PartitionInfo(commands, partition).HighWatermark
	}
	return n
}

// allocate answers every command, until the test ends, with an event that is
// not its last, one that is, and what others' events look like.
func (r *rig) allocate(t *testing.T) {
	r.each(t, func(client *kgo.Client, record *kgo.Record) {
		envelope, _ := cloudevents.Parse(record.Headers)
		event := schemas.Event{Type: schemas.EventAllocated, SKU: string(record.Key), CommandID: envelope.ID, CommandSource: "/other", Last: true}
		client.Produce(context.Background(), eventRecord(&event), nil)
		event.CommandSource, event.Last = Source, false
		client.Produce(context.Background(), eventRecord(&event), nil)
		client.Produce(context.Background(), &kgo.Record{Topic: events, Key: record.Key, Value: []byte("\x00 no event")}, nil)
		event.Type, event.Seq, event.Last, event.Qty = schemas.EventOutOfStock, 1, true, 7
		client.Produce(context.Background(), eventRecord(&event), nil)
	})
}

func command(sku string) schemas.Command {
	return schemas.Command{Type: schemas.CommandAllocate, OrderID: "o1", SKU: sku, Qty: 7}
}

// await fails the test rather than waiting for an outcome for ever.
func await(t *testing.T, outcome <-chan Outcome) Outcome {
	t.Helper()
	select {
	case event := <-outcome:
		return event
	case <-time.After(10 * time.Second):
		require.Fail(t, "no outcome is seen")
		return Outcome{}
	}
}
