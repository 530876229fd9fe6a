package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store knows the same number of lines of each order but those called nobody's, and counts its queries.
type store struct {
	readmodel.Reader
	err   error
	lines int           // of an order
	takes time.Duration // a query, in a bubble's time

	mu      sync.Mutex
	queries [][]string
}

func (s *store) Name() string { return "store" }

func (s *store) Orders(_ context.Context, orderIDs []string) (map[string][]readmodel.Allocation, error) {
	s.mu.Lock()
	s.queries = append(s.queries, slices.Clone(orderIDs))
	s.mu.Unlock()
	time.Sleep(s.takes)
	found := map[string][]readmodel.Allocation{}
	for _, id := range orderIDs {
		if id != "nobody's" {
			found[id] = slices.Repeat([]readmodel.Allocation{{BatchRef: "of " + id}}, s.lines)
		}
	}
	return found, s.err
}

func (s *store) Lines(_ context.Context, keys []readmodel.LineKey) (map[readmodel.LineKey]readmodel.Line, error) {
	found := map[readmodel.LineKey]readmodel.Line{}
	for _, key := range keys {
		s.queries = append(s.queries, []string{key.OrderID, key.SKU})
		if key.OrderID != "nobody's" {
			found[key] = readmodel.Line{OrderID: key.OrderID, SKU: key.SKU, BatchRef: "b"}
		}
	}
	return found, s.err
}

func (s *store) Outcomes(context.Context, []string) (map[string]readmodel.Outcome, error) {
	return nil, s.err
}

func newReader(s *store) *Reader {
	return New(s, nil, time.Second, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
}

func TestManyQuestionsAreFewQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{lines: 2, takes: time.Millisecond} // which is over when all others queue
		r := newReader(s)
		var group errgroup.Group
		for i := range 500 {
			group.Go(func() error {
				id := fmt.Sprint("o", i)
				lines, err := r.Allocations(t.Context(), id)
				if err == nil && (len(lines) != 2 || lines[0].BatchRef != "of "+id) {
					err = fmt.Errorf("the lines of %q are %v", id, lines)
				}
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.LessOrEqual(t, len(s.queries), queriesAtOnce+1, "the first few, and one of all that queued meanwhile")
		lines, err := r.Allocations(t.Context(), "nobody's")
		require.NoError(t, err)
		require.Empty(t, lines)
	})
}

func TestOrderOfTooManyLines(t *testing.T) {
	lines, err := newReader(&store{lines: readmodel.OrderLinesMax}).Allocations(t.Context(), "o1")
	require.NoError(t, err)
	require.Len(t, lines, readmodel.OrderLinesMax)
	_, err = newReader(&store{lines: readmodel.OrderLinesMax + 1}).Allocations(t.Context(), "o1")
	require.ErrorIs(t, err, ErrTooLarge)
}

// An order that is answered whole may have more lines than a query may have keys.
func TestLines(t *testing.T) {
	var keys, want []readmodel.LineKey
	for i := range 2*readmodel.KeysMax + 1 {
		key := readmodel.LineKey{OrderID: "o1", SKU: fmt.Sprint("LAMP-", i)}
		if i%2 == 1 {
			key.OrderID = "nobody's"
		} else {
			want = append(want, key)
		}
		keys = append(keys, key)
	}
	s := new(store)
	lines, err := newReader(s).Lines(t.Context(), keys...)
	require.NoError(t, err)
	got := make([]readmodel.LineKey, len(lines))
	for i, l := range lines {
		got[i] = readmodel.LineKey{OrderID: l.OrderID, SKU: l.SKU}
	}
	require.Equal(t, want, got)
	require.Len(t, s.queries, len(keys), "each once")
	_, err = newReader(&store{err: errors.New("planted")}).Lines(t.Context(), keys...)
	require.ErrorIs(t, err, ErrUnavailable)
}

func TestStoreAway(t *testing.T) {
	r := newReader(&store{err: errors.New("planted")})
	_, err := r.Allocations(t.Context(), "o1")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "planted")
	_, err = r.Outcome(t.Context(), "c1")
	require.ErrorIs(t, err, ErrUnavailable)
	_, err = newReader(&store{err: fmt.Errorf("wrapped: %w", readmodel.ErrNotKept)}).Outcome(t.Context(), "c1")
	require.ErrorIs(t, err, readmodel.ErrNotKept)
	require.NotErrorIs(t, err, ErrUnavailable, "asking again would not help")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Allocations(ctx, "o1")
	require.Equal(t, context.Canceled, err, "a client that left says nothing about the store")
}

// slow answers no question about availability before a query's time is over.
type slow struct{ store }

func (s *slow) Availability(ctx context.Context, _ []string) (map[string]readmodel.Availability, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// alone is asked about availability by one query at a time, or says by how many.
type alone struct {
	store
	running, most int // guarded by mu
}

func (a *alone) Availability(_ context.Context, skus []string) (map[string]readmodel.Availability, error) {
	a.mu.Lock()
	a.running++
	a.most = max(a.most, a.running)
	a.mu.Unlock()
	time.Sleep(time.Millisecond)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	return map[string]readmodel.Availability{skus[0]: {SKU: skus[0], Version: 1}}, nil
}

// Two answers of the store about one SKU could come home in the wrong order, and the older one be kept. Where nothing is kept,
// each goes to those who asked before it.
func TestWhatIsKeptIsAskedForByOneQueryAtATime(t *testing.T) {
	for name, c := range map[string]struct {
		cache *Cache
		most  int
	}{
		"kept":     {NewCache(1<<20, NewMetrics(prometheus.NewRegistry())), 1},
		"not kept": {nil, queriesAtOnce},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &alone{}
				r := New(a, c.cache, time.Second, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
				var group errgroup.Group
				for i := range 20 {
					group.Go(func() error { _, err := r.Availability(t.Context(), fmt.Sprint("S", i)); return err })
				}
				require.NoError(t, group.Wait())
				require.Equal(t, c.most, a.most)
			})
		})
	}
}

// A list has read v1 and is on its way. A question beside it is answered v2, which the tail has not said yet; nothing keeps v2.
func TestAListBesideAQuestionTakesNoVersionBack(t *testing.T) {
	for name, whole := range map[string]bool{"asked too soon to be kept": false, "kept, and made room for others": true} {
		t.Run(name, func(t *testing.T) {
			s := newShop(1)
			s.publish(0, "CHAIR", "b1", 40)
			s.projectAll()
			r, c := s.reader()
			if whole {
				s.sweep(t, c)
			}
			since := c.asking()
			require.NoError(t, c.sweep(t.Context(), s.offsets))
			s.listed = func() {
				s.listed = nil
				s.publish(0, "CHAIR", "b1", 39)
				s.projectAll()
				stored := must(s.Availability(t.Context(), []string{"CHAIR"}))
				require.EqualValues(t, 2, c.answered(since, []string{"CHAIR"}, stored)["CHAIR"].Version)
				c.entries.clear()
			}
			_, found, err := r.prefetch(t.Context(), "", 10)
			require.NoError(t, err)
			require.Equal(t, 1, found)
			require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
		})
	}
}

// Who asks while a query hangs would have to wait for that one and then for his own.
func TestAvailabilityIsWaitedForNoLongerThanAQueryMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(new(slow), nil, time.Second, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
		go func() { _, _ = r.Availability(t.Context(), "CHAIR") }()
		time.Sleep(time.Second / 2)
		start := time.Now()
		_, err := r.Availability(t.Context(), "LAMP")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(time.Second) // the query of LAMP ends too
	})
}
