package reads

import (
	"slices"
	"strings"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// recent is what the tail said of SKUs and the store may not have yet. Its methods must not be called concurrently.
//
// A change is forgotten once it is projected, and after two sweeps: questions that were under way at the first may
// still bring home what was before it, and answers are not used if there was a second sweep since they were asked.
type recent struct {
	bytes, bytesMax int64
	skus            map[string]*changes

	// horizon is by partition the offset below which there are events that are not in skus although they may not be
	// projected: the tail began there, or could not keep or read them. Once they are projected, there is none.
	horizon map[int32]int64
	raised  uint64 // how often it was raised
	sweeps  uint64

	lost marks // the SKUs whose changes had to be given up before they were projected
}

// changes is what events say of one SKU: those of the versions from … to, without a gap, and the newest of each batch.
type changes struct {
	from, to  uint64
	available int64
	batches   []readmodel.Batch
	places    []place // where they are in the log, one a partition
	old       bool    // some are from before the tail began, below the horizon
	answered  bool    // somebody may have been told
	projected uint64  // the sweep that found all of them projected; 0: none
}

// place is an offset of a partition after an event.
type place struct {
	partition int32
	next      int64
}

// coverage is the moment before a question to the store. What is projected by then is in the answer.
type coverage struct {
	whole          bool // nothing was beyond the horizon
	raised, sweeps uint64
}

// Memory that changes take beside their SKU and batches: measured, and rounded up (TestMemoryOfWhatEventsSaid).
const changesBytes = 208

func newRecent(bytesMax int64) *recent {
	return &recent{bytesMax: bytesMax, skus: map[string]*changes{}, horizon: map[int32]int64{}, lost: newMarks()}
}

// begin says that the tail has begun at these offsets. What it said before stays true, but is no longer all: there may
// have been other events since, and they are below the offsets too.
func (r *recent) begin(from map[int32]int64) {
	r.horizon = map[int32]int64{}
	for partition, offset := range from {
		r.horizon[partition] = offset
	}
	r.raised++
	for _, c := range r.skus {
		c.places, c.old, c.projected = nil, true, 0
	}
}

// raise says that an event below an offset is not known.
func (r *recent) raise(partition int32, next int64) {
	r.horizon[partition] = max(r.horizon[partition], next)
	r.raised++
}

// add takes in an event that ends at next in its partition. Answered says that it changes what is answered.
func (r *recent) add(e *schemas.Event, partition int32, next int64, answered bool) {
	c := r.skus[e.SKU]
	if c == nil {
		c = &changes{from: e.Version, to: e.Version, available: e.Available}
		r.skus[strings.Clone(e.SKU)] = c
		r.bytes += int64(changesBytes + len(e.SKU))
	}
	switch {
	case e.Version == c.to+1:
		c.to, c.available = e.Version, e.Available
	case e.Version > c.to:
		c.from, c.to, c.available = e.Version, e.Version, e.Available
	case e.Version+1 == c.from: // late, over another partition
		c.from = e.Version
	}
	c.answered = c.answered || answered
	c.projected = 0
	c.at(partition, next)
	if e.BatchRef != "" {
		before := len(c.batches)
		c.batches, _ = withBatch(c.batches, batchOf(e))
		if len(c.batches) > before {
			r.bytes += int64(batchBytes + len(e.BatchRef))
		}
	}
	if r.bytes > r.bytesMax {
		r.giveUp()
	}
}

func (c *changes) at(partition int32, next int64) {
	for i := range c.places {
		if c.places[i].partition == partition {
			c.places[i].next = max(c.places[i].next, next)
			return
		}
	}
	c.places = append(c.places, place{partition, next})
}

// giveUp makes room. Until all that is forgotten here is projected, nothing new is admitted, and SKUs whose changes may
// have been answered are not answered from the store.
func (r *recent) giveUp() {
	for sku, c := range r.skus {
		for _, p := range c.places {
			r.horizon[p.partition] = max(r.horizon[p.partition], p.next)
		}
		if c.answered {
			r.lost.add(sku)
		}
	}
	r.raised++
	r.skus, r.bytes = map[string]*changes{}, 0
}

// sweep forgets what is projected: every event below these offsets, by partition. all says that every published event is,
// always, as on the write side.
func (r *recent) sweep(projected map[int32]int64, all bool) {
	r.sweeps++
	if len(r.horizon) == 0 { // since the last sweep at least: no answer that is used is from before
		r.lost.clear()
	}
	for partition, offset := range r.horizon {
		if all || projected[partition] >= offset {
			delete(r.horizon, partition)
		}
	}
	for sku, c := range r.skus {
		switch {
		case c.projected == 0 && (all || r.isProjected(c, projected)):
			c.projected = r.sweeps
		case c.projected > 0 && c.projected < r.sweeps:
			delete(r.skus, sku)
			r.bytes -= int64(changesBytes + len(sku) + batchesBytes(c.batches))
		}
	}
}

func (r *recent) isProjected(c *changes, projected map[int32]int64) bool {
	return (!c.old || len(r.horizon) == 0) && !slices.ContainsFunc(c.places, func(p place) bool { return projected[p.partition] < p.next })
}

func (r *recent) coverage() coverage {
	return coverage{whole: len(r.horizon) == 0, raised: r.raised, sweeps: r.sweeps}
}

// covers reports whether each event about a SKU was in the store when it was asked, or is in skus, or is still to come.
func (r *recent) covers(since coverage) bool {
	return since.whole && since.raised == r.raised && r.sweeps <= since.sweeps+1
}

// complete returns what the store said of a SKU with the changes that it may lack. Behind says that some of those
// are not known.
func (r *recent) complete(since coverage, sku string, stored readmodel.Availability) (a readmodel.Availability, behind bool) {
	if r.sweeps > since.sweeps+1 { // it may lack what was forgotten meanwhile
		return a, true
	}
	// What is known of it again may be an older event, once more. Without a horizon there may have been one since: if a question has read
	// v1, and v2 is given up and then projected, the sweep that takes the horizon away leaves the question as it is.
	if !r.covers(since) && r.lost.has(sku) {
		return a, true
	}
	a = stored
	a.Batches = inOrder(stored)
	c := r.skus[sku]
	if c == nil {
		return a, false
	}
	if c.to > a.Version {
		if c.from > a.Version+1 {
			return a, true
		}
		a.SKU = sku // the store may not know it yet
		a.Version, a.Available = c.to, c.available
	}
	c.answered = true
	for _, b := range c.batches {
		a.Batches, _ = withBatch(a.Batches, b)
	}
	return a, false
}

// inOrder returns a SKU's batches in the order that withBatch needs, and each with a version: a store that keeps none
// answers of one moment, so the SKU's will do.
func inOrder(a readmodel.Availability) []readmodel.Batch {
	if slices.IsSortedFunc(a.Batches, byETA) && !slices.ContainsFunc(a.Batches, func(b readmodel.Batch) bool { return b.Version == 0 }) {
		return a.Batches
	}
	batches := slices.Clone(a.Batches)
	slices.SortFunc(batches, byETA)
	for i := range batches {
		if batches[i].Version == 0 {
			batches[i].Version = a.Version
		}
	}
	return batches
}
