package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// shop is a read model and the events that it is made of. What is published is delivered to the cache, and projected, when
// the test says so.
type shop struct {
	readmodel.Reader
	history map[string][]readmodel.Availability // by SKU and version

	log       [][]schemas.Event // by partition
	delivered []int
	projected []int
	committed []int // as the projectors said last
	torn      bool  // what the store says of SKUs is of all that is projected, of batches of one less, until that is committed
	err       error // of the store
	queries   int
}

func newShop(partitions int) *shop {
	return &shop{
		history: map[string][]readmodel.Availability{}, log: make([][]schemas.Event, partitions),
		delivered: make([]int, partitions), projected: make([]int, partitions), committed: make([]int, partitions),
	}
}

// publish appends the SKU's next event: what is left of a batch, or, with no batch, an order that could not be allocated.
func (s *shop) publish(partition int, sku, ref string, left int32) {
	versions := s.history[sku]
	last := readmodel.Availability{SKU: sku}
	if len(versions) > 0 {
		last = versions[len(versions)-1]
	}
	next := readmodel.Availability{SKU: sku, Version: last.Version + 1}
	e := schemas.Event{Type: schemas.EventOutOfStock, SKU: sku, Version: next.Version, BatchRef: ref}
	next.Batches = last.Batches
	if ref != "" {
		e.Type, e.BatchQty, e.BatchAvailable, e.ETA = schemas.EventAllocated, 1000, left, etas[ref]
		next.Batches, _ = withBatch(last.Batches, batchOf(&e))
	}
	for _, b := range next.Batches {
		next.Available += int64(b.Available)
	}
	e.Available = next.Available
	s.history[sku] = append(versions, next)
	s.log[partition] = append(s.log[partition], e)
}

var etas = map[string]string{"b1": "", "b2": "2031-01-02", "b3": ""}

func (s *shop) newest(sku string) readmodel.Availability {
	return s.history[sku][len(s.history[sku])-1]
}

// deliver hands the next event of a partition over.
func (s *shop) deliver(c *Cache, partition int) bool {
	n := s.delivered[partition]
	if n == len(s.log[partition]) {
		return false
	}
	s.delivered[partition]++
	c.Event(&s.log[partition][n], int32(partition), int64(n))
	return true
}

func (s *shop) deliverAll(c *Cache) {
	for partition := range s.log {
		for s.deliver(c, partition) {
		}
	}
	c.Current(time.Now())
}

func (s *shop) projectAll() {
	for partition := range s.log {
		s.projected[partition] = len(s.log[partition])
	}
}

// offsets is what the projectors have committed.
func (s *shop) offsets(context.Context) (map[int32]int64, error) {
	offsets := map[int32]int64{}
	for partition, n := range s.projected {
		if s.torn { // a block that is half written is not committed
			n = max(n-1, s.committed[partition])
		}
		s.committed[partition], offsets[int32(partition)] = n, int64(n)
	}
	return offsets, nil
}

func (s *shop) ends() map[int32]int64 {
	ends := map[int32]int64{}
	for partition, log := range s.log {
		ends[int32(partition)] = int64(len(log))
	}
	return ends
}

func (s *shop) Name() string { return "shop" }

// Availability is what a store says that keeps the newest row of each key.
func (s *shop) Availability(_ context.Context, skus []string) (map[string]readmodel.Availability, error) {
	s.queries++
	found := map[string]readmodel.Availability{}
	for _, sku := range skus {
		var a readmodel.Availability
		batches := map[string]readmodel.Batch{}
		for partition, log := range s.log {
			for n, e := range log[:s.projected[partition]] {
				if e.SKU != sku {
					continue
				}
				if e.Version > a.Version {
					a.SKU, a.Version, a.Available = sku, e.Version, e.Available
				}
				if s.torn && n == s.projected[partition]-1 && n >= s.committed[partition] {
					continue
				}
				if e.BatchRef != "" && e.Version > batches[e.BatchRef].Version {
					batches[e.BatchRef] = batchOf(&e)
				}
			}
		}
		if a.Version > 0 {
			a.Batches = slices.SortedFunc(maps.Values(batches), byETA)
			found[sku] = a
		}
	}
	return found, s.err
}

func newTestCache() *Cache { return NewCache(CacheBytesMin, NewMetrics(prometheus.NewRegistry())) }

// reader asks the shop, with a cache whose tail has begun where the log is.
func (s *shop) reader() (*Reader, *Cache) {
	metrics := NewMetrics(prometheus.NewRegistry())
	c := NewCache(CacheBytesMin, metrics)
	c.Began(s.ends())
	for partition := range s.log {
		s.delivered[partition] = len(s.log[partition])
	}
	c.Current(time.Now())
	return New(s, c, time.Second, metrics, slog.New(slog.DiscardHandler)), c
}

// sweep asks how far the shop is, as often as it takes to forget what is projected.
func (s *shop) sweep(t require.TestingT, c *Cache) {
	for range 2 {
		require.NoError(t, c.sweep(context.Background(), s.offsets))
	}
}

// answer is what a client is told of a SKU.
func answer(t *testing.T, r *Reader, sku string) readmodel.Availability {
	t.Helper()
	found, err := r.Availability(t.Context(), sku)
	require.NoError(t, err)
	return found[sku]
}

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
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	s.publish(0, "CHAIR", "b2", 9)
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c) // with the projector standing still
	for range 3 {   // however long
		s.sweep(t, c)
		require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
		c.entries.InvalidateAll() // as if others had needed the room
	}
	s.projectAll()
	s.sweep(t, c)
	require.Empty(t, c.recent.skus, "nothing is kept for longer than it takes")
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
}

// A question reads v1; v2 is published, delivered, projected and forgotten before its answer is back.
func TestASlowQuestionDoesNotBringBackWhatWasForgotten(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	_, c := s.reader()
	s.sweep(t, c)
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
	require.Zero(t, c.entries.EstimatedSize(), "any partition may have events of any SKU")
	s.projectAll()
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
	require.Equal(t, 1, c.entries.EstimatedSize())
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

func TestATailThatProvesNothingStopsTheCache(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	_, kept := c.get("CHAIR")
	require.True(t, kept)

	s.publish(0, "CHAIR", "b1", 39) // and is not delivered
	s.projectAll()
	c.Current(time.Now().Add(-currentMax + 100*time.Millisecond)) // asked then, whenever the answer came
	_, kept = c.get("CHAIR")
	require.True(t, kept)
	require.Eventually(t, func() bool { _, kept = c.get("CHAIR"); return !kept }, currentMax, time.Millisecond)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)

	// The tail goes on: what was answered meanwhile is not taken back, though it has not come to it.
	c.Current(time.Now())
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
}

func TestAQuestionThatIsAskedAnewIsNotAnsweredFromMemory(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	s.publish(0, "CHAIR", "b1", 39) // the tail is not there yet
	s.projectAll()
	require.EqualValues(t, 1, answer(t, r, "CHAIR").Version)
	found, err := r.Availability(Anew(t.Context()), "CHAIR")
	require.NoError(t, err)
	require.EqualValues(t, 2, found["CHAIR"].Version)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "and others are not told less")
}

func TestAnAnswerAheadOfTheTailIsNotTakenBack(t *testing.T) {
	for name, whole := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			s := newShop(1)
			s.publish(0, "CHAIR", "b1", 40)
			s.projectAll()
			_, c := s.reader()
			s.sweep(t, c)
			ask := func() fill {
				since := c.asking()
				since.whole = since.whole && whole
				stored, err := s.Availability(t.Context(), []string{"CHAIR"})
				require.NoError(t, err)
				return c.answered(since, []string{"CHAIR"}, stored)["CHAIR"]
			}
			c.answered(c.asking(), []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": s.newest("CHAIR")})
			s.publish(0, "CHAIR", "b1", 39)
			s.projectAll()
			require.EqualValues(t, 2, ask().Version)
			e, kept := c.get("CHAIR")
			require.Equal(t, whole, kept)
			if kept {
				require.EqualValues(t, 2, e.Version)
			}
		})
	}
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
			require.Equal(t, s.newest("CHAIR"), e.Availability)
		})
	}
}

func TestATailThatBeginsAgain(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.publish(0, "LAMP", "b1", 5)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	answer(t, r, "LAMP")
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)

	s.publish(0, "LAMP", "b1", 4) // while nobody reads
	c.Began(s.ends())
	s.delivered[0] = len(s.log[0])
	_, kept := c.get("LAMP")
	require.False(t, kept)
	c.Current(time.Now())
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "is not older than before, though the store is")
	require.EqualValues(t, 1, answer(t, r, "LAMP").Version)
	_, kept = c.get("LAMP")
	require.False(t, kept)
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "is remembered until it is projected")
	s.projectAll()
	s.sweep(t, c)
	s.sweep(t, c)
	require.Empty(t, c.recent.skus)
	require.EqualValues(t, 2, answer(t, r, "LAMP").Version)
}

// The store is asked, an event comes that nobody reads, the tail begins after it.
func TestATailThatBeginsAgainWhileTheStoreIsAsked(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	_, c := s.reader()
	s.sweep(t, c)
	since := c.asking()
	before, err := s.Availability(t.Context(), []string{"CHAIR"})
	require.NoError(t, err)
	s.publish(0, "CHAIR", "b1", 39)
	c.Began(s.ends())
	s.projectAll()
	require.NoError(t, c.sweep(t.Context(), s.offsets))
	c.answered(since, []string{"CHAIR"}, before)
	c.Current(time.Now())
	_, kept := c.get("CHAIR")
	require.False(t, kept)
}

func TestAHoleDropsTheEntry(t *testing.T) {
	s := newShop(2)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	s.publish(0, "CHAIR", "b1", 39)
	s.publish(1, "CHAIR", "b2", 9)
	s.deliver(c, 1) // v3
	_, kept := c.get("CHAIR")
	require.False(t, kept)
	since := c.asking()
	require.True(t, c.answered(since, []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": s.history["CHAIR"][0]})["CHAIR"].behind)
	s.deliver(c, 0) // v2
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
	// One partition being projected does not mean that the other is.
	s.projected[1] = 1
	s.sweep(t, c)
	require.Len(t, c.recent.skus, 1)
}

func TestAnUnreadableEventEmptiesTheCache(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	c.Unreadable(0, 1)
	for range 2 {
		_, kept := c.get("CHAIR")
		require.False(t, kept)
		require.EqualValues(t, 1, answer(t, r, "CHAIR").Version)
	}
	s.publish(0, "CHAIR", "b1", 39) // which it was
	s.projectAll()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	e, kept := c.get("CHAIR")
	require.True(t, kept)
	require.EqualValues(t, 2, e.Version)
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
	c.entries.InvalidateAll()
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
	require.Zero(t, slices.Max(c.recent.lost))
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
	}}, e.Availability)
	require.NoError(t, c.sweep(t.Context(), nil))
	require.NoError(t, c.sweep(t.Context(), nil))
	require.Empty(t, c.recent.skus, "what is published is in the store already")
}

func TestEntriesAreAskedForAgain(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	e, kept := c.get("CHAIR")
	require.True(t, kept)
	c.put(&entry{Availability: e.Availability, filled: time.Now().Add(-lifetime)})
	_, kept = c.get("CHAIR")
	require.False(t, kept)
	answer(t, r, "CHAIR")
	_, kept = c.get("CHAIR")
	require.True(t, kept)
}

func TestWhatIsTooLargeIsNotKept(t *testing.T) {
	c := newTestCache()
	c.Began(nil)
	require.NoError(t, c.sweep(t.Context(), nil))
	a := readmodel.Availability{SKU: "CHAIR", Version: 1}
	for i := range entryBytesMax / batchBytes {
		a.Batches = append(a.Batches, readmodel.Batch{Ref: fmt.Sprintf("%05d", i), Version: 1})
	}
	require.Equal(t, a, c.answered(c.asking(), []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": a})["CHAIR"].Availability)
	require.Zero(t, c.entries.EstimatedSize())
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
