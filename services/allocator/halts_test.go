//go:build integration

package allocator_test

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator"
)

// broken appends a batch of one record that claims to be compressed by gzip and is not.
func (b *bench) broken(partition int32) {
	b.t.Helper()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: 1, Records: []byte("this is not gzip"),
	}
	batch.Length = int32(len(batch.AppendTo(nil))) - 12
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	found, err := b.adm.ListTopics(b.t.Context(), b.topics.Commands.Name)
	require.NoError(b.t, err)
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch.AppendTo(nil)
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = b.topics.Commands.Name, found[b.topics.Commands.Name].ID, append(rt.Partitions, rp)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 5000, append(req.Topics, rt)
	resp, err := b.client.Broker(0).RetriableRequest(b.t.Context(), req)
	require.NoError(b.t, err)
	require.NoError(b.t, kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode))
}

// tooLarge appends a batch that inflates to more than a client will hold.
func (b *bench) tooLarge(partition int32) {
	b.t.Helper()
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("huge"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(32<<20))...)
	require.NoError(b.t, err)
	defer client.Close()
	r := &kgo.Record{Topic: b.topics.Commands.Name, Partition: partition, Value: make([]byte, 17<<20)}
	require.NoError(b.t, client.ProduceSync(b.t.Context(), r).FirstErr())
}

// position reads where a partition stands.
func (b *bench) position(partition int32) allocator.Position {
	b.t.Helper()
	positions, err := allocator.Positions(b.t.Context(), b.config.PostgresURL)
	require.NoError(b.t, err)
	return positions[partition]
}

// A record that cannot be decompressed stops its partition, named with the offset, and no other. Moved past it, the
// partition goes on without a restart, nothing else is skipped, and readiness is good again.
func TestAnUndecompressableRecordHaltsUntilItIsSkipped(t *testing.T) {
	for name, spoil := range map[string]func(*bench, int32){"broken": (*bench).broken, "too large": (*bench).tooLarge} {
		t.Run(name, func(t *testing.T) {
			b := onKfake(t)
			all := b.orders("CHAIR", 9)
			b.send(all[:5]...)
			partition := all[0].Partition
			ready := b.startReady()
			b.events(5)
			spoil(b, partition)
			b.send(all[5:]...)
			require.Eventually(t, func() bool { return ready.says("from offset 5") }, waitMax, tick)
			b.send(b.orders(b.otherPartition(partition), 2)...)
			b.events(8)
			require.True(t, ready.says("halted"))

			from := b.position(partition)
			require.EqualValues(t, 5, from.NextOffset)
			to := from
			to.NextOffset, to.OutboxFloor = 6, 6
			stale := from
			stale.NextOffset = 4
			require.ErrorIs(t, allocator.MovePosition(t.Context(), b.config.PostgresURL, partition, stale, to, 5), allocator.ErrMoved)
			require.NoError(t, allocator.MovePosition(t.Context(), b.config.PostgresURL, partition, from, to, 5))
			b.events(8 + len(all) - 5)
			require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick, "ready again, without a restart")
		})
	}
}

// Truncated before they were applied: the rest goes on after the hole once somebody says so, in the running process.
func TestATruncatedPartitionGoesOnOnceItIsMoved(t *testing.T) {
	for name, install := range map[string]func(*testing.T) *bench{"kfake": onKfake, "kafka": onKafka} {
		t.Run(name, func(t *testing.T) {
			b := install(t)
			all := b.orders("CHAIR", 11)
			b.send(all[:5]...)
			partition := all[0].Partition
			stop := b.start()
			b.events(5)
			stop()
			b.send(all[5:10]...)
			offsets := kadm.Offsets{}
			offsets.Add(kadm.Offset{Topic: b.topics.Commands.Name, Partition: partition, At: 8})
			_, err := b.adm.DeleteRecords(t.Context(), offsets)
			require.NoError(t, err)
			ready := b.startReady()
			require.Eventually(t, func() bool { return ready.says("halted") }, waitMax, tick)
			from := b.position(partition)
			to := from
			to.NextOffset, to.OutboxFloor = 8, 8
			require.NoError(t, allocator.MovePosition(t.Context(), b.config.PostgresURL, partition, from, to, 5))
			b.send(all[10])
			b.events(5 + 3)
			require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick)
		})
	}
}
