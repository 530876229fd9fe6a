package reads

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// Entries that grow, shrink, get too large and take each other's place: what there is of a SKU is what was set last.
func TestAnEntryIsWhatWasSetLast(t *testing.T) {
	const skus = 10_000
	kept := newEntries(CacheBytesMin)
	last := map[string]readmodel.Availability{}
	found, tooLarge := 0, 0
	for step := range 300_000 {
		sku := fmt.Sprint("SKU-", rand.N(skus))
		switch rand.N(10) {
		case 0:
			kept.remove(sku)
			delete(last, sku)
		case 1, 2, 3, 4:
			a := readmodel.Availability{SKU: sku, Version: uint64(step), Available: rand.Int64N(1 << 20)}
			for b := range rand.N(8) * rand.N(8) {
				a.Batches = append(a.Batches, readmodel.Batch{Ref: fmt.Sprint("batch-", b), ETA: "2031-01-02", Qty: rand.Int32(), Version: uint64(step)})
			}
			e := entry{Availability: a}
			kept.set(&e)
			last[sku] = a
			if len(kept.buffer)+len(sku) > entriesBytesMin/1024 {
				delete(last, sku)
				tooLarge++
			}
		default:
			p, ok := kept.get(sku)
			if q, also := kept.peek(sku); also != ok || q != p {
				require.Fail(t, "a question and a look differ", "%s: %q %q", sku, p, q)
			}
			if ok {
				found++
				require.Equal(t, last[sku], p.unpack(sku).Availability)
			}
		}
	}
	require.Greater(t, found, 1000)
	require.Greater(t, tooLarge, 1000)
	require.Greater(t, kept.cache.EvacuateCount(), int64(1000))
	kept.clear()
	require.Zero(t, kept.count())
	require.Zero(t, kept.bytes())
}
