package kafkaclient

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batchOf are the bytes of records as a batch has them.
func batchOf(records ...kmsg.Record) []byte {
	var batch []byte
	for _, r := range records {
		r.Length = 0
		r.Length = int32(len(r.AppendTo(nil))) - 1
		batch = r.AppendTo(batch)
	}
	return batch
}

func compressed(t *testing.T, batch []byte) ([]byte, kgo.CompressionCodecType) {
	t.Helper()
	c, err := kgo.DefaultCompressor(kgo.ZstdCompression())
	require.NoError(t, err)
	out, codec := c.Compress(new(bytes.Buffer), batch)
	return bytes.Clone(out), codec
}

func bounded(most int64) *inflater {
	return &inflater{inner: inflate().inner, most: maxDecompressBatchBytes, room: &room{max: most}}
}

func TestWeight(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(kgo.Record{})+unsafe.Sizeof(&kgo.Record{}), uintptr(recordBytes))
	require.LessOrEqual(t, unsafe.Sizeof(kgo.RecordHeader{}), uintptr(headerBytes))

	none := kmsg.Record{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 100)}
	two := kmsg.Record{Value: []byte("v"), Headers: []kmsg.Header{{Key: "a", Value: []byte("b")}, {Key: "c"}}}
	batch := bytes.Clone(batchOf(none, two, none))
	require.EqualValues(t, cap(batch)+3*recordBytes+2*headerBytes, weigh(batch))

	// What is claimed and cannot be there is not counted, and nothing is read beyond the end.
	for cut := range batch {
		require.LessOrEqual(t, weigh(batch[:cut:cut]), weigh(batch))
	}
	many := batchOf(kmsg.Record{Value: []byte("v"), Headers: []kmsg.Header{{Key: "a"}}})
	many[len(many)-3-1] = 0x7e // 63 headers
	require.LessOrEqual(t, weigh(many), int64(cap(many)+recordBytes+2*headerBytes))
}

func TestRoomIsSharedAndComesBack(t *testing.T) {
	i := bounded(2 * maxDecompressBatchBytes)
	src, codec := compressed(t, batchOf(kmsg.Record{Value: make([]byte, 12<<20)}))
	hold := func() int {
		var held [][]byte
		for {
			out, err := i.Decompress(src, codec)
			if err != nil {
				require.True(t, kerr.IsRetriable(err), "the client tries it again by itself")
				runtime.KeepAlive(held)
				return len(held)
			}
			held = append(held, out)
		}
	}
	require.Equal(t, 2, hold(), "beside two, a third might not fit")
	require.Eventually(t, func() bool { _, err := i.Decompress(src, codec); return err == nil }, 10*time.Second, time.Millisecond)
}

func TestABatchIsRefusedForItsSizeOrItsRecords(t *testing.T) {
	small := make([]kmsg.Record, (maxDecompressBatchBytes+inflatedExtra)/recordBytes+1)
	for name, batch := range map[string][]byte{
		"size":    batchOf(kmsg.Record{Value: make([]byte, maxDecompressBatchBytes)}),
		"records": batchOf(small...),
	} {
		t.Run(name, func(t *testing.T) {
			i := bounded(inflatedMax)
			src, codec := compressed(t, batch)
			_, err := i.Decompress(src, codec)
			require.ErrorIs(t, err, kgo.ErrMaxDecompress)
			require.Zero(t, i.room.used)
		})
	}
}

// Batches of many partitions that would inflate to far more than there is room for are all read, a few at a time.
func TestMoreThanThereIsRoomForIsReadInTheEnd(t *testing.T) {
	const partitions, batches = 6, 24
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"))
	require.NoError(t, err)
	defer cluster.Close()
	i := bounded(3 * maxDecompressBatchBytes)
	client, err := kgo.NewClient(append(Config{Brokers: cluster.ListenAddrs()}.Opts("test"), kgo.ConsumeTopics("t"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.WithDecompressor(i), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(32<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))...)
	require.NoError(t, err)
	defer client.Close()
	zeros := make([]byte, 12<<20)
	for n := range batches {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: int32(n % partitions), Value: zeros}).FirstErr())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	next := make(map[int32]int64)
	for read := 0; read < batches; {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			require.Equal(t, next[r.Partition], r.Offset)
			next[r.Partition]++
			read++
		})
	}
}
