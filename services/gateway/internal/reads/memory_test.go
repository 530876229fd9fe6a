package reads

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// What is counted against the memory that the cache may take is about what it takes.
func TestMemory(t *testing.T) {
	const skus = 20_000
	for _, batches := range []int{1, 8} {
		c := NewCache(1<<30, NewMetrics(prometheus.NewRegistry()))
		before := heap()
		for i := range skus {
			a := readmodel.Availability{SKU: fmt.Sprintf("SKU-%08d", i), Version: 1}
			for b := range batches {
				a.Batches = append(a.Batches, readmodel.Batch{Ref: fmt.Sprintf("batch-%08d", b), Version: 1})
			}
			c.put(&entry{Availability: a, filled: c.time()})
		}
		c.entries.CleanUp()
		taken, counted := heap()-before, int64(c.entries.WeightedSize())
		t.Logf("%d batches: %d bytes an entry, %d counted", batches, taken/skus, counted/skus)
		require.LessOrEqual(t, taken, counted)
		require.Less(t, counted, 2*taken)
		c.entries.InvalidateAll()

		before = heap()
		for i := range skus {
			for b := range batches {
				c.recent.add(&schemas.Event{SKU: fmt.Sprintf("SKU-%08d", i), Version: uint64(b + 1), BatchRef: fmt.Sprintf("batch-%08d", b)}, 0, 1, false)
			}
		}
		taken, counted = heap()-before, c.recent.bytes
		t.Logf("%d batches: %d bytes of changes, %d counted", batches, taken/skus, counted/skus)
		require.LessOrEqual(t, taken, counted)
		require.Less(t, counted, 2*taken)
		runtime.KeepAlive(c)
	}
}

// An entry that events changed is counted for what it takes too: the texts of an event are one string, and an entry must not keep it.
func TestMemoryOfWhatEventsChanged(t *testing.T) {
	const skus, versions = 20_000, 4
	c := NewCache(1<<30, NewMetrics(prometheus.NewRegistry()))
	before := heap()
	for i := range skus {
		c.put(&entry{Availability: readmodel.Availability{SKU: fmt.Sprintf("SKU-%08d", i), Version: 1, Batches: []readmodel.Batch{{Ref: "batch", Version: 1}}}})
	}
	for version := uint64(2); version <= versions; version++ {
		for i := range skus {
			text := schemas.AppendEvent(nil, &schemas.Event{
				Type: schemas.EventAllocated, SKU: fmt.Sprintf("SKU-%08d", i), Version: version, CommandID: strings.Repeat("c", 100), CommandSource: strings.Repeat("/", 100),
				OrderID: strings.Repeat("o", 100), Qty: 1, BatchRef: "batch", BatchQty: 100, BatchAvailable: 1, Available: 1, Last: true,
			})
			e, err := schemas.DecodeEvent(schemas.EventAllocated.CEType(), schemas.ContentTypeJSON, text)
			require.NoError(t, err)
			c.Event(&e, 0, int64(version))
		}
	}
	c.entries.CleanUp()
	c.recent = newRecent(CacheBytesMin) // that is counted by itself
	changed, ok := c.peek("SKU-00000007")
	require.True(t, ok)
	require.EqualValues(t, versions, changed.Version)
	taken, counted := heap()-before, int64(c.entries.WeightedSize())
	t.Logf("%d bytes an entry, %d counted", taken/skus, counted/skus)
	require.LessOrEqual(t, taken, counted)
	runtime.KeepAlive(c)
}
