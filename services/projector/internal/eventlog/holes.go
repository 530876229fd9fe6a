package eventlog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	// holesMax bounds the versions that are looked after at a time, of all SKUs together: what a look holds in memory and asks
	// of the store. A hole beyond is found by an audit.
	holesMax = 10_000
	// versionsMissingMax bounds the versions of a hole that are followed one by one. Of a larger one only the first count: if they
	// are missing, all of the SKU's events are read again.
	versionsMissingMax = 100
	// rereadPauses is how many times as long as a hole is given the pause between two readings of the whole topic is.
	rereadPauses = 12
	// missingAgeMax is how much older than the event after a hole an event may be that the store is asked for at first.
	missingAgeMax = 24 * time.Hour
)

// hole is versions of a SKU that were jumped over.
type hole struct {
	missing map[uint64]time.Time // since when, by version
	after   readmodel.Record     // the event that jumped last
}

// skuVersion names an event.
type skuVersion struct {
	sku     string
	version uint64
}

// holes finds out where versions of a SKU are missing. A SKU's events come in the order of their versions, unless they come
// over several partitions: then the missing ones are on their way, and so a hole is given some time. Safe for concurrent use.
type holes struct {
	mu    sync.Mutex
	known *versions
	open  map[string]*hole
	count int // versions in open
}

func newHoles() *holes {
	return &holes{known: newVersions(versionGroups), open: make(map[string]*hole)}
}

// see takes the next event of a SKU.
func (h *holes) see(r *readmodel.Record) {
	e := &r.Event
	if e.Version == 0 {
		return // the SKU is unknown to the allocator, too
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.known.see(e.SKU, e.Version)
	if found := h.open[e.SKU]; found != nil && e.Type.ChangesState() {
		h.fill(e.SKU, found, e.Version)
	}
	next := e.Version // the first version that need not have come yet
	if !e.Type.ChangesState() {
		next++ // an outcome that changed nothing has the version of an event before it
	}
	if before == 0 || next <= before+1 {
		return
	}
	found := h.open[e.SKU]
	if found == nil {
		if h.count == holesMax {
			return
		}
		found = &hole{missing: make(map[uint64]time.Time)}
		h.open[e.SKU] = found
	}
	found.after = *r
	now := time.Now()
	for v := before + 1; v < next && len(found.missing) < versionsMissingMax && h.count < holesMax; v++ {
		if _, known := found.missing[v]; !known {
			h.count++
		}
		found.missing[v] = now
	}
}

func (h *holes) fill(sku string, found *hole, version uint64) {
	if _, missing := found.missing[version]; missing {
		delete(found.missing, version)
		h.count--
	}
	if len(found.missing) == 0 {
		delete(h.open, sku)
	}
}

// forget forgets what was read so far: partitions come or go, and another projector has read, or will read, what this one
// has not. A SKU that is not known may start anywhere.
func (h *holes) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known.forget()
	clear(h.open)
	h.count = 0
}

// due returns what has been missing since before a time, as what could be noted about it, by SKU and version.
func (h *holes) due(before time.Time) (missing []readmodel.Aside) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sku := range slices.Sorted(maps.Keys(h.open)) {
		found := h.open[sku]
		for _, version := range slices.Sorted(maps.Keys(found.missing)) {
			if found.missing[version].Before(before) {
				missing = append(missing, readmodel.Aside{
					What: readmodel.AsideMissing, SKU: sku, Version: version, Time: found.after.Time,
					Reason:    fmt.Sprintf("the topic does not have it, and has version %d", found.after.Event.Version),
					Partition: found.after.Partition, Offset: found.after.Offset,
				})
			}
		}
	}
	return missing
}

// settled says that something is missing no more, or is noted.
func (h *holes) settled(what []readmodel.Aside) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range what {
		if found := h.open[a.SKU]; found != nil {
			h.fill(a.SKU, found, a.Version)
		}
	}
}

// mendHoles looks after holes until ctx ends. What has been missing for a while may be in the store, since another projector
// has the partition that it came over. If not, the SKU's events are read again from where the topic begins. What is not there
// either is noted by the store, and named for as long as it is missing.
func (c *Consumer) mendHoles(ctx context.Context, blocks chan<- *delivery) error {
	var reread time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(c.cfg.HoleGrace / 4):
		}
		missing := c.holes.due(time.Now().Add(-c.cfg.HoleGrace))
		if len(missing) == 0 {
			continue
		}
		missing, err := c.missing(ctx, missing, blocks)
		if err == nil && len(missing) > 0 && time.Since(reread) >= rereadPauses*c.cfg.HoleGrace {
			reread = time.Now()
			err = c.reread(ctx, missing, blocks)
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.log.WarnContext(ctx, "could not find out which versions of SKUs are missing, trying again", "error", err)
		}
	}
}

// missing returns what of it the store does not have, and looks after the rest no more.
func (c *Consumer) missing(ctx context.Context, of []readmodel.Aside, blocks chan<- *delivery) (missing []readmodel.Aside, err error) {
	oldest := slices.MinFunc(of, func(a, b readmodel.Aside) int { return a.Time.Compare(b.Time) }).Time
	err = c.hand(ctx, blocks, &delivery{ask: func(ctx context.Context, ledger readmodel.Ledger) error {
		var err error
		missing, err = ledger.Missing(ctx, of, oldest.Add(-missingAgeMax))
		return err
	}})
	if err != nil {
		return nil, err
	}
	still := make(map[skuVersion]bool, len(missing))
	for _, a := range missing {
		still[skuVersion{a.SKU, a.Version}] = true
	}
	c.holes.settled(slices.DeleteFunc(of, func(a readmodel.Aside) bool { return still[skuVersion{a.SKU, a.Version}] }))
	return missing, nil
}

// reread has all events that the topic has of SKUs with holes written once more, and what it does not have noted.
func (c *Consumer) reread(ctx context.Context, missing []readmodel.Aside, blocks chan<- *delivery) error {
	var skus []string
	wanted := make(map[skuVersion]bool, len(missing)) // and not all versions of these SKUs, which may be millions
	for _, a := range missing {
		skus = append(skus, a.SKU)
		wanted[skuVersion{a.SKU, a.Version}] = true
	}
	skus = slices.Compact(skus)
	c.log.WarnContext(ctx, "versions of SKUs were jumped over, and their events are read again", "topic", c.cfg.Topic, "skus", len(skus),
		"sku", missing[0].SKU, "version", missing[0].Version)
	starts, err := Starts(ctx, c.cfg.Topic, slices.Clone(c.kafka))
	if err != nil {
		return err
	}
	if _, err = Replay(ctx, c.cfg.Topic, skus, starts, slices.Clone(c.kafka), func(records []readmodel.Record) error {
		for i := range records {
			if e := &records[i].Event; e.Type.ChangesState() {
				delete(wanted, skuVersion{e.SKU, e.Version})
			}
		}
		return c.hand(ctx, blocks, &delivery{records: records})
	}); err != nil {
		return err
	}
	lost := slices.DeleteFunc(slices.Clone(missing), func(a readmodel.Aside) bool { return !wanted[skuVersion{a.SKU, a.Version}] })
	if len(lost) > 0 {
		if err := c.hand(ctx, blocks, &delivery{ask: func(ctx context.Context, ledger readmodel.Ledger) error { return ledger.SetAside(ctx, lost) }}); err != nil {
			return err
		}
		for _, a := range lost {
			c.log.ErrorContext(ctx, "a version of a SKU is missing", "sku", a.SKU, "version", a.Version, "reason", a.Reason,
				"topic", c.cfg.Topic, "partition", a.Partition, "offset", a.Offset, "todo", "lotline verify says what else is wrong with it")
		}
	}
	c.holes.settled(missing)
	return nil
}

// hand has a block written that completes no offsets, or the store asked, by the goroutine that writes, and returns once
// that is done.
func (c *Consumer) hand(ctx context.Context, blocks chan<- *delivery, d *delivery) error {
	d.done = make(chan error, 1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case blocks <- d:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-d.done:
		return err
	}
}
