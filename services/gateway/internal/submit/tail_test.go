package submit

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestOnlyCommittedOutcomesCount(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	allocator, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.TransactionalID("allocator"))
	require.NoError(t, err)
	defer allocator.Close()
	outcome, forget := r.waiters.add("c1")
	defer forget()
	publish := func(kind schemas.EventType, end kgo.TransactionEndTry) {
		require.NoError(t, allocator.BeginTransaction())
		event := &schemas.Event{Type: kind, SKU: "CHAIR", CommandID: "c1", CommandSource: Source, Last: true}
		require.NoError(t, allocator.ProduceSync(t.Context(), eventRecord(event)).FirstErr())
		require.NoError(t, allocator.EndTransaction(t.Context(), end))
	}
	publish(schemas.EventOutOfStock, kgo.TryAbort)
	publish(schemas.EventAllocated, kgo.TryCommit)
	require.Equal(t, schemas.EventAllocated, await(t, outcome).Type)
}

func TestTailBeginsAgainAfterItsTopicWasMadeAnew(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.requireRead(t, 0) // the client has found the topic, and will miss it
	r.allocate(t)
	admin := kadm.NewClient(r.client)
	_, err := admin.DeleteTopic(t.Context(), events)
	require.NoError(t, err)
	r.await(t, false)
	_, err = admin.CreateTopic(t.Context(), 3, 1, nil, events)
	require.NoError(t, err)
	r.awaitRunning(t)
	r.requireOutcomes(t)
}

// The client may wait without a word for a topic that is gone: one deleted before it had found its partitions, say.
func TestTailNamesATopicThatTheClientDoesNotMiss(t *testing.T) {
	r := newRig(t)
	r.tail.lookInterval = 50 * time.Millisecond
	var blind atomic.Bool
	blind.Store(true)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.IsolationLevel != 1 || !blind.Load() {
			return nil, nil, false
		}
		r.cluster.SleepControl(func() { time.Sleep(10 * time.Millisecond) })
		return fetch.ResponseKind(), nil, true // nothing new
	})
	r.follow(t)
	admin := kadm.NewClient(r.client)
	_, err := admin.DeleteTopic(t.Context(), events)
	require.NoError(t, err)
	r.await(t, false)
	blind.Store(false)
	_, err = admin.CreateTopic(t.Context(), 3, 1, nil, events)
	require.NoError(t, err)
	r.awaitRunning(t)
	r.allocate(t)
	r.requireOutcomes(t)
}

func TestTailBeginsAgainAfterAFailedFetch(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.allocate(t)
	var failed atomic.Bool // a control function may run for several requests before it is dropped
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.IsolationLevel != 1 || len(fetch.Topics) == 0 || failed.Swap(true) { // not the tail's, or not the first
			return nil, nil, false
		}
		resp := fetch.ResponseKind().(*kmsg.FetchResponse)
		for _, topic := range fetch.Topics {
			answer := kmsg.NewFetchResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				partition := kmsg.NewFetchResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, kerr.OffsetOutOfRange.Code
				answer.Partitions = append(answer.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	go func() { _, _ = r.one(context.Background(), command("any"), 0) }() // ends the fetch that waits
	r.await(t, false)
	r.awaitRunning(t)
	r.requireOutcomes(t)
}

func TestTailFindsNewPartitions(t *testing.T) {
	r := newRig(t)
	r.tail.lookInterval = 50 * time.Millisecond
	r.follow(t)
	_, err := kadm.NewClient(r.client).CreatePartitions(t.Context(), 2, events)
	require.NoError(t, err)
	for partition := range int32(5) {
		r.requireRead(t, partition)
	}
}

// requireRead sees an outcome on a partition.
func (r *rig) requireRead(t *testing.T, partition int32) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer producer.Close()
	id := fmt.Sprint(partition)
	outcome, forget := r.waiters.add(id)
	defer forget()
	record := eventRecord(&schemas.Event{Type: schemas.EventAllocated, SKU: "s", CommandID: id, CommandSource: Source, Last: true})
	record.Partition = partition
	require.NoError(t, producer.ProduceSync(t.Context(), record).FirstErr())
	require.Equal(t, id, await(t, outcome).CommandID)
}

// requireOutcomes sees an outcome on each partition.
func (r *rig) requireOutcomes(t *testing.T) {
	for i := range 20 {
		receipt, err := r.one(t.Context(), command(fmt.Sprint("sku", i)), 10*time.Second)
		require.NoError(t, err)
		require.NotNil(t, receipt.Outcome)
	}
}

// ear is a Listener that remembers what it heard.
type ear struct {
	listening atomic.Bool
	heard     chan schemas.Event
}

func (e *ear) Listening() bool { return e.listening.Load() }

func (e *ear) Event(record *kgo.Record, envelope *cloudevents.Envelope, event *schemas.Event) {
	if record.Topic != events || envelope.Type != event.Type.CEType() {
		panic("this is not the event's record")
	}
	e.heard <- *event
}

func TestListenersHearAllEventsWhileTheyListen(t *testing.T) {
	r := newRig(t)
	listener := &ear{heard: make(chan schemas.Event, 100)}
	r.tail.listeners = []Listener{listener}
	r.follow(t)
	r.allocate(t)
	_, err := r.one(t.Context(), command("CHAIR"), patience)
	require.NoError(t, err)
	require.Empty(t, listener.heard, "it does not listen yet")
	listener.listening.Store(true)
	receipt, err := r.one(t.Context(), command("CHAIR"), patience)
	require.NoError(t, err)
	require.NotNil(t, receipt.Outcome, "who waits is woken too")
	for _, source := range []string{"/other", Source, Source} { // not only those that somebody waits for
		heard := <-listener.heard
		require.Equal(t, receipt.CommandID, heard.CommandID)
		require.Equal(t, source, heard.CommandSource)
	}
}
