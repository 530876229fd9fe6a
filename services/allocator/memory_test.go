//go:build integration

package allocator_test

import (
	"io"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// heapMax is what DESIGN.md promises of an allocator's heap whatever its producers send.
const heapMax = 400 << 20

// peakHeap watches the bytes of objects on this process' heap until stop returns their maximum.
func peakHeap() (stop func() uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	done := make(chan struct{})
	var peak uint64
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() uint64 { close(done); watch.Wait(); return peak }
}

// metric reads a counter of the service.
func (r readiness) metric(name string) float64 {
	resp, err := http.Get(strings.Replace(r.url, "/readyz", "/metrics", 1))
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(r.t, err)
			return count
		}
	}
	return -1
}

// bombs appends batches that inflate far: to one record of 15 MiB each, and to many of the smallest.
func (b *bench) bombs(large, small int) {
	b.t.Helper()
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("hostile"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(32<<20), kgo.MaxBufferedRecords(small+1))...)
	require.NoError(b.t, err)
	defer client.Close()
	zeros := make([]byte, 15<<20)
	for i := range large {
		r := &kgo.Record{Topic: b.topics.Commands.Name, Partition: int32(i % 12), Value: zeros}
		require.NoError(b.t, client.ProduceSync(b.t.Context(), r).FirstErr())
	}
	records := make([]*kgo.Record, small)
	for i := range records {
		records[i] = &kgo.Record{Topic: b.topics.Commands.Name, Partition: 11}
	}
	require.NoError(b.t, client.ProduceSync(b.t.Context(), records...).FirstErr())
}

// Kilobytes on the wire that inflate to 600 MiB, in batches below the bound of a batch and one above it, leave the
// allocator's heap within what it promises. Good commands among them are decided, the bombs that can be read become dead
// letters, and the one that cannot halts its partition alone.
func TestBombsDoNotTakeTheMemoryOnApacheKafka(t *testing.T) {
	const large, small = 40, 50_000
	b := onKafka(t)
	first := b.orders("CHAIR", 3)
	b.send(first...)
	b.bombs(large, small)
	last := b.orders(b.otherPartition(first[0].Partition), 3)
	b.send(last...)
	b.tooLarge(first[0].Partition)
	runtime.GC()
	stop := peakHeap()
	ready := b.startReady()
	// Not read, only counted: this process would hold them too.
	require.Eventually(t, func() bool { return ready.metric("lotline_allocator_dead_letters_total") == large+small }, 2*waitMax, tick)
	require.Eventually(t, func() bool { return ready.says("halted") }, waitMax, tick)
	peak := stop()
	t.Logf("%d bombs: the heap's peak was %d MiB", large, peak>>20)
	b.events(len(first) + len(last))
	require.Less(t, peak, uint64(heapMax))
}
