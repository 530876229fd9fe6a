package submit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
)

// past is a read model that knows what the test lets it know.
type past struct {
	mu    sync.Mutex
	known map[string]readmodel.Outcome
	err   error
	asked func(ctx context.Context, id string) // nil: nothing is to be done meanwhile
}

func (p *past) Outcome(ctx context.Context, id string) (readmodel.Outcome, error) {
	if p.asked != nil {
		p.asked(ctx, id)
	}
	if ctx.Err() != nil {
		return readmodel.Outcome{}, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[id], p.err
}

// learn lets the read model have an event as the outcome of the command "k".
func (p *past) learn(e schemas.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = map[string]readmodel.Outcome{"k": {
		CommandID: "k", CommandSource: Source, Type: e.Type.String(), SKU: "CHAIR", OrderID: e.OrderID, BatchRef: e.BatchRef, Reason: e.Reason, Message: e.Message,
	}}
}

// forgetful is another gateway, or this one after a restart.
func (r *rig) forgetful() { r.keys = newKeys(r.past) }

// What the allocator says of a repeat is not what the client was told the first time.
func TestARepeatAtAnotherGatewayHearsOfTheFirst(t *testing.T) {
	allocate := command("CHAIR")
	create := schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 9}
	change := schemas.Command{Type: schemas.CommandChangeBatchQuantity, Ref: "b1", SKU: "CHAIR", Qty: 9}
	ignored := func(reason string) schemas.Event {
		return schemas.Event{Type: schemas.EventCommandIgnored, Reason: reason}
	}
	rejected := func(reason string) schemas.Event {
		return schemas.Event{Type: schemas.EventCommandRejected, Reason: reason}
	}
	tests := map[string]struct {
		cmd     schemas.Command
		first   schemas.Event // as the read model has it
		decided schemas.Event // of the repeat; none = it must not be sent
		want    schemas.EventType
		reused  bool
	}{
		"allocated":          {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", BatchRef: "b7"}, ignored("duplicate_line"), schemas.EventAllocated, false},
		"since moved":        {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", BatchRef: "b7"}, ignored("duplicate_command"), schemas.EventAllocated, false},
		"out of stock":       {allocate, schemas.Event{Type: schemas.EventOutOfStock, OrderID: "o1"}, ignored("duplicate_command"), schemas.EventOutOfStock, false},
		"created":            {create, schemas.Event{Type: schemas.EventBatchCreated, BatchRef: "b1"}, ignored("duplicate_batch"), schemas.EventBatchCreated, false},
		"changed, moved one": {change, schemas.Event{Type: schemas.EventAllocated, OrderID: "o9", BatchRef: "b2"}, ignored("duplicate_command"), schemas.EventAllocated, false},
		"rejected":           {allocate, schemas.Event{Type: schemas.EventCommandRejected, OrderID: "o1", Reason: "invalid_sku"}, schemas.Event{}, schemas.EventCommandRejected, false},
		"ignored":            {allocate, schemas.Event{Type: schemas.EventCommandIgnored, OrderID: "o1", BatchRef: "b1", Reason: "duplicate_line"}, schemas.Event{}, schemas.EventCommandIgnored, false},
		"other order":        {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o2", BatchRef: "b7"}, schemas.Event{}, 0, true},
		"other command":      {create, schemas.Event{Type: schemas.EventBatchQuantityChanged, BatchRef: "b1"}, schemas.Event{}, 0, true},
		"other quantity":     {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", BatchRef: "b7"}, rejected("conflicting_command"), 0, true},
		"other line":         {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", BatchRef: "b7"}, rejected("conflicting_line"), 0, true},
		"other content":      {create, schemas.Event{Type: schemas.EventBatchCreated, BatchRef: "b1"}, rejected("conflicting_batch"), 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.follow(t)
			came := r.decide(t, always(test.decided))
			r.past.learn(test.first)
			result := r.keyed(t, test.cmd, patience)
			if test.decided.Type == 0 {
				require.Zero(t, came())
			}
			if test.reused {
				require.ErrorIs(t, result.Err, ErrKeyReused)
				return
			}
			require.NoError(t, result.Err)
			require.Equal(t, test.want, result.Outcome.Type)
			require.Equal(t, test.first.Reason, result.Outcome.Reason)
			require.EqualValues(t, -1, result.Outcome.Offset, "it is projected")
		})
	}
}

// The first of "k" was refused. By now it could have its effect, and who sends it again leaves while the read model is asked.
func TestWhoLeavesDuringTheLookUpHasNothingSent(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.past.learn(schemas.Event{Type: schemas.EventCommandRejected, OrderID: "o1", Reason: "invalid_sku"})
	ctx, leave := context.WithCancel(t.Context())
	r.past.asked = func(context.Context, string) { leave() }
	for _, result := range r.Submit(ctx, patience, Request{Command: command("CHAIR"), Key: "later"}, Request{Command: command("CHAIR"), Key: "k"}) {
		require.ErrorIs(t, result.Err, context.Canceled)
	}
	require.Zero(t, r.inKafka(t))
	r.past.asked = nil
	require.Equal(t, "invalid_sku", r.keyed(t, command("CHAIR"), patience).Outcome.Reason, "the key is free to be asked for")
	require.Zero(t, r.inKafka(t))
}

func TestAFirstOutcomeThatIsNotProjectedYet(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	came := r.decide(t, always(schemas.Event{Type: schemas.EventCommandIgnored, Reason: "duplicate_command"}))
	asked := 0 // since it is decided
	r.past.asked = func(context.Context, string) {
		if asked += came(); asked == 3 {
			r.past.learn(schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", BatchRef: "b1"})
		}
	}
	result := r.keyed(t, command("CHAIR"), patience)
	require.NoError(t, result.Err)
	require.Equal(t, schemas.EventAllocated, result.Outcome.Type)
}

// untilDecided submits the n-th command, from 1, as a client that leaves when the read model is asked what the first was told,
// which it is once the allocator has answered.
func (r *rig) untilDecided(t *testing.T, n int, came func() int) Result {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r.past.asked = func(context.Context, string) {
		if came() == n {
			leave()
		}
	}
	return r.Submit(ctx, patience, Request{Command: command("CHAIR"), Key: "k"})[0]
}

func TestKeysWithoutTheReadModel(t *testing.T) {
	r := newRig(t)
	r.past.err = errors.New("away")
	r.follow(t)
	came := r.decide(t, func(n int) schemas.Event {
		return []schemas.Event{{Type: schemas.EventAllocated}, {Type: schemas.EventCommandIgnored, Reason: "duplicate_command"}}[n]
	})
	require.Equal(t, schemas.EventAllocated, r.keyed(t, command("CHAIR"), patience).Outcome.Type)
	r.forgetful()
	result := r.untilDecided(t, 2, came)
	require.NoError(t, result.Err)
	require.Nil(t, result.Outcome, "that there was another says nothing of what became of it")
	require.Equal(t, 2, came())
}

// A line that is there already is no "repeat" to the allocator. Nobody can say then what the first was told, and what this
// one is told must not become the answer for good.
func TestWhatARepeatIsToldIsNotRemembered(t *testing.T) {
	r := newRig(t)
	r.past.err = errors.New("away")
	r.follow(t)
	came := r.decide(t, always(schemas.Event{Type: schemas.EventCommandIgnored, Reason: "duplicate_line"}))
	result := r.untilDecided(t, 1, came)
	require.NoError(t, result.Err)
	require.Equal(t, schemas.EventCommandIgnored, result.Outcome.Type)
	r.past.mu.Lock()
	r.past.err = nil
	r.past.mu.Unlock()
	r.past.learn(schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", BatchRef: "b1"})
	require.Equal(t, schemas.EventAllocated, r.keyed(t, command("CHAIR"), patience).Outcome.Type)
	require.Equal(t, 1, came())
}

// A store that keeps no outcomes is not asked again and again.
func TestKeysWithAStoreThatKeepsNoOutcomes(t *testing.T) {
	r := newRig(t)
	r.past.err = readmodel.ErrNotKept
	r.follow(t)
	r.decide(t, always(schemas.Event{Type: schemas.EventCommandIgnored, Reason: "duplicate_line"}))
	start := time.Now()
	for range 3 {
		require.Equal(t, schemas.EventCommandIgnored, r.keyed(t, command("CHAIR"), time.Hour).Outcome.Type)
	}
	require.Less(t, time.Since(start), time.Minute)
	require.EqualValues(t, 1, r.inKafka(t))
}

// claimed claims the keys of n new commands, with a read model that answers as the test says, and returns them and how long
// that took, in a bubble's time.
func claimed(t *testing.T, n int, answer pastFunc) (sendings []*sending, took time.Duration) {
	s := New(nil, commands, ackWait, new(Waiters), answer, nil)
	for i := range n {
		request := &Request{Command: command("CHAIR"), Key: fmt.Sprint("key-", i)}
		sendings = append(sendings, &sending{Submitter: s, request: request, claimed: make(chan struct{})})
	}
	start := time.Now()
	s.claim(t.Context(), sendings)
	return sendings, time.Since(start)
}

type pastFunc func(ctx context.Context, id string) (readmodel.Outcome, error)

func (f pastFunc) Outcome(ctx context.Context, id string) (readmodel.Outcome, error) {
	return f(ctx, id)
}

func TestASlowReadModelIsAskedForEveryKeyOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer = pastWait * 9 / 10
		sendings, took := claimed(t, 2*readmodel.KeysMax, func(ctx context.Context, id string) (readmodel.Outcome, error) {
			select {
			case <-time.After(answer):
			case <-ctx.Done():
				return readmodel.Outcome{}, ctx.Err()
			}
			return readmodel.Outcome{
				CommandID: id, CommandSource: Source, Type: schemas.EventCommandRejected.String(), SKU: "CHAIR", OrderID: "o1", Reason: "unknown_sku",
			}, nil
		})
		for i, one := range sendings {
			require.True(t, one.settled, "%d would be sent, and might not be refused now", i)
			require.NoError(t, one.result.Err)
			require.Equal(t, "unknown_sku", one.result.Outcome.Reason)
		}
		require.Equal(t, 2*answer, took)
	})
}

func TestAReadModelThatHangsHoldsACallUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		sendings, took := claimed(t, 2*keysAtOnceMax, func(ctx context.Context, _ string) (readmodel.Outcome, error) {
			asked.Add(1)
			<-ctx.Done()
			return readmodel.Outcome{}, ctx.Err()
		})
		for _, one := range sendings {
			require.False(t, one.settled, "it is to be sent")
			require.NotNil(t, one.key)
		}
		require.EqualValues(t, keysAtOnceMax, asked.Load())
		require.Equal(t, pastWait, took)
	})
}
