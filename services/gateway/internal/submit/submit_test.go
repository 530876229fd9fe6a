package submit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
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

// allocate answers every command, until the test ends, with an event that is
// not its last, one that is, and what others' events look like.
func (r *rig) allocate(t *testing.T) {
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
				envelope, _ := cloudevents.Parse(record.Headers)
				event := schemas.Event{Type: schemas.EventAllocated, SKU: string(record.Key), CommandID: envelope.ID, CommandSource: "/other", Last: true}
				client.Produce(context.Background(), eventRecord(&event), nil)
				event.CommandSource, event.Last = Source, false
				client.Produce(context.Background(), eventRecord(&event), nil)
				client.Produce(context.Background(), &kgo.Record{Topic: events, Key: record.Key, Value: []byte("\x00 no event")}, nil)
				event.Type, event.Seq, event.Last, event.Qty = schemas.EventOutOfStock, 1, true, 7
				client.Produce(context.Background(), eventRecord(&event), nil)
			}
		}
	}()
}

func command(sku string) schemas.Command {
	return schemas.Command{Type: schemas.CommandAllocate, OrderID: "o1", SKU: sku, Qty: 7}
}

func TestRecord(t *testing.T) {
	r := newRig(t)
	receipt, err := r.one(t.Context(), command("CHAIR"), 0)
	require.NoError(t, err)
	require.Nil(t, receipt.Outcome)
	require.Equal(t, uuid.Version(7), uuid.MustParse(receipt.CommandID).Version())

	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumeTopics(commands),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer consumer.Close()
	records := consumer.PollFetches(t.Context()).Records()
	require.Len(t, records, 1)
	require.Equal(t, "CHAIR", string(records[0].Key))
	require.Equal(t, `{"orderid":"o1","sku":"CHAIR","qty":7}`, string(records[0].Value))
	envelope, err := cloudevents.Parse(records[0].Headers)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), envelope.Time, time.Minute)
	envelope.Time = time.Time{}
	require.Equal(t, cloudevents.Envelope{
		ID: receipt.CommandID, Source: "/lotline/gateway", Type: "lotline.command.v1.Allocate", ContentType: "application/json",
	}, envelope)
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

func TestEveryWaiterHearsOfItsOutcome(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.allocate(t)
	var group errgroup.Group
	for i := range 50 {
		group.Go(func() error {
			for j := range 20 {
				sku := fmt.Sprintf("sku-%d-%d", i, j)
				receipt, err := r.one(t.Context(), command(sku), 10*time.Second)
				if err != nil {
					return err
				}
				if e := receipt.Outcome; e == nil || e.Type != schemas.EventOutOfStock || e.SKU != sku || e.CommandID != receipt.CommandID {
					return fmt.Errorf("the outcome of %s is %+v", sku, e)
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.True(t, r.waiters.none(), "nobody is left in the books")
}

func TestOutcomeBeforeTheAcknowledgement(t *testing.T) {
	r := newRig(t)
	// The broker never answers the producer, but the command is in the log.
	r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.waiters.mu.Lock()
		ids := make([]string, 0, 1)
		for id := range r.waiters.waiting {
			ids = append(ids, id)
		}
		r.waiters.mu.Unlock()
		for _, id := range ids {
			r.waiters.wake(Outcome{Event: schemas.Event{Type: schemas.EventAllocated, CommandID: id}})
		}
		return nil, fmt.Errorf("cut off"), true
	})
	receipt, err := r.one(t.Context(), command("CHAIR"), time.Minute)
	require.NoError(t, err)
	require.Equal(t, schemas.EventAllocated, receipt.Outcome.Type)
}

func TestPendingWhenNobodyDecides(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	start := time.Now()
	receipt, err := r.one(t.Context(), command("CHAIR"), 200*time.Millisecond)
	require.NoError(t, err)
	require.Nil(t, receipt.Outcome)
	require.NotEmpty(t, receipt.CommandID)
	require.GreaterOrEqual(t, time.Since(start), 200*time.Millisecond)
	require.True(t, r.waiters.none())
}

func TestKafkaAway(t *testing.T) {
	t.Run("gone", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		_, err := r.one(t.Context(), command("CHAIR"), 0)
		require.NoError(t, err)
		r.cluster.Close()
		requireUnacknowledged(t, r)
	})
	t.Run("never there", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		r.cluster.Close()
		requireUnacknowledged(t, r)
	})
	t.Run("silent", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		silence := make(chan struct{})
		defer close(silence)
		r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			r.cluster.SleepControl(func() { <-silence })
			return nil, nil, false
		})
		requireUnacknowledged(t, r)
	})
	t.Run("no topic", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		r.Submitter = New(r.client, "none", ackWait, r.waiters, r.past, r.stop)
		requireUnacknowledged(t, r)
	})
}

// Kafka's client gives nothing up before a second has passed: nobody is to be told of a failure that then does not happen.
func TestWhatWasGivenUpIsNotSentLater(t *testing.T) {
	var buffered lastBuffered
	r := newRigWith(t, 100*time.Millisecond, kgo.WithHooks(&buffered))
	var ready atomic.Bool
	r.cluster.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return answer, nil, !ready.Load()
	})
	_, err := r.one(t.Context(), command("CHAIR"), 0)
	require.ErrorIs(t, err, ErrUnacknowledged)
	require.Error(t, buffered.record.Context.Err(), "it can be sent until its own time is noticed to be over")
	ready.Store(true)
	require.NoError(t, r.client.Flush(t.Context()))
	for partition := range int32(3) {
		require.Zero(t, r.cluster.PartitionInfo(commands, partition).HighWatermark)
	}
}

type lastBuffered struct{ record *kgo.Record }

func (b *lastBuffered) OnProduceRecordBuffered(r *kgo.Record) { b.record = r }

func requireUnacknowledged(t *testing.T, r *rig) {
	t.Helper()
	start := time.Now()
	receipt, err := r.one(t.Context(), command("CHAIR"), time.Minute)
	require.ErrorIs(t, err, ErrUnacknowledged)
	require.NotEmpty(t, receipt.CommandID, "it may have arrived: the client can ask")
	require.Less(t, time.Since(start), ackWait+500*time.Millisecond)
	require.True(t, r.waiters.none())
}

func TestCommandsTopicMadeAnew(t *testing.T) {
	r := newRigWith(t, ackWait)
	_, err := r.one(t.Context(), command("CHAIR"), 0)
	require.NoError(t, err)
	admin := kadm.NewClient(r.client)
	_, err = admin.DeleteTopic(t.Context(), commands)
	require.NoError(t, err)
	_, err = admin.CreateTopic(t.Context(), 3, 1, nil, commands)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err = r.one(t.Context(), command("CHAIR"), 0)
		return err == nil
	}, 15*time.Second, 100*time.Millisecond)
}

func TestClientLeaves(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.one(ctx, command("CHAIR"), time.Minute)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, r.waiters.none())
}

func TestStopAnswersThoseWhoWait(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	var group errgroup.Group
	var submitted sync.WaitGroup
	for range 10 {
		submitted.Add(1)
		group.Go(func() error {
			submitted.Done()
			receipt, err := r.one(t.Context(), command("CHAIR"), time.Minute)
			if err == nil && receipt.Outcome != nil {
				err = fmt.Errorf("unexpected outcome %v", receipt.Outcome)
			}
			return err
		})
	}
	submitted.Wait()
	start := time.Now()
	close(r.stop)
	require.NoError(t, group.Wait())
	require.Less(t, time.Since(start), patience)
}

func TestAcknowledgedSaysWhereACommandIs(t *testing.T) {
	r := newRig(t)
	type where struct {
		id, topic string
		offset    int64
	}
	told := make(chan where, 10)
	r.Acknowledged = func(id string, record *kgo.Record) { told <- where{id, record.Topic, record.Offset} }
	for offset := range int64(2) {
		receipt, err := r.one(t.Context(), command("CHAIR"), 0)
		require.NoError(t, err)
		require.Equal(t, where{receipt.CommandID, commands, offset}, <-told)
	}
	r.topic = "none"
	_, err := r.one(t.Context(), command("CHAIR"), 0)
	require.Error(t, err)
	require.Empty(t, told, "what Kafka did not take is nowhere")
}
