package reads

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

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

// However many SKUs there are, of whatever sizes, and however they change, their entries take no more than they may, and about what is counted.
func TestMemory(t *testing.T) {
	for _, bytesMax := range []int64{CacheBytesMin, 32 << 20} {
		for _, batches := range []int{0, 1, 8} {
			before := heap()
			kept := newEntries(bytesMax)
			skus := int(bytesMax / 64) // more than there is room for
			for step := range 3 * skus {
				e := entry{Availability: readmodel.Availability{SKU: fmt.Sprintf("SKU-%08d", rand.N(skus)), Version: uint64(step)}, filled: time.Duration(step) * time.Second}
				for b := range batches {
					e.Batches = append(e.Batches, readmodel.Batch{Ref: fmt.Sprintf("batch-%08d", b), Qty: 100, Available: 90, Version: uint64(step)})
				}
				kept.set(&e)
			}
			taken := heap() - before
			count, counted, room := kept.usage()
			t.Logf("%d batches: %d KiB for %d SKUs, %d bytes each", batches, taken>>10, count, taken/int64(count))
			require.LessOrEqual(t, taken, bytesMax+64<<10)
			require.InEpsilon(t, taken, counted, 0.2)
			require.Less(t, room, 0.05)
			kept.clear()
			count, counted, room = kept.usage()
			require.Zero(t, count)
			require.Zero(t, counted)
			require.InDelta(t, 1, room, 0)
			runtime.KeepAlive(kept)
		}
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
