package submit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// published is how many events there are.
func (r *rig) published() (n int64) {
	for partition := range int32(3) {
		n += r.cluster.PartitionInfo(events, partition).HighWatermark
	}
	return n
}

// Whoever left before the outcome was there sends the command again, as keys are for. The read model may keep no outcomes, and
// what the tail said when nobody waited it does not say again.
func TestWhoLeftHearsWhatTheTailSaidMeanwhile(t *testing.T) {
	tests := map[string]struct {
		wait, again time.Duration // of the first and of the repeats
		decided     schemas.Event
		reused      bool
	}{
		"left":          {patience, patience, schemas.Event{Type: schemas.EventAllocated}, false},
		"did not wait":  {0, patience, schemas.Event{Type: schemas.EventOutOfStock}, false},
		"never waits":   {0, 0, schemas.Event{Type: schemas.EventAllocated}, false},
		"refused":       {0, patience, schemas.Event{Type: schemas.EventCommandRejected, Reason: "invalid_sku"}, false},
		"a repeat":      {0, patience, schemas.Event{Type: schemas.EventCommandIgnored, Reason: "duplicate_line"}, false},
		"other command": {0, patience, schemas.Event{Type: schemas.EventCommandRejected, Reason: "conflicting_command"}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.past.err = readmodel.ErrNotKept
			r.follow(t)
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan struct{})
			r.Acknowledged = func(string, *kgo.Record) { leave() }
			came := r.decide(t, func(int) schemas.Event { <-left; return test.decided })
			first := r.Submit(ctx, test.wait, Request{Command: command("CHAIR"), Key: "k"})[0]
			require.Nil(t, first.Outcome)
			close(left)
			require.Eventually(t, func() bool { return r.published() == 1 }, patience, time.Millisecond)
			for partition := range int32(3) {
				r.requireRead(t, partition) // the tail is past it
			}
			require.True(t, r.waiters.none())
			for range 2 {
				result := r.keyed(t, command("CHAIR"), test.again)
				if test.reused {
					require.ErrorIs(t, result.Err, ErrKeyReused)
					return
				}
				require.NoError(t, result.Err)
				require.NotNil(t, result.Outcome, "pending, however often it is asked")
				require.Equal(t, test.decided.Type, result.Outcome.Type)
			}
			require.Equal(t, 1, came())
		})
	}
}

// Without a cache the tail decodes while somebody waits. For a key whose outcome never comes it does not wait for ever.
func TestAForgottenKeyIsNotWaitedFor(t *testing.T) {
	r := newRig(t)
	claim := func(id string) *key {
		entry, mine, err := r.keys.claim(id, command("CHAIR"))
		require.NoError(t, err)
		require.True(t, mine)
		r.keys.listen(id, entry, r.waiters)
		return entry
	}
	idle, busy := claim("idle"), claim("busy")
	r.keys.release("idle", idle, nil, nil, false)
	for i := range keysMax {
		id := fmt.Sprint(i)
		r.keys.release(id, claim(id), &Outcome{}, nil, false)
	}
	require.Len(t, r.waiters.waiting, 1)
	require.Contains(t, r.waiters.waiting, "busy", "somebody waits")
	r.keys.release("busy", busy, nil, nil, false)
	require.True(t, r.waiters.none())
}
