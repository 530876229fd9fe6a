package allocator

import (
	"context"
	"runtime/metrics"
	"time"

	"github.com/lotline/lotline/pkg/memorylimit"
)

// What the process takes, in bytes, where each SKU has a batch.
const (
	memoryBesides = 48 << 20 // what Kafka's client has fetched, connections, the rest
	commandBytes  = 4 << 10  // of a poll that is being worked on, and its events
	productBytes  = 384      // of a SKU in memory
)

const (
	// memoryInterval is how often the limit follows what is in use.
	memoryInterval = 200 * time.Millisecond
	// notHeap is what the limit covers besides the heap's objects.
	notHeap = 16 << 20
)

// memoryLimit is where the collector begins to work harder, in bytes, with so much in use. SKUs may have any number of batches and a
// cut moves many lines: what is in use is no garbage, and a limit below it would have the collector do nothing but work. So it
// always has two fifths as much to leave lying.
func (c Config) memoryLimit(live int64) int64 {
	expected := memoryBesides + int64(c.Sessions)*int64(c.PollRecordsMax)*commandBytes + int64(c.ProductsCachedMax)*productBytes
	return max(expected, live+live/5*2+notHeap)
}

// LimitMemory has the collector of this process work harder where polls and cached SKUs take what they are expected to. The variables
// GOMEMLIMIT and GOGC have precedence. It is for who ships the allocator as a process, before Run.
func (c Config) LimitMemory() { memorylimit.Set(c.memoryLimit(0)) }

// followMemory keeps the limit that LimitMemory has set where what is in use wants it, until ctx ends.
func (c Config) followMemory(ctx context.Context) {
	memorylimit.Follow(ctx, memoryInterval, c.memoryLimit(0), func() int64 { return c.memoryLimit(liveBytes()) })
}

// liveBytes is what the last collection found in use.
func liveBytes() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
