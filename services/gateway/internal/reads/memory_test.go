package reads

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

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

// However many SKUs there are, and however small, their entries take about what they may.
func TestMemory(t *testing.T) {
	const bytesMax = 32 << 20
	for _, batches := range []int{0, 1, 8} {
		before := heap()
		kept := newEntries(bytesMax)
		for i := 0; kept.cache.EvacuateCount() < 10_000; i++ {
			e := entry{Availability: readmodel.Availability{SKU: fmt.Sprintf("SKU-%08d", i), Version: 1}}
			for b := range batches {
				e.Batches = append(e.Batches, readmodel.Batch{Ref: fmt.Sprintf("batch-%08d", b), Version: 1})
			}
			kept.set(&e)
		}
		taken := heap() - before
		t.Logf("%d batches: %d MiB for %d SKUs, %d bytes each", batches, taken>>20, kept.count(), taken/kept.count())
		require.Less(t, taken, int64(bytesMax/20*21))
		require.Greater(t, taken, int64(bytesMax/2))
		require.InEpsilon(t, kept.bytesMax, kept.bytes(), 0.1, "what is counted, where there is no room")
		runtime.KeepAlive(kept)
	}
}

// What is counted of what events said is about what it takes: the texts of an event are one string, and nothing that is kept may keep it.
func TestMemoryOfWhatEventsSaid(t *testing.T) {
	const skus = 20_000
	for _, batches := range []int{1, 8} {
		said := newRecent(1 << 30)
		before := heap()
		for i := range skus {
			for version := range 2 * batches { // and each once more
				text := schemas.AppendEvent(nil, &schemas.Event{
					Type: schemas.EventAllocated, SKU: fmt.Sprintf("SKU-%08d", i), Version: uint64(version + 1), CommandID: strings.Repeat("c", 100), CommandSource: strings.Repeat("/", 100),
					OrderID: strings.Repeat("o", 100), Qty: 1, BatchRef: fmt.Sprintf("batch-%08d", version%batches), BatchQty: 100, BatchAvailable: 1, Available: 1, Last: true,
				})
				e, err := schemas.DecodeEvent(schemas.EventAllocated.CEType(), schemas.ContentTypeJSON, text)
				require.NoError(t, err)
				said.add(&e, 0, 1, false)
			}
		}
		taken, counted := heap()-before, said.bytes
		t.Logf("%d batches: %d bytes of a SKU, %d counted", batches, taken/skus, counted/skus)
		require.LessOrEqual(t, taken, counted)
		require.Less(t, counted, 2*taken)
		runtime.KeepAlive(said)
	}
}
