package reads

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	lists     int
	listMax   int    // SKUs in an answer
	listed    func() // called before a list is answered; nil: nobody
}

func newShop(partitions int) *shop {
	return &shop{
		history: map[string][]readmodel.Availability{}, log: make([][]schemas.Event, partitions),
		listMax: 1000, delivered: make([]int, partitions), projected: make([]int, partitions), committed: make([]int, partitions),
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

// List is what a store says that keeps them in the order of their names.
func (s *shop) List(ctx context.Context, after string, limit, _ int) ([]readmodel.Availability, error) {
	s.lists++
	var listed []readmodel.Availability
	for _, sku := range slices.Sorted(maps.Keys(s.history)) {
		found, _ := s.Availability(ctx, []string{sku})
		s.queries--
		if a, known := found[sku]; known && sku > after && len(listed) < min(limit, s.listMax) {
			listed = append(listed, a)
		}
	}
	if s.listed != nil {
		s.listed()
	}
	return listed, s.err
}

func count(c *Cache) int {
	count, _, _ := c.entries.usage()
	return count
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
	return found[0]
}

// stocked is a shop with a chair that is projected, and a cache that knows so.
func stocked(t *testing.T, partitions int) (*shop, *Reader, *Cache) {
	t.Helper()
	s := newShop(partitions)
	s.publish(0, "CHAIR", "b1", 40)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	return s, r, c
}
