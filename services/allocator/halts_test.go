//go:build integration

package allocator_test

import (
	"hash/crc32"
	"sync"
	"testing"
	"time"

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

// desk is what an operator looks and moves from.
func (b *bench) desk() *allocator.Desk {
	b.t.Helper()
	desk, err := allocator.OpenDesk(b.config.Kafka, "test", b.config.PostgresURL)
	require.NoError(b.t, err)
	b.t.Cleanup(desk.Close)
	return desk
}

// standing is what the desk says of a partition; of all others it says that nothing is wrong.
func (b *bench) standing(desk *allocator.Desk, partition int32) allocator.Standing {
	b.t.Helper()
	all, err := desk.Look(b.t.Context())
	require.NoError(b.t, err)
	require.Len(b.t, all, int(b.topics.Commands.Partitions))
	for _, s := range all {
		require.True(b.t, s.Partition == partition || s.Halted == "", "partition %d: %s", s.Partition, s.Halted)
	}
	return all[partition]
}

// skip moves a partition, and holds the plan against what is expected to be given up.
func (b *bench) skip(partition int32, to int64, givenUp ...string) {
	b.t.Helper()
	desk := b.desk()
	plan, err := desk.Plan(b.t.Context(), b.standing(desk, partition), to)
	require.NoError(b.t, err)
	require.Equal(b.t, givenUp, plan.GivenUp)
	require.Empty(b.t, plan.Publish)
	require.Empty(b.t, plan.Stop)
	require.NoError(b.t, desk.Do(b.t.Context(), plan))
	require.ErrorIs(b.t, desk.Do(b.t.Context(), plan), allocator.ErrMoved, "a plan is for the partition as it stood")
}

// A record that cannot be decompressed stops its partition, named with the offset, and no other, whatever came before it
// in the same poll. Moved past it, the partition goes on without a restart, nothing else is skipped, and readiness is
// good again.
func TestAnUndecompressableRecordHaltsUntilItIsSkipped(t *testing.T) {
	spoils := map[string]func(*bench, int32){"broken": (*bench).broken, "too large": (*bench).tooLarge}
	for name, install := range map[string]func(*testing.T) *bench{"kfake": onKfake, "kafka": onKafka} {
		for how, spoil := range spoils {
			if name == "kafka" && how != "too large" {
				continue // it refuses to store what it cannot read itself
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				b := install(t)
				all := b.orders("CHAIR", 9)
				b.send(all[:5]...)
				partition := all[0].Partition
				spoil(b, partition)
				b.send(all[5:]...)
				ready := b.startReady()
				require.Eventually(t, func() bool { return ready.says("from offset 5") }, waitMax, tick)
				b.events(5)
				b.send(b.orders(b.otherPartition(partition), 2)...)
				b.events(8)
				require.True(t, ready.says("halted"))

				s := b.standing(b.desk(), partition)
				require.Contains(t, s.Halted, "from offset 5")
				require.Equal(t, []int64{5, 5, 0, 6, 6}, []int64{s.Applied, s.Committed, s.ToPublish, s.ToDecide, s.SkipTo})
				require.NotEmpty(t, s.Owner)
				b.skip(partition, allocator.SkipAuto, "offsets 5: cannot be read")
				b.events(8 + len(all) - 5)
				require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick, "ready again, without a restart")
				require.Empty(t, b.standing(b.desk(), partition).Halted)
			})
		}
	}
}

// silent has the fetches from an offset of a partition bring nothing, as if what the client says of a batch was lost. asked
// is closed with the first.
func (b *bench) silent(partition int32, offset int64) (asked <-chan struct{}) {
	happened := make(chan struct{})
	var once sync.Once
	b.fake.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		for _, t := range req.(*kmsg.FetchRequest).Topics {
			for _, p := range t.Partitions {
				if p.Partition == partition && p.FetchOffset == offset {
					once.Do(func() { close(happened) })
					b.fake.SleepControl(func() { time.Sleep(tick) })
					answer := req.ResponseKind().(*kmsg.FetchResponse)
					answer.ErrorCode = kerr.FetchSessionIDNotFound.Code // the next one names all partitions again
					return answer, nil, true
				}
			}
		}
		return nil, nil, false
	})
	return happened
}

// After a restart the batch is the first of the assignment: the client stands where it was set to, and reads it anew all
// the same when it is tried again. What it says then is lost, so nothing halts anew. The move is seen nevertheless.
func TestASkipIsSeenWhileAHaltedPartitionIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := onKfake(t)
	all := b.orders("CHAIR", 3)
	b.sendTo(0, all[0])
	b.tooLarge(0)
	b.sendTo(0, all[1:]...)
	first := b.startReady(oneSession)
	require.Eventually(t, func() bool { return first.says("from offset 1") }, waitMax, tick)
	first.stop()

	ready := b.startReady(oneSession)
	require.Eventually(t, func() bool { return ready.says("from offset 1") }, waitMax, tick)
	desk := b.desk()
	plan, err := desk.Plan(t.Context(), b.standing(desk, 0), allocator.SkipAuto)
	require.NoError(t, err)
	select {
	case <-b.silent(0, 1):
	case <-time.After(waitMax):
		require.Fail(t, "the client was not asked to read it again")
	}
	require.NoError(t, desk.Do(t.Context(), plan))
	require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick)
	b.events(len(all))
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
			b.deleteRecords(partition, 8)
			ready := b.startReady()
			require.Eventually(t, func() bool { return ready.says("halted") }, waitMax, tick)
			require.Contains(t, b.standing(b.desk(), partition).Halted, "starts at offset 8, and offset 5 would be next")
			b.skip(partition, allocator.SkipLogStart, "offsets 5..7: deleted from the log before they were decided")
			b.send(all[10])
			b.events(5 + 3)
			require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick)
		})
	}
}

func (b *bench) deleteRecords(partition int32, before int64) {
	b.t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: b.topics.Commands.Name, Partition: partition, At: before})
	answers, err := b.adm.DeleteRecords(b.t.Context(), offsets)
	require.NoError(b.t, err)
	require.NoError(b.t, answers.Error())
}

// recreate deletes the commands topic and makes it anew.
func (b *bench) recreate() {
	b.t.Helper()
	_, err := b.adm.DeleteTopic(b.t.Context(), b.topics.Commands.Name)
	require.NoError(b.t, err)
	b.client.PurgeTopicsFromClient(b.topics.Commands.Name)
	b.createTopics()
}

// A topic that was created anew is adopted from its start, while an allocator runs, although the group's offset of the old
// one is beyond it: that is taken back first, or the first commands of the new topic would count as published.
func TestARecreatedTopicIsAdopted(t *testing.T) {
	for name, install := range map[string]func(*testing.T) *bench{"kfake": onKfake, "kafka": onKafka} {
		t.Run(name, func(t *testing.T) {
			b := install(t)
			b.send(b.orders("CHAIR", 4)...)
			stop := b.start()
			b.events(5)
			stop()
			b.recreate()
			more := b.orders("CHAIR", 9)[5:]
			b.send(more...)
			partition := more[0].Partition
			stale := kadm.Offsets{}
			stale.Add(kadm.Offset{Topic: b.topics.Commands.Name, Partition: partition, At: 5, LeaderEpoch: -1})
			require.NoError(t, b.adm.CommitAllOffsets(t.Context(), b.topics.AllocatorGroup, stale))

			desk := b.desk()
			all, err := desk.Look(t.Context())
			require.NoError(t, err)
			require.Contains(t, all[partition].Halted, "created anew")
			plan, err := desk.Plan(t.Context(), all[partition], allocator.SkipAuto)
			require.NoError(t, err)
			require.Contains(t, plan.GivenUp[0], "all commands from offset 5 on of the topic that was")
			require.NotEmpty(t, plan.Stop)
			ready := b.startReady()
			require.Eventually(t, func() bool { return ready.says("created anew") }, waitMax, tick)
			require.ErrorContains(t, desk.Do(t.Context(), plan), "stop all allocators")
			require.Len(t, b.events(5), 5)
			ready.stop()

			for _, s := range all {
				if s.Halted == "" {
					continue
				}
				plan, err := desk.Plan(t.Context(), s, allocator.SkipAuto)
				require.NoError(t, err)
				require.NoError(t, desk.Do(t.Context(), plan))
			}
			ready = b.startReady()
			b.events(5 + len(more))
			require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick)
		})
	}
}
