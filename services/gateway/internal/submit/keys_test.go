package submit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// decide answers the n-th command, from 0, with what the test says, until the test ends; it returns how many came. The event
// has the command's quantity and eta.
func (r *rig) decide(t *testing.T, answer func(n int) schemas.Event) (came func() int) {
	n, mu := 0, new(sync.Mutex)
	r.each(t, func(client *kgo.Client, record *kgo.Record) {
		mu.Lock()
		event := answer(n)
		n++
		mu.Unlock()
		if event.Type == 0 {
			return
		}
		if event.OrderID == "" && event.Type != schemas.EventBatchCreated {
			event.OrderID = "o1"
		}
		envelope, cmd, _ := cloudevents.Decode(record.Headers, record.Value, schemas.DecodeCommand)
		event.Qty, event.BatchQty, event.ETA = cmd.Qty, cmd.Qty, cmd.ETA
		event.SKU, event.CommandID, event.CommandSource, event.Last = string(record.Key), envelope.ID, envelope.Source, true
		client.Produce(context.Background(), eventRecord(&event), nil)
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func always(e schemas.Event) func(int) schemas.Event { return func(int) schemas.Event { return e } }

func (r *rig) keyed(t *testing.T, cmd schemas.Command, wait time.Duration) Result {
	t.Helper()
	result := r.Submit(t.Context(), wait, Request{Command: cmd, Key: "k"})[0]
	require.Equal(t, "k", result.CommandID)
	return result
}

func TestAKeyHasOneEffectAndOneOutcome(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	came := r.decide(t, func(n int) schemas.Event {
		return []schemas.Event{{Type: schemas.EventOutOfStock}, {Type: schemas.EventAllocated}}[n]
	})
	first := r.keyed(t, command("CHAIR"), patience)
	require.NoError(t, first.Err)
	require.Equal(t, schemas.EventOutOfStock, first.Outcome.Type)
	again := r.keyed(t, command("CHAIR"), patience)
	require.Equal(t, first, again, "the token too")
	require.Equal(t, 1, came())

	other := command("CHAIR")
	other.Qty++
	for _, cmd := range []schemas.Command{other, command("TABLE"), {Type: schemas.CommandDeallocate, OrderID: "o1", SKU: "CHAIR"}} {
		require.ErrorIs(t, r.keyed(t, cmd, patience).Err, ErrKeyReused)
	}
	require.Equal(t, first, r.keyed(t, command("CHAIR"), 0), "the first is still known")
	require.Equal(t, 1, came(), "nothing else was sent")
}

func TestRequestsOfOneKeyAtOnce(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	proceed := make(chan struct{})
	came := r.decide(t, func(int) schemas.Event { <-proceed; return schemas.Event{Type: schemas.EventAllocated} })
	results := make(chan Result, 21)
	for range 20 {
		go func() { results <- r.Submit(t.Context(), patience, Request{Command: command("CHAIR"), Key: "k"})[0] }()
	}
	// Were it the first, the outcome could come between the end of its wait and the beginning of the next one's.
	require.Eventually(t, func() bool { return !r.waiters.none() }, patience, time.Millisecond)
	short := r.keyed(t, command("CHAIR"), 50*time.Millisecond)
	require.NoError(t, short.Err)
	require.Nil(t, short.Outcome, "it does not wait for longer than it would")
	close(proceed)
	for range 20 {
		result := <-results
		require.NoError(t, result.Err)
		if result.Outcome == nil {
			// Whoever came after the impatient one found its command sent and the outcome not in the read model yet.
			t.Fatal("no outcome")
		}
		require.Equal(t, schemas.EventAllocated, result.Outcome.Type)
	}
	require.Equal(t, 1, came())
}

// Two gateways, one key, two commands: who waits here hears of both, and must not take the other's outcome for its own.
func TestAnotherCommandOfTheKeyMeanwhile(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.decide(t, always(schemas.Event{Type: schemas.EventBatchCreated, BatchRef: "b1"}))
	require.ErrorIs(t, r.keyed(t, command("CHAIR"), patience).Err, ErrKeyReused)
	// Nor is the key taken for that command's here: whose it is may repeat it at this gateway.
	result := r.keyed(t, schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 7}, patience)
	require.NoError(t, result.Err)
	require.Equal(t, schemas.EventBatchCreated, result.Outcome.Type)
}

// The same line, but another quantity: the allocator rejects the second, and the first's success is not the second's.
func TestAnotherQuantityOfTheKeyAtAnotherGateway(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.each(t, func(client *kgo.Client, record *kgo.Record) {
		envelope, _ := cloudevents.Parse(record.Headers)
		first := schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", CommandID: envelope.ID, CommandSource: Source, Last: true, Qty: 3}
		second := first
		second.Type, second.Reason = schemas.EventCommandRejected, "conflicting_command"
		client.Produce(context.Background(), eventRecord(&first), nil)
		client.Produce(context.Background(), eventRecord(&second), nil)
	})
	result := r.keyed(t, command("CHAIR"), patience)
	require.ErrorIs(t, result.Err, ErrKeyReused)
	require.Nil(t, result.Outcome)
}

func TestAnAcceptedCommandIsNotSentAgain(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	came := r.decide(t, always(schemas.Event{}))
	require.Nil(t, r.keyed(t, command("CHAIR"), 0).Outcome)
	require.Eventually(t, func() bool { return came() == 1 }, patience, time.Millisecond)
	require.Nil(t, r.keyed(t, command("CHAIR"), 50*time.Millisecond).Outcome)
	r.past.learn(schemas.Event{Type: schemas.EventOutOfStock, OrderID: "o1"})
	result := r.keyed(t, command("CHAIR"), patience)
	require.Equal(t, schemas.EventOutOfStock, result.Outcome.Type, "its time to be seen on the topic may be over")
	require.Equal(t, 1, came())
}

// unacknowledged sends "k" and lets its client leave before Kafka answers, which it does once proceed is called.
func (r *rig) unacknowledged(t *testing.T) (proceed func()) {
	ctx, leave := context.WithCancel(t.Context())
	silence := make(chan struct{})
	r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		leave()
		r.cluster.SleepControl(func() { <-silence })
		return nil, nil, false
	})
	require.ErrorIs(t, r.Submit(ctx, patience, Request{Command: command("CHAIR"), Key: "k"})[0].Err, context.Canceled)
	return sync.OnceFunc(func() { close(silence) })
}

func TestAnUnacknowledgedCommandIsSentAgain(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	came := r.decide(t, always(schemas.Event{Type: schemas.EventAllocated}))
	proceed := r.unacknowledged(t)
	defer proceed()
	again := make(chan Result, 1)
	go func() { again <- r.Submit(t.Context(), patience, Request{Command: command("CHAIR"), Key: "k"})[0] }()
	require.Eventually(t, func() bool { return r.client.BufferedProduceRecords() == 2 }, patience, time.Millisecond, "nobody knows whether the first arrived")
	proceed()
	result := <-again
	require.NoError(t, result.Err)
	require.Equal(t, schemas.EventAllocated, result.Outcome.Type)
	require.Eventually(t, func() bool { return came() == 2 }, patience, time.Millisecond)
}

// The acknowledgement comes when nobody waits for it any more. A second copy would be allocated, and its client told what the
// first was: that there is no such SKU.
func TestAnAcceptedCommandWhoseClientLeftIsNotSentAgain(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	acknowledged := make(chan struct{}, 2)
	r.Acknowledged = func(string, *kgo.Record) { acknowledged <- struct{}{} }
	r.unacknowledged(t)()
	<-acknowledged
	again := make(chan Result, 1)
	go func() { again <- r.Submit(t.Context(), patience, Request{Command: command("CHAIR"), Key: "k"})[0] }()
	require.Eventually(t, func() bool { return !r.waiters.none() }, patience, time.Millisecond)
	r.decide(t, func(n int) schemas.Event {
		return []schemas.Event{{Type: schemas.EventCommandRejected, Reason: "invalid_sku"}, {Type: schemas.EventAllocated}}[n]
	})
	result := <-again
	require.NoError(t, result.Err)
	require.Equal(t, "invalid_sku", result.Outcome.Reason)
	require.EqualValues(t, 1, r.inKafka(t), "what became of it is what its client was told")
}

func TestTwoWhoWaitForEachOthersKeys(t *testing.T) {
	r := newRigWith(t, ackWait)
	entry, mine, err := r.keys.claim("k", command("CHAIR"))
	require.NoError(t, err)
	require.True(t, mine)
	require.NotNil(t, entry)
	start := time.Now()
	require.ErrorIs(t, r.keyed(t, command("CHAIR"), patience).Err, ErrUnacknowledged)
	require.Less(t, time.Since(start), patience/2)
}

func TestManyAtOnceKeepTheirOrder(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	came := r.decide(t, func(n int) schemas.Event { return schemas.Event{Type: schemas.EventAllocated, Version: uint64(n + 1)} })
	requests := make([]Request, 500)
	for i := range requests {
		requests[i].Command = command("CHAIR")
		if i%7 == 0 {
			requests[i].Key = fmt.Sprint("key-", i)
		}
	}
	for i, result := range r.Submit(t.Context(), patience, requests...) {
		require.NoError(t, result.Err)
		require.EqualValues(t, i+1, result.Outcome.Version)
		if requests[i].Key != "" {
			require.Equal(t, requests[i].Key, result.CommandID)
		}
	}
	require.Equal(t, len(requests), came())
}

func TestTheFirstIsSentWhileLaterKeysAreLookedUp(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	sent := make(chan struct{})
	r.decide(t, func(n int) schemas.Event {
		if n == 0 {
			close(sent)
		}
		return schemas.Event{Type: schemas.EventAllocated}
	})
	r.past.asked = func(ctx context.Context, id string) {
		if id == "last" {
			select {
			case <-sent:
			case <-ctx.Done():
				t.Error("the first was not sent")
			}
		}
	}
	for _, result := range r.Submit(t.Context(), patience, Request{Command: command("CHAIR"), Key: "first"}, Request{Command: command("CHAIR"), Key: "last"}) {
		require.NoError(t, result.Err)
	}
}
