package reads

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/lotline/lotline/pkg/readmodel"
)

// history is a shop, its cache and everybody who was answered, in whatever order things happen.
type history struct {
	*shop
	cache *Cache
	exact bool // every answer from memory is the state at its version; else only once all is delivered

	asked    *question         // nil: nothing is; the loader asks one query at a time
	told     map[string]uint64 // the newest version that anybody was told of, by SKU
	current  map[string]uint64 // the newest version when the tail last proved where it is
	restarts int
}

// question is one that the store has been asked, and that is not answered yet.
type question struct {
	since  coverage
	sku    string
	stored map[string]readmodel.Availability
	told   uint64 // when it was asked
}

var modelSKUs = []string{"CHAIR", "LAMP"}

func newHistory(t *rapid.T) *history {
	partitions := rapid.IntRange(1, 2).Draw(t, "partitions")
	h := &history{shop: newShop(partitions), told: map[string]uint64{}, current: map[string]uint64{}}
	h.torn = rapid.Bool().Draw(t, "torn")
	h.exact = partitions == 1 && !h.torn
	h.cache = newTestCache()
	if rapid.Bool().Draw(t, "little room") {
		h.cache.recent.bytesMax = changesBytes + 2*batchBytes
	}
	for range rapid.IntRange(0, 3).Draw(t, "before") {
		h.Publish(t)
	}
	h.begin()
	return h
}

func (h *history) begin() {
	h.cache.Began(h.ends())
	for partition := range h.log {
		h.delivered[partition] = len(h.log[partition])
	}
}

func (h *history) drawSKU(t *rapid.T) string { return rapid.SampledFrom(modelSKUs).Draw(t, "sku") }

func (h *history) drawPartition(t *rapid.T) int {
	return rapid.IntRange(0, len(h.log)-1).Draw(t, "partition")
}

// Publish publishes an event.
func (h *history) Publish(t *rapid.T) {
	ref := rapid.SampledFrom([]string{"b1", "b2", "b3", ""}).Draw(t, "ref")
	sku := h.drawSKU(t)
	if len(h.history[sku]) == 0 {
		ref = "b1" // nothing is out of stock before it was in
	}
	h.publish(h.drawPartition(t), sku, ref, rapid.Int32Range(0, 9).Draw(t, "left"))
}

// Deliver hands an event to the cache.
func (h *history) Deliver(t *rapid.T) { h.deliver(h.cache, h.drawPartition(t)) }

// Again hands an event over that was handed over before.
func (h *history) Again(t *rapid.T) {
	partition := h.drawPartition(t)
	if n := h.delivered[partition]; n > 0 {
		i := rapid.IntRange(max(0, n-3), n-1).Draw(t, "which")
		h.cache.Event(&h.log[partition][i], int32(partition), int64(i))
	}
}

// Prove has the tail come to the end and say so.
func (h *history) Prove(*rapid.T) {
	h.deliverAll(h.cache)
	for sku := range h.history {
		h.current[sku] = h.newest(sku).Version
	}
}

// Restart has the tail begin at the end.
func (h *history) Restart(t *rapid.T) {
	if h.restarts++; h.restarts < 4 && rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
		h.begin()
	}
}

// Project has some events projected.
func (h *history) Project(t *rapid.T) {
	partition := h.drawPartition(t)
	h.projected[partition] = rapid.IntRange(h.projected[partition], len(h.log[partition])).Draw(t, "up to")
}

// Sweep has the cache hear of it.
func (h *history) Sweep(t *rapid.T) {
	require.NoError(t, h.cache.sweep(context.Background(), h.offsets))
}

// Evict makes room for others.
func (h *history) Evict(t *rapid.T) { h.cache.entries.remove(h.drawSKU(t)) }

// Ask asks the store; the answer takes a while.
func (h *history) Ask(t *rapid.T) {
	if h.asked != nil {
		return
	}
	sku := h.drawSKU(t)
	h.asked = &question{since: h.cache.asking(), sku: sku, told: h.told[sku]}
	h.asked.stored, _ = h.Availability(context.Background(), []string{sku})
}

// Answer gives it the answer.
func (h *history) Answer(t *rapid.T) {
	if h.asked == nil {
		return
	}
	q := h.asked
	h.asked = nil
	f := h.cache.answered(q.since, []string{q.sku}, q.stored)[q.sku]
	if f.behind {
		return
	}
	require.GreaterOrEqual(t, f.Version, q.told, "a version goes back")
	h.told[q.sku] = max(h.told[q.sku], f.Version)
}

// List asks the store for all SKUs; some of what matters to the answer happens before it is there.
func (h *history) List(t *rapid.T) {
	since := h.cache.listing()
	found, _ := h.Availability(context.Background(), modelSKUs)
	for _, meanwhile := range []func(*rapid.T){h.Publish, h.Deliver, h.Project, h.Sweep, h.Ask, h.Answer, h.Evict} {
		if rapid.Bool().Draw(t, "meanwhile") {
			meanwhile(t)
		}
	}
	h.cache.listed(since, slices.Collect(maps.Values(found)))
}

// Look answers from memory.
func (h *history) Look(t *rapid.T) {
	sku := h.drawSKU(t)
	e, ok := h.cache.get(sku)
	if !ok {
		return
	}
	require.GreaterOrEqual(t, e.Version, h.told[sku], "a version goes back")
	require.GreaterOrEqual(t, e.Version, h.current[sku], "an answer is older than the proof")
	if h.exact {
		require.Equal(t, h.history[sku][e.Version-1], e)
	}
	h.told[sku] = e.Version
}

// Settle has everything delivered and projected: then every SKU is kept, as it is.
func (h *history) Settle(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "settle") > 0 {
		return
	}
	h.deliverAll(h.cache)
	for sku := range h.history {
		if e, ok := h.cache.get(sku); ok {
			require.Equal(t, h.newest(sku), e)
		}
	}
	h.projectAll()
	torn := h.torn
	h.torn = false
	for range 3 {
		h.Sweep(t)
	}
	require.Empty(t, h.cache.recent.skus)
	require.Zero(t, h.cache.recent.bytes)
	for sku := range h.history {
		f := h.cache.answered(h.cache.asking(), []string{sku}, must(h.Availability(context.Background(), []string{sku})))[sku]
		require.Equal(t, fill{Availability: h.newest(sku)}, f)
		e, ok := h.cache.get(sku)
		require.True(t, ok, "nothing is in the way of keeping it")
		require.Equal(t, h.newest(sku), e)
		h.told[sku] = f.Version
	}
	h.torn = torn
}

func must(found map[string]readmodel.Availability, _ error) map[string]readmodel.Availability {
	return found
}

// Whatever happens in whatever order, to nobody does a version go back, nothing from memory is older than the tail's last
// proof, and what is kept is what was published.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(rapid.StateMachineActions(h))
	})
}

// Check holds the memory that is counted against what there is.
func (h *history) Check(t *rapid.T) {
	var bytes int64
	for sku, c := range h.cache.recent.skus {
		bytes += int64(changesBytes + len(sku) + batchesBytes(c.batches))
	}
	require.Equal(t, bytes, h.cache.recent.bytes)
	require.LessOrEqual(t, bytes, h.cache.recent.bytesMax)
}

// The same with everything at once, for the race detector: what a goroutine sees only goes on.
func TestTheCacheUnderConcurrentUse(t *testing.T) {
	s := newShop(1)
	for i := range 2000 {
		s.publish(0, modelSKUs[i%2], fmt.Sprint("b", 1+i%3), int32(i))
	}
	var projected atomic.Int64
	stored := func(sku string) map[string]readmodel.Availability {
		if version := (int(projected.Load()) + 1 - slices.Index(modelSKUs, sku)) / 2; version > 0 {
			return map[string]readmodel.Availability{sku: s.history[sku][version-1]}
		}
		return nil
	}
	c := newTestCache()
	c.Began(map[int32]int64{0: 0})
	var group errgroup.Group
	ctx, stop := context.WithCancel(t.Context())
	for i := range 3 {
		group.Go(func() error {
			sku := modelSKUs[i%2]
			for last := uint64(0); ctx.Err() == nil; {
				version := uint64(0)
				if e, ok := c.get(sku); ok {
					version = e.Version
				} else if since := c.asking(); true {
					version = c.answered(since, []string{sku}, stored(sku))[sku].Version
				}
				if version > 0 && version < last {
					return fmt.Errorf("version %d after %d", version, last)
				}
				last = max(last, version)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		for n := 0; s.deliver(c, 0); n++ {
			if n%10 == 0 {
				c.Current(time.Now())
			}
			if n%100 == 0 {
				c.entries.remove(modelSKUs[n/100%2])
			}
			if n%97 == 0 {
				projected.Store(int64(n))
				if err := c.sweep(ctx, func(context.Context) (map[int32]int64, error) { return map[int32]int64{0: int64(n)}, nil }); err != nil {
					return err
				}
			}
		}
		return nil
	})
	require.NoError(t, group.Wait())
	c.Current(time.Now())
	for _, sku := range modelSKUs {
		c.answered(c.asking(), []string{sku}, stored(sku))
		e, ok := c.get(sku)
		require.True(t, ok)
		require.Equal(t, s.newest(sku), e)
	}
}
