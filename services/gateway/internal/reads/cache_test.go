package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

func TestAnAnswerIsKeptUpToDateByEvents(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b2", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
	for i, ref := range []string{"b1", "b2", "", "b3", "b1"} { // the projector stands still
		s.publish(0, "CHAIR", ref, int32(i))
		s.deliverAll(c)
		require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
	}
	require.Equal(t, 1, s.queries)

	s.err = errors.New("planted")
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"), "the store is away")
	_, err := r.Availability(t.Context(), "CHAIR", "LAMP")
	require.ErrorIs(t, err, ErrUnavailable)
}

// The store answers with what it was before the events that the tail has passed; nothing else would ever put it right.
func TestTheFillRace(t *testing.T) {
	s, r, c := stocked(t, 1)
	s.publish(0, "CHAIR", "b2", 9)
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c) // with the projector standing still
	for range 3 {   // however long
		s.sweep(t, c)
		require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
		c.entries.clear() // as if others had needed the room
	}
	s.projectAll()
	s.sweep(t, c)
	require.Empty(t, c.recent.skus, "nothing is kept for longer than it takes")
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
}

// A question reads v1; v2 is published, delivered, projected and forgotten before its answer is back.
func TestASlowQuestionDoesNotBringBackWhatWasForgotten(t *testing.T) {
	s, _, c := stocked(t, 1)
	since := c.asking()
	before, err := s.Availability(t.Context(), []string{"CHAIR"})
	require.NoError(t, err)
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c)
	s.projectAll()
	s.sweep(t, c)
	require.Empty(t, c.recent.skus)
	require.True(t, c.answered(since, []string{"CHAIR"}, before)["CHAIR"].behind)
	_, kept := c.get("CHAIR")
	require.False(t, kept)
}

// Events before the tail began are not known to it, and the store may not have them.
func TestNothingIsKeptBeforeTheStoreHasWhatTheTailHasNot(t *testing.T) {
	s := newShop(2)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	s.publish(0, "CHAIR", "b1", 39)
	s.publish(1, "LAMP", "b1", 5)
	r, c := s.reader()
	s.sweep(t, c)
	require.EqualValues(t, 1, answer(t, r, "CHAIR").Version, "as without a cache")
	s.projected[0] = 2
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
	require.Zero(t, count(c), "any partition may have events of any SKU")
	s.projectAll()
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
	require.Equal(t, 1, count(c))
}

// v3 comes, v2 is in neither the store nor what the tail said: v1 is known to be old, and v3 is not known.
func TestWhatIsKnownToBeOldIsNotAnswered(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	s.publish(0, "CHAIR", "b2", 9)
	r, c := s.reader()
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c)
	start := time.Now()
	_, err := r.Availability(t.Context(), "CHAIR")
	require.ErrorIs(t, err, ErrBehind)
	require.ErrorIs(t, err, ErrUnavailable)
	require.Less(t, time.Since(start), 2*time.Second)
	s.projected[0] = 2
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"), "the store has v2, and the tail v3")
}

func TestAQuestionThatIsAskedAnewIsNotAnsweredFromMemory(t *testing.T) {
	s, r, _ := stocked(t, 1)
	answer(t, r, "CHAIR")
	s.publish(0, "CHAIR", "b1", 39) // the tail is not there yet
	s.projectAll()
	require.EqualValues(t, 1, answer(t, r, "CHAIR").Version)
	found, err := r.Availability(Anew(t.Context()), "CHAIR")
	require.NoError(t, err)
	require.EqualValues(t, 2, found[0].Version)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "and others are not told less")
}

// The row of the SKU is there before that of its batch.
func TestATornAnswerIsPutRight(t *testing.T) {
	for name, first := range map[string]bool{"by what the tail has said": true, "by what it says": false} {
		t.Run(name, func(t *testing.T) {
			s := newShop(1)
			s.publish(0, "CHAIR", "b1", 40)
			s.publish(0, "CHAIR", "b2", 7)
			s.projectAll()
			r, c := s.reader()
			s.sweep(t, c)
			s.publish(0, "CHAIR", "b1", 39)
			s.torn, s.projected[0] = true, 3
			if first {
				s.deliverAll(c)
			}
			answer(t, r, "CHAIR")
			s.deliverAll(c)
			e, kept := c.get("CHAIR")
			require.True(t, kept)
			require.Equal(t, s.newest("CHAIR"), e)
		})
	}
}

// The projector stands still until there is no room any more for what it does not have.
func TestNoRoomToRemember(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.publish(0, "LAMP", "b1", 5)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	s.publish(0, "CHAIR", "b1", 39)
	s.publish(0, "LAMP", "b1", 4)
	s.deliverAll(c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
	for i := 0; c.recent.raised == 1; i++ {
		require.Less(t, i, CacheBytesMin/changesBytes)
		s.publish(0, fmt.Sprint("sku", i), "b1", 1)
		s.deliver(c, 0)
	}
	require.LessOrEqual(t, c.recent.bytes, c.recent.bytesMax)
	c.Current(time.Now())
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "it is kept up to date")
	c.entries.clear()
	_, err := r.Availability(t.Context(), "CHAIR")
	require.ErrorIs(t, err, ErrBehind, "v2 was answered, and the store has v1")
	c.Event(&s.log[0][0], 0, 0) // published twice
	_, err = r.Availability(t.Context(), "CHAIR")
	require.ErrorIs(t, err, ErrBehind)
	require.EqualValues(t, 1, answer(t, r, "LAMP").Version, "nobody was told of v2")
	_, kept := c.get("LAMP")
	require.False(t, kept)

	s.projectAll()
	s.sweep(t, c)
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
	require.EqualValues(t, 2, answer(t, r, "LAMP").Version)
	c.Current(time.Now())
	_, kept = c.get("LAMP")
	require.True(t, kept)
	require.Zero(t, slices.Max(c.recent.lost.bits))
}

// What is given up while the store is asked is projected before the answer is there, and a sweep has seen that.
func TestAQuestionDoesNotBringBackWhatWasGivenUpMeanwhile(t *testing.T) {
	s, r, c := stocked(t, 1)
	c.recent.bytesMax = 3 * changesBytes / 2 // one SKU
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
	c.entries.clear()
	since := c.asking()
	stored := must(s.Availability(t.Context(), []string{"CHAIR"}))
	require.EqualValues(t, 1, stored["CHAIR"].Version)
	s.publish(0, "LAMP", "b1", 5)
	s.deliverAll(c)
	require.Empty(t, c.recent.skus)
	s.projectAll()
	require.NoError(t, c.sweep(t.Context(), s.offsets))
	require.True(t, c.answered(since, []string{"CHAIR"}, stored)["CHAIR"].behind, "v2 was answered")
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
}

func TestAStoreWithoutVersionsAndAnOrderOfItsOwn(t *testing.T) {
	c := newTestCache()
	c.Began(nil)
	require.NoError(t, c.sweep(t.Context(), nil))
	c.Current(time.Now())
	stored := readmodel.Availability{SKU: "CHAIR", Version: 5, Available: 7, Batches: []readmodel.Batch{
		{Ref: "b", Qty: 9, Available: 3}, {Ref: "B", Qty: 9, Available: 4}, // as a collation has it
	}}
	c.answered(c.asking(), []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": stored})
	require.EqualValues(t, 0, stored.Batches[0].Version, "what others read is not changed")
	c.Event(&schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", Version: 5, BatchRef: "b", BatchQty: 9, BatchAvailable: 3, Available: 7}, 0, 0)
	c.Event(&schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", Version: 6, BatchRef: "B", BatchQty: 9, BatchAvailable: 2, Available: 5}, 0, 1)
	e, kept := c.get("CHAIR")
	require.True(t, kept)
	require.Equal(t, readmodel.Availability{SKU: "CHAIR", Version: 6, Available: 5, Batches: []readmodel.Batch{
		{Ref: "B", Qty: 9, Available: 2, Version: 6}, {Ref: "b", Qty: 9, Available: 3, Version: 5},
	}}, e)
	require.NoError(t, c.sweep(t.Context(), nil))
	require.NoError(t, c.sweep(t.Context(), nil))
	require.Empty(t, c.recent.skus, "what is published is in the store already")
}

func TestEntriesAreAskedForAgain(t *testing.T) {
	_, r, c := stocked(t, 1)
	answer(t, r, "CHAIR")
	known, kept := c.get("CHAIR")
	require.True(t, kept)
	c.put(&entry{Availability: known, filled: c.time() - lifetime})
	_, kept = c.get("CHAIR")
	require.False(t, kept)
	answer(t, r, "CHAIR")
	_, kept = c.get("CHAIR")
	require.True(t, kept)
}

func TestWhatIsTooLargeIsNotKept(t *testing.T) {
	c := NewCache(256<<20, NewMetrics(prometheus.NewRegistry())) // which has room for it
	c.Began(nil)
	require.NoError(t, c.sweep(t.Context(), nil))
	a := readmodel.Availability{SKU: "CHAIR", Version: 1}
	for i := range entryBytesMax / batchBytes {
		a.Batches = append(a.Batches, readmodel.Batch{Ref: fmt.Sprintf("%05d", i), Version: 1})
	}
	require.Equal(t, a, c.answered(c.asking(), []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": a})["CHAIR"].Availability)
	require.Zero(t, count(c))
}

func TestFollowSaysWhatItCannotAsk(t *testing.T) {
	c := newTestCache()
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan struct{})
	done := make(chan error)
	go func() {
		done <- c.Follow(ctx, func(context.Context) (map[int32]int64, error) {
			select {
			case asked <- struct{}{}:
			case <-ctx.Done():
			}
			return nil, errors.New("planted")
		}, slog.New(slog.DiscardHandler))
	}()
	<-asked
	<-asked // it goes on asking
	stop()
	require.NoError(t, <-done)
	require.Zero(t, c.recent.sweeps)
	require.Zero(t, testutil.ToFloat64(c.metrics.admitted))
}
