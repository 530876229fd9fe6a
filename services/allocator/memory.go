package allocator

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
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

// memoryIsSet reports whether who started the process has said how the collector is to work.
func memoryIsSet() bool { return os.Getenv("GOMEMLIMIT") != "" || os.Getenv("GOGC") != "" }

// LimitMemory has the collector of this process work harder where polls and cached SKUs take what they are expected to. The variables
// GOMEMLIMIT and GOGC have precedence. It is for who ships the allocator as a process, before Run.
func (c Config) LimitMemory() {
	if !memoryIsSet() {
		debug.SetMemoryLimit(c.memoryLimit(0))
	}
}

// followMemory keeps the limit that LimitMemory has set where what is in use wants it, until ctx ends.
func (c Config) followMemory(ctx context.Context) {
	set := c.memoryLimit(0)
	if memoryIsSet() || debug.SetMemoryLimit(-1) != set { // it is somebody else's
		return
	}
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if limit := c.memoryLimit(liveBytes()); limit != set {
			set = limit
			debug.SetMemoryLimit(limit)
		}
	}
}

// liveBytes is what the last collection found in use.
func liveBytes() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
