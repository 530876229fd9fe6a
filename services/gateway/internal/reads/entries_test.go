package reads

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

func entryOf(sku string, version uint64, batches int) *entry {
	e := &entry{Availability: readmodel.Availability{SKU: sku, Version: version, Available: int64(version)}}
	for b := range batches {
		e.Batches = append(e.Batches, readmodel.Batch{Ref: fmt.Sprint("batch-", b), ETA: "2031-01-02", Qty: int32(version), Version: version})
	}
	return e
}

// Entries that grow, shrink, get too large and take each other's place: what there is of a SKU is what was set last, and no block is lost.
func TestAnEntryIsWhatWasSetLast(t *testing.T) {
	require.EqualValues(t, blockBytes, unsafe.Sizeof(block{}))
	const skus = 3000
	kept := newEntries(CacheBytesMin)
	largest := len(kept.shards[0].blocks) / entryShare * blockData
	last := map[string]*entry{}
	found, tooLarge, gone := 0, 0, 0
	for step := range 300_000 {
		sku := fmt.Sprint("SKU-", rand.N(skus))
		switch rand.N(10) {
		case 0:
			kept.remove(sku)
			delete(last, sku)
		case 1, 2, 3, 4:
			e := entryOf(sku, uint64(step), rand.N(8)*rand.N(8)*rand.N(10))
			kept.set(e)
			last[sku] = e
			if len(kept.text) > largest {
				delete(last, sku)
				tooLarge++
			}
		default:
			p, ok := kept.get(sku)
			q, also := kept.peek(sku)
			require.Equal(t, ok, also)
			require.Equal(t, p, q)
			switch {
			case ok:
				found++
				require.NotNil(t, last[sku])
				require.Equal(t, last[sku].Availability, p.unpack(sku).Availability)
			case last[sku] != nil:
				gone++
			}
		}
	}
	require.Greater(t, found, 1000)
	require.Greater(t, tooLarge, 1000)
	require.Greater(t, gone, 1000)
	for sku := range last {
		kept.remove(sku)
	}
	count, bytes, room := kept.usage()
	require.Zero(t, count)
	require.Zero(t, bytes)
	require.InDelta(t, 1, room, 0)
}

func TestWhatIsAskedForStays(t *testing.T) {
	kept := newEntries(CacheBytesMin)
	const asked = 1000 // of some 5,600 that there is room for
	for i := range 20_000 {
		kept.set(entryOf(fmt.Sprint("SKU-", i), 1, 1))
		if i < asked || i%1000 == 0 {
			for a := range min(i+1, asked) {
				_, ok := kept.get(fmt.Sprint("SKU-", a))
				require.True(t, ok, "%d, after %d", a, i)
			}
		}
	}
	_, ok := kept.peek("SKU-1001")
	require.False(t, ok)
	_, ok = kept.get("SKU-7") // what was added since it was last asked for may have passed it
	require.True(t, ok)
	changed := entryOf("SKU-7", 2, 1) // which is no question, and does not take one back
	kept.set(changed)
	_, hash := kept.of("SKU-7")
	s := &kept.shards[hash%entryShards]
	require.EqualValues(t, 1, s.blocks[s.first[hash]].asked.Load())
}

// Of two SKUs with one hash, one is kept, and is not taken for the other.
func TestSKUsWithTheSameHash(t *testing.T) {
	kept := newEntries(CacheBytesMin)
	kept.set(entryOf("CHAIR", 1, 1))
	chair, chairs := kept.of("CHAIR")
	lamp, lamps := kept.of("LAMP")
	lamp.first[lamps] = lamp.put(lamps, []byte("\x05CHAIR and what is left of it"), 0)
	_, ok := kept.get("LAMP")
	require.False(t, ok)
	kept.set(entryOf("LAMP", 1, 1))
	_, ok = kept.get("LAMP")
	require.True(t, ok)
	require.Contains(t, chair.first, chairs)
}

// Who reads while others write has the entry of before or after.
func TestEntriesAreReadWhole(t *testing.T) {
	kept := newEntries(CacheBytesMin)
	var done atomic.Bool
	var reading sync.WaitGroup
	newest := make([]atomic.Uint64, 400)
	for range 3 {
		reading.Go(func() {
			for !done.Load() {
				i := rand.N(len(newest))
				before := newest[i].Load()
				p, ok := kept.get(fmt.Sprint("SKU-", i))
				if !ok {
					continue
				}
				e := p.unpack(fmt.Sprint("SKU-", i))
				if e.Version < before || e.Available != int64(e.Version) || len(e.Batches) != int(e.Version%50) {
					t.Errorf("torn or older than %d: %+v", before, e)
					return
				}
				for _, b := range e.Batches {
					if b.Version != e.Version {
						t.Errorf("torn: %+v", e)
						return
					}
				}
			}
		})
	}
	for version := uint64(1); version < 100_000; version++ {
		i := rand.N(len(newest))
		kept.set(entryOf(fmt.Sprint("SKU-", i), version, int(version%50)))
		newest[i].Store(version)
	}
	done.Store(true)
	reading.Wait()
}
