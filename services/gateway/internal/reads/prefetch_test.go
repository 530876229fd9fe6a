package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// prefetching runs prefetchAll in a bubble of fake time, with a tail that proves where it is, until the test ends.
func prefetching(t *testing.T, r *Reader, c *Cache) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.prefetchAll(ctx) }()
	t.Cleanup(func() {
		stop()
		synctest.Wait()
		require.NoError(t, <-done)
	})
	synctest.Wait()
	c.Current(time.Now())
}

// kept requires that memory answers for each SKU with the newest state.
func kept(t *testing.T, s *shop, c *Cache) {
	t.Helper()
	c.Current(time.Now())
	for sku := range s.history {
		e, ok := c.get(sku)
		require.True(t, ok, sku)
		require.Equal(t, s.newest(sku), e)
	}
}

func manySKUs(s *shop, n int) {
	for i := range n {
		s.publish(0, fmt.Sprintf("SKU-%03d", i), "b1", 40)
	}
	s.projectAll()
}

func TestWhatNobodyAskedForIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(1)
		s.listMax = 10
		manySKUs(s, 25)
		r, c := s.reader()
		prefetching(t, r, c)
		require.Zero(t, s.lists, "nothing could be kept before it is known that all is projected")
		s.sweep(t, c)
		time.Sleep(sweepInterval)
		synctest.Wait()
		kept(t, s, c)
		require.Equal(t, 4, s.lists)
		require.Zero(t, s.queries)

		// The tail begins again.
		s.publish(0, "SKU-007", "b2", 9)
		c.Began(s.ends())
		s.delivered[0] = len(s.log[0])
		s.projectAll()
		s.sweep(t, c)
		time.Sleep(sweepInterval)
		synctest.Wait()
		kept(t, s, c)

		// The entries never get too old to be answered, although no event says anything.
		for range 4 * int(lifetime/time.Minute) {
			time.Sleep(time.Minute)
			synctest.Wait()
			kept(t, s, c)
		}
		require.Zero(t, s.queries)
	})
}

// While a list is on its way the tail says more: what comes home is old, and nothing would ever put it right.
func TestTheFillRaceOfAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(1)
		manySKUs(s, 3)
		r, c := s.reader()
		s.sweep(t, c)
		s.listed = func() {
			s.listed = nil
			s.publish(0, "SKU-001", "b1", 39)
			s.deliverAll(c)
		}
		prefetching(t, r, c)
		kept(t, s, c)

		// More than can be known again is forgotten meanwhile.
		s.projectAll()
		s.listed = func() {
			s.listed = nil
			s.publish(0, "SKU-002", "b1", 39)
			s.deliverAll(c)
			s.projectAll()
			s.sweep(t, c)
			s.sweep(t, c)
		}
		c.Began(s.ends())
		s.sweep(t, c)
		time.Sleep(sweepInterval)
		synctest.Wait()
		c.Current(time.Now())
		_, ok := c.get("SKU-002")
		require.False(t, ok)
		require.EqualValues(t, 2, answer(t, r, "SKU-002").Version)
	})
}

// shelf is a store with very many SKUs, of which each has as many batches, that can list them.
type shelf struct {
	readmodel.Reader
	mu            sync.Mutex // of what follows
	skus, batches int
	err           error
	bad           int // which SKU no list may have; 0: none
	lists         []listed
}

// listed is what was asked for, and what was answered.
type listed struct {
	at                   time.Time
	limit, skus, batches int
}

func (*shelf) Name() string { return "shelf" }

func (s *shelf) List(_ context.Context, after string, limit, batches int) ([]readmodel.Availability, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists = append(s.lists, listed{at: time.Now(), limit: limit})
	asked := &s.lists[len(s.lists)-1]
	if s.err != nil {
		return nil, s.err
	}
	next := 1
	if after != "" {
		last, err := strconv.Atoi(after)
		if err != nil {
			return nil, err
		}
		next = last + 1
	}
	var found []readmodel.Availability
	for ; next <= s.skus && asked.skus < limit && asked.batches < batches; next++ {
		if next == s.bad {
			return nil, errors.New("planted")
		}
		found = append(found, readmodel.Availability{SKU: fmt.Sprintf("%06d", next), Version: 1, Batches: make([]readmodel.Batch, s.batches)})
		asked.skus++
		asked.batches += s.batches
	}
	return found, nil
}

// change is for what the test changes while the reader prefetches.
func (s *shelf) change(fn func()) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// reader prefetches from the shelf, in a bubble of fake time, until the test ends.
func (s *shelf) reader(t *testing.T) *Cache {
	metrics := NewMetrics(prometheus.NewRegistry())
	c := NewCache(64<<20, metrics)
	c.Began(nil)
	for range 2 {
		require.NoError(t, c.sweep(t.Context(), nil))
	}
	prefetching(t, New(s, c, time.Second, metrics, slog.New(slog.DiscardHandler)), c)
	return c
}

// requireKept requires that memory answers for the first n SKUs.
func (s *shelf) requireKept(t *testing.T, c *Cache, n int) {
	t.Helper()
	synctest.Wait()
	c.Current(time.Now())
	for i := range n {
		_, ok := c.get(fmt.Sprintf("%06d", i+1))
		require.True(t, ok, i+1)
	}
}

// An outage says nothing of how many SKUs are too many for one answer.
func TestListsAreLongAgainAfterAnOutage(t *testing.T) {
	for _, outage := range []time.Duration{13 * time.Second, 10 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{skus: 40_000, batches: 1, err: errors.New("planted")}
				c := s.reader(t)
				time.Sleep(outage)
				synctest.Wait()
				require.Greater(t, len(s.lists), 3)
				require.LessOrEqual(t, len(s.lists), 4+int(outage/retryPauseMax), "they wait for longer and longer")
				require.Zero(t, count(c))
				s.change(func() { s.err, s.lists = nil, nil })
				time.Sleep(retryPauseMax)
				s.requireKept(t, c, s.skus)
				doublings := bits.Len(readmodel.ListMax)
				require.LessOrEqual(t, len(s.lists), s.skus/readmodel.ListMax+doublings+1)
			})
		})
	}
}

// A SKU that no list may have does not keep those before it from being asked for again.
func TestAPassDoesNotStandStillForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{skus: 2000, batches: 1, bad: 1001}
		c := s.reader(t)
		time.Sleep(time.Minute)
		for range 5 * int(lifetime/time.Minute) {
			s.requireKept(t, c, 1000)
			time.Sleep(time.Minute)
		}
		s.change(func() { s.bad = 0 })
		time.Sleep(retryPauseMax)
		s.requireKept(t, c, s.skus)
	})
}

func TestAListHasNotTooManyBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{skus: 1000, batches: 300}
		c := s.reader(t)
		s.requireKept(t, c, s.skus)
		for i, l := range s.lists {
			require.Less(t, l.batches, listBatches+s.batches)
			if i > 0 {
				require.LessOrEqual(t, l.limit, 2*s.lists[i-1].skus, "what would be cut off again is not asked for")
			}
		}
		require.LessOrEqual(t, len(s.lists), s.skus*s.batches/listBatches+1)
	})
}

// Gateways that were started together would otherwise ask for everything at the same time for ever.
func TestPassesAreNotInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(shelf)
		s.reader(t)
		time.Sleep(20 * passInterval)
		synctest.Wait()
		intervals := map[time.Duration]bool{}
		for i := 1; i < len(s.lists); i++ {
			interval := s.lists[i].at.Sub(s.lists[i-1].at)
			require.InEpsilon(t, passInterval, interval, 0.2)
			intervals[interval] = true
		}
		require.Greater(t, len(intervals), 10)
	})
}

func TestPrefetchLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{skus: 150_000, batches: 32}
		c := s.reader(t)
		time.Sleep(passInterval)
		synctest.Wait()
		kept, _, room := c.entries.usage()
		require.InDelta(t, 0.1, room, 0.01)
		require.Less(t, kept, s.skus, "there are more")

		// They have more batches, and so does the memory less room: the next pass does not begin.
		s.change(func() { s.batches, s.lists = 40, nil })
		time.Sleep(passInterval * 2)
		synctest.Wait()
		s.change(func() { require.Empty(t, s.lists) })
	})
}
