//go:build integration

package allocator_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator"
)

// sendTo sends commands to a partition, as a producer with another partitioner would.
func (b *bench) sendTo(partition int32, records ...*kgo.Record) {
	b.t.Helper()
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("manual"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(b.t, err)
	defer client.Close()
	for _, r := range records {
		r.Partition = partition
	}
	require.NoError(b.t, client.ProduceSync(b.t.Context(), records...).FirstErr())
}

// lines are Allocate commands of CHAIR.
func (b *bench) lineCommands(from, to int) (records []*kgo.Record) {
	for i := from; i < to; i++ {
		records = append(records, b.command(fmt.Sprint("c", i), allocate(name("o", i), "CHAIR", 1)))
	}
	return records
}

// partitionsOf finds the partitions that an allocator has, once as many members as wanted share them.
func (b *bench) partitionsOf(instance string, members int) (partitions []int32) {
	b.t.Helper()
	group := b.topics.AllocatorGroup
	require.Eventually(b.t, func() bool {
		described, err := b.adm.DescribeGroups(b.t.Context(), group)
		if err != nil || described[group].State != "Stable" || len(described[group].Members) != members {
			return false
		}
		total := 0
		for _, m := range described[group].Members {
			assigned, ok := m.Assigned.AsConsumer()
			if !ok {
				return false
			}
			for _, t := range assigned.Topics {
				total += len(t.Partitions)
				if strings.Contains(m.ClientID, "."+instance+".") {
					partitions = t.Partitions
				}
			}
		}
		return len(partitions) > 0 && total == int(b.topics.Commands.Partitions)
	}, waitMax, tick)
	return partitions
}

// awaitApplied waits until a partition is applied up to an offset.
func (b *bench) awaitApplied(partition int32, next int64) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.position(partition).NextOffset == next }, waitMax, tick, "partition %d applied to %d", partition, next)
}

// hold keeps back the requests of one kind that come from a transactional id which contains name, until release, which has them
// answered or lost. held is closed when the first one came.
func (b *bench) hold(key kmsg.Key, name string) (held <-chan struct{}, release func(answer bool)) {
	happened, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var answered atomic.Bool
	release = func(answer bool) { answered.Store(answer); close(released) }
	b.fake.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		var id string
		switch req := req.(type) {
		case *kmsg.ProduceRequest:
			if req.TransactionID != nil {
				id = *req.TransactionID
			}
		case *kmsg.EndTxnRequest:
			id = req.TransactionalID
		}
		if !strings.Contains(id, name) {
			return nil, nil, false
		}
		once.Do(func() { close(happened) })
		b.fake.SleepControl(func() {
			select {
			case <-released:
			case <-b.t.Context().Done():
			}
		})
		return nil, errors.New("cut"), !answered.Load()
	})
	return happened, release
}

// Allocator A commits versions 2..6 to Postgres and is held before they are published; B goes on from there with 7..11, over
// another partition. Published at once, B's events would come first, and a consumer that keeps the highest version would
// skip A's. So they wait: until A goes on, or, if it was killed, until B has its partition and publishes for it.
func TestVersionsComeInOrderOverTwoPartitions(t *testing.T) {
	for name, c := range map[string]struct {
		at     kmsg.Key
		killed bool
	}{
		"A is held before its events are sent":    {kmsg.Produce, false},
		"A is held before its transaction ends":   {kmsg.EndTxn, false},
		"A is killed before its events are sent":  {kmsg.Produce, true},
		"A is killed before its transaction ends": {kmsg.EndTxn, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := onKfake(t)
			stopA := b.start(sudden, func(c *allocator.Config) { c.InstanceID = "a" })
			b.partitionsOf("a", 1)
			ready := b.startReady(func(c *allocator.Config) { c.InstanceID, c.Sessions = "b", 1 })
			pA, ofB := b.partitionsOf("a", 2)[0], b.partitionsOf("b", 2)
			pB := ofB[0]
			b.sendTo(pA, b.command("batch", create("b1", "CHAIR", 1000)))
			b.events(1)

			held, release := b.hold(c.at, ".a.")
			b.sendTo(pA, b.lineCommands(0, 5)...)
			<-held
			b.awaitApplied(pA, 6)
			b.sendTo(pB, b.lineCommands(5, 10)...)
			b.awaitApplied(pB, 5)
			require.Eventually(t, func() bool {
				return ready.says(fmt.Sprintf("partition %d waits for events of partition %d up to offset 5", pB, pA))
			}, waitMax, tick, "readyz names what is waited for")
			b.sendTo(ofB[1], b.command("lamp", create("b1", "LAMP", 10)))
			require.Equal(t, []string{"CHAIR", "LAMP"}, skus(b.events(2)), "others need not wait")
			if c.killed {
				stopA()
			}
			release(!c.killed)
			b.check(12)
			require.Eventually(t, func() bool { return !ready.says("waits") }, waitMax, tick)
		})
	}
}

func skus(events []published) (skus []string) {
	for _, e := range events {
		skus = append(skus, e.SKU)
	}
	slices.Sort(skus)
	return skus
}

// Life after life decides commands of two partitions in turn and dies before it publishes. The outbox then has segments
// of both that depend on each other, back and forth, and the life that publishes them polls three commands at once.
func TestAlternatingSegmentsArePublishedInOrder(t *testing.T) {
	const lives, perLife = 5, 4
	t.Parallel()
	b := onKfake(t)
	b.sendTo(0, b.command("batch", create("b1", "CHAIR", 1000)))
	_, unblock := b.blockEndTxn()
	sent := int64(0)
	stop := b.start(sudden)
	b.awaitApplied(0, 1)
	stop()
	for range lives {
		for partition := range int32(2) {
			b.sendTo(partition, b.lineCommands(int(sent), int(sent)+perLife)...)
			sent += perLife
		}
		stop = b.start(sudden)
		b.awaitApplied(0, 1+sent/2)
		b.awaitApplied(1, sent/2)
		stop()
	}
	var turns int
	require.NoError(t, b.postgres().QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE depends_on IS NOT NULL`).Scan(&turns))
	require.GreaterOrEqual(t, turns, lives, "the partitions depend on each other")
	unblock()
	b.start(small)
	b.check(1 + int(sent))
}

// What partition 1 waits for is on a partition that is halted, because its events are lost. That is named, other
// partitions go on, and once the cause is mended so do the two.
func TestWaitingForAHaltedPartition(t *testing.T) {
	t.Parallel()
	b := onKfake(t)
	b.sendTo(0, b.command("batch", create("b1", "CHAIR", 1000)))
	_, unblock := b.blockEndTxn()
	stop := b.start(sudden)
	b.awaitApplied(0, 1)
	stop()
	conn := b.postgres()
	_, err := conn.Exec(t.Context(), `CREATE TABLE lost AS SELECT * FROM outbox`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `DELETE FROM outbox`)
	require.NoError(t, err)
	unblock()
	ready := b.startReady()
	require.Eventually(t, func() bool { return ready.says("partition 0 of") && ready.says("halted") }, waitMax, tick)
	b.sendTo(1, b.lineCommands(0, 5)...)
	require.Eventually(t, func() bool { return ready.says("partition 1 waits for events of partition 0 up to offset 0") }, waitMax, tick)
	b.sendTo(2, b.command("lamp", create("b1", "LAMP", 10)))
	require.Equal(t, []string{"LAMP"}, skus(b.events(1)))
	_, err = conn.Exec(t.Context(), `INSERT INTO outbox SELECT * FROM lost`)
	require.NoError(t, err)
	b.check(7)
}

// Partition 0 is published and its outbox rows are gone, and then the group's offsets are. Nothing in Kafka says any more
// that what partition 1 depends on is published; the floor does.
func TestTheFloorSaysWhatIsPublished(t *testing.T) {
	t.Parallel()
	b := onKfake(t)
	b.sendTo(0, b.command("batch", create("b1", "CHAIR", 1000)))
	stop := b.start(sudden)
	b.events(1)
	require.Eventually(t, func() bool { return b.position(0).OutboxFloor == 1 }, waitMax, tick)
	stop()
	_, err := b.adm.DeleteGroup(t.Context(), b.topics.AllocatorGroup)
	require.NoError(t, err)
	// Only the one that does not have partition 0 needs to ask: the other knows the floor from its start.
	b.start(sudden, func(c *allocator.Config) { c.InstanceID = "a" })
	b.partitionsOf("a", 1)
	b.start(sudden, func(c *allocator.Config) { c.InstanceID = "b" })
	other := b.partitionsOf("b", 2)
	if other[0] == 0 {
		other = b.partitionsOf("a", 2)
	}
	b.sendTo(other[0], b.lineCommands(0, 5)...)
	b.check(6)
}
