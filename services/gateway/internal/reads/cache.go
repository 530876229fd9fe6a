package reads

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

const (
	// currentMax is how long ago the tail may have proven that it is at the end of the log: an answer from memory is never
	// older. It is less than the second that clients are promised, so that scheduling and writing the answer fit in.
	currentMax = 750 * time.Millisecond
	// lifetime is how long an entry is kept up to date before the store is asked again. No event says so when rows are
	// repaired, or a rebuild is switched to.
	lifetime = 5 * time.Minute
	// entryBytesMax bounds one entry: every event about its SKU copies it.
	entryBytesMax = 64 << 10
	// sweepInterval is how often it is asked what is projected. Between two sweeps a question has to be answered, or it is
	// asked again.
	sweepInterval = time.Second
	sweepTimeout  = 5 * time.Second
	// recentShare of the cache's memory is for what the tail said lately.
	recentShare = 4
)

// Cache keeps what is left of SKUs, and keeps it up to date by the events of the tail; see DESIGN.md. Its
// methods may be called concurrently; those that the tail calls (submit.Follower), one after the other.
type Cache struct {
	entries *entries
	made    time.Time
	metrics *Metrics
	// current is when all events that were committed had been taken in; nil: not known.
	current atomic.Pointer[time.Time]
	emptied chan struct{} // holds something if the entries were forgotten

	mu     sync.Mutex // of what follows, and of every change of entries
	recent *recent
	told   marks // the SKUs that questions were answered since the last list began
}

// CacheBytesMin is the least memory that a Cache can do with.
const CacheBytesMin = 1 << 20

// NewCache returns a cache that takes about bytesMax of memory, at least CacheBytesMin. It is for one Reader, needs Follow
// to run and to be told what the events topic has (submit.Follower), and answers nothing before. It panics if metrics have
// been given to another.
func NewCache(bytesMax int64, metrics *Metrics) *Cache {
	recentMax := bytesMax / recentShare
	c := &Cache{
		entries: newEntries(bytesMax - recentMax), made: time.Now(), metrics: metrics, emptied: make(chan struct{}, 1), recent: newRecent(recentMax), told: newMarks(),
	}
	metrics.watch(c)
	return c
}

// get returns what is left of a SKU if that is known, and not older than currentMax.
func (c *Cache) get(sku string) (a readmodel.Availability, ok bool) {
	found, ok := c.entries.get(sku)
	if !ok {
		c.metrics.misses.Inc()
		return a, false
	}
	if !c.isCurrent() { // asked after the entry was read: the entry is at least as new
		c.metrics.stale.Inc()
		return a, false
	}
	e := found.unpack(sku)
	if c.time()-e.filled > lifetime {
		c.metrics.misses.Inc()
		return a, false
	}
	c.metrics.hits.Inc()
	return e.Availability, true
}

// peek returns what is kept of a SKU, which does not count as a question.
func (c *Cache) peek(sku string) (e entry, ok bool) {
	found, ok := c.entries.peek(sku)
	if ok {
		e = found.unpack(sku)
	}
	return e, ok
}

// time is how long ago the cache was made.
func (c *Cache) time() time.Duration { return time.Since(c.made) }

func (c *Cache) isCurrent() bool {
	age, known := c.age()
	return known && age <= currentMax
}

// age is how long ago the tail was last known to be at the end of the log; false: it is not known.
func (c *Cache) age() (time.Duration, bool) {
	at := c.current.Load()
	if at == nil {
		return 0, false
	}
	return time.Since(*at), true
}

// Began forgets the entries: events between what the tail saw before and from were not seen.
func (c *Cache) Began(from map[int32]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.Store(nil)
	c.empty()
	c.recent.begin(from)
}

func (c *Cache) empty() {
	c.entries.clear()
	select {
	case c.emptied <- struct{}{}:
	default:
	}
}

// Event takes in an event, whatever was already known of it.
func (c *Cache) Event(e *schemas.Event, partition int32, offset int64) {
	if !e.Type.ChangesState() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.peek(e.SKU)
	c.recent.add(e, partition, offset+1, ok)
	if !ok {
		return
	}
	if e.Version > known.Version+1 { // an event is missing; it may still come, over another partition
		c.entries.remove(e.SKU)
		return
	}
	if known.apply(e) {
		c.put(&known)
	}
}

// Unreadable forgets the entries: any of them may be about the SKU of the event at offset.
func (c *Cache) Unreadable(partition int32, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty()
	c.recent.raise(partition, offset+1)
}

// Current says that all events that were committed before at have been handed over.
func (c *Cache) Current(at time.Time) { c.current.Store(&at) }

// Follow asks again and again how far the read model is, until ctx ends; then it returns nil. Projected returns below which
// offset of each partition of the events topic every event is in the read model; nil is for a store that has each event
// before it is published. While it fails, the cache keeps what it has up to date, and takes in nothing new.
func (c *Cache) Follow(ctx context.Context, projected func(context.Context) (map[int32]int64, error), log *slog.Logger) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var logged time.Time
	for {
		if err := c.sweep(ctx, projected); err != nil && ctx.Err() == nil && time.Since(logged) > logInterval {
			logged = time.Now()
			log.Warn("could not ask how far the read model is, so the cache takes in nothing new", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep forgets what is projected.
func (c *Cache) sweep(ctx context.Context, projected func(context.Context) (map[int32]int64, error)) (err error) {
	var offsets map[int32]int64
	if projected != nil {
		ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
		defer cancel()
		if offsets, err = projected(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.sweep(offsets, projected == nil)
	return nil
}

// put replaces the SKU's entry, or makes room for nothing.
func (c *Cache) put(e *entry) {
	if batchesBytes(e.Batches) > entryBytesMax {
		c.entries.remove(e.SKU)
		return
	}
	c.entries.set(e)
}

// fill is what a question to the store for a SKU came to: what is left of it, or that this is not known.
type fill struct {
	readmodel.Availability
	behind bool // the store is known to lack what was answered before, or what was published
}

// admits reports whether an answer of the store could be kept now.
func (c *Cache) admits() bool { return c.asking().whole }

// isFull reports whether what is kept leaves hardly any room: what nobody has asked for would take that of what somebody has.
func (c *Cache) isFull() bool {
	_, _, room := c.entries.usage()
	return room < 0.1
}

// asking is to be called before the store is asked, and its result given to answered with what the store said.
func (c *Cache) asking() coverage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.coverage()
}

// answered completes what the store said of skus by what the tail knows, and remembers what it can keep up to date.
func (c *Cache) answered(since coverage, skus []string, stored map[string]readmodel.Availability) map[string]fill {
	fills := make(map[string]fill, len(skus))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sku := range skus {
		c.told.add(sku)
		fills[sku] = c.complete(since, sku, stored[sku])
	}
	return fills
}

// listing is asking, for a list. Only one may be under way.
func (c *Cache) listing() coverage {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told.clear()
	return c.recent.coverage()
}

// listed is answered, for what a list found. A SKU that a question was answered meanwhile is left out: the list may have read v1 before
// that question read v2, and where v2 was not kept, or made room for others since, v1 would be kept after v2 was told.
func (c *Cache) listed(since coverage, found []readmodel.Availability) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range found {
		if sku := found[i].SKU; !c.told.has(sku) {
			c.complete(since, sku, found[i])
		}
	}
}

func (c *Cache) complete(since coverage, sku string, stored readmodel.Availability) fill {
	a, behind := c.recent.complete(since, sku, stored)
	if behind {
		c.metrics.behind.Inc()
		return fill{behind: true}
	}
	if a.Version == 0 {
		return fill{}
	}
	known, ok := c.peek(sku)
	switch {
	case ok && known.Version > a.Version: // and may have been answered
		return fill{Availability: known.Availability}
	case c.recent.covers(since):
		c.metrics.admitted.Inc()
		c.put(&entry{Availability: a, filled: c.time()})
	default:
		c.metrics.refused.Inc()
		if ok && known.Version < a.Version { // the tail is behind the store, and the next answer must not be older
			c.entries.remove(sku)
		}
	}
	return fill{Availability: a}
}
