package reads

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
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
		require.Equal(t, s.newest(sku), e.Availability)
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
		c.Began(s.ends())
		s.projectAll()
		s.sweep(t, c)
		s.listed = func() {
			s.listed = nil
			s.publish(0, "SKU-002", "b1", 39)
			s.deliverAll(c)
			s.projectAll()
			s.sweep(t, c)
			s.sweep(t, c)
		}
		time.Sleep(sweepInterval)
		synctest.Wait()
		c.Current(time.Now())
		_, ok := c.get("SKU-002")
		require.False(t, ok)
		require.EqualValues(t, 2, answer(t, r, "SKU-002").Version)
	})
}

func TestAListThatFailsIsAskedForAgainAndShorter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(1)
		manySKUs(s, 5)
		r, c := s.reader()
		s.sweep(t, c)
		s.err = errors.New("planted")
		prefetching(t, r, c)
		time.Sleep(20 * sweepInterval)
		require.Greater(t, s.lists, 15)
		require.Zero(t, c.entries.EstimatedSize())
		s.err = nil
		s.lists = 0
		time.Sleep(2 * sweepInterval)
		synctest.Wait()
		kept(t, s, c)
		require.Equal(t, 6, s.lists, "one by one: they may have been too much")
	})
}

func TestPrefetchLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(1)
		manySKUs(s, 300)
		r, c := s.reader()
		c.entries.SetMaximum(100 * (entryBytes + batchBytes))
		s.sweep(t, c)
		s.listMax = 5
		prefetching(t, r, c)
		time.Sleep(sweepInterval)
		c.entries.CleanUp()
		require.Less(t, s.lists, 30, "of 60")
		require.Greater(t, c.entries.EstimatedSize(), 50)
	})
}
