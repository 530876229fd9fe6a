//go:build integration

package allocator_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator"
)

// Without the group's offsets the start is the outbox floor: what was published and deleted does not appear again,
// what waits in the outbox does.
func TestGroupOffsetsDeleted(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 20)...)
	stop := b.start(small)
	b.check(21)
	conn := b.postgres()
	require.Eventually(t, func() bool {
		var rows int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&rows))
		return rows == 0
	}, 10*time.Second, 50*time.Millisecond)
	stop()
	_, err := b.adm.DeleteGroup(t.Context(), b.topics.AllocatorGroup)
	require.NoError(t, err)
	b.start()
	b.send(b.orders("TABLE", 3)...)
	b.check(25)
}

// A clean stop leaves nothing in the outbox that is published, so that the group's offsets can go without anything
// appearing twice. It is stopped as soon as the events are there, before the next trim is due.
func TestGroupOffsetsDeletedAfterACleanStop(t *testing.T) {
	b := onKfake(t)
	stop := b.start(small, func(c *allocator.Config) { c.GracePeriod = 10 * time.Second })
	b.send(b.orders("CHAIR", 20)...)
	b.awaitCommitted(21)
	stop()
	var rows int
	var waits int64
	require.NoError(t, b.postgres().QueryRow(t.Context(),
		`SELECT (SELECT count(*) FROM outbox), sum(next_offset - outbox_floor)::bigint FROM partitions`).Scan(&rows, &waits))
	require.Zero(t, rows)
	require.Zero(t, waits)
	_, err := b.adm.DeleteGroup(t.Context(), b.topics.AllocatorGroup)
	require.NoError(t, err)
	b.start()
	b.send(b.orders("TABLE", 3)...)
	b.check(25)
}

// awaitCommitted waits until the group has committed so many commands.
func (b *bench) awaitCommitted(commands int64) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		committed, err := b.adm.FetchOffsets(b.t.Context(), b.topics.AllocatorGroup)
		if errors.Is(err, kerr.GroupIDNotFound) { // nobody has joined it yet
			return false
		}
		require.NoError(b.t, err)
		var sum int64
		committed.Each(func(o kadm.OffsetResponse) { sum += max(0, o.At) })
		return sum == commands
	}, waitMax, time.Millisecond)
}

// backup copies the database as it is; restore puts the copy, and what was changed in it, in its place. No allocator may run.
func (b *bench) backup() (restore func(change ...string)) {
	b.t.Helper()
	config, _, _ := backupOf(b.t, b.config.PostgresURL)
	owner, name, of := backupOf(b.t, b.owner)
	postgrestest.Exec(b.t, "CREATE DATABASE "+name+" TEMPLATE "+of)
	b.t.Cleanup(func() { postgrestest.Exec(b.t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return func(change ...string) {
		b.config.PostgresURL, b.owner = config, owner
		for _, sql := range change {
			_, err := b.postgres().Exec(b.t.Context(), sql)
			require.NoError(b.t, err)
		}
	}
}

const compared = "lotline_allocator_commands_compared_total"

// Postgres comes back from an older backup while Kafka has gone on: the commands that the backup lacks are applied
// again from the log, to the same state, and nothing is published twice. What they are decided as is what was published.
func TestPostgresRestoredFromABackup(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 10)...)
	stop := b.start(small)
	b.check(11)
	stop()
	restore := b.backup()

	more := b.orders("CHAIR", 30)[11:]
	b.send(more...)
	stop = b.start(small)
	b.check(31)
	stop()
	want := b.lines()

	restore()
	ready := b.startReady(small, func(c *allocator.Config) { c.EventContentType = schemas.Protobuf })
	require.Eventually(t, func() bool { return len(b.lines()) == len(want) }, 20*time.Second, 100*time.Millisecond,
		"the log is applied again while idle")
	require.Equal(t, want, b.lines())
	require.Eventually(t, func() bool { return ready.metric(compared) == 20 }, waitMax, tick, "%v commands were compared", ready.metric(compared))
	require.Zero(t, ready.metric(fmt.Sprintf(`lotline_allocator_partition_halted{partition="%d"}`, more[0].Partition)))
	b.send(b.orders("TABLE", 3)...)
	b.check(35)
}

// What was restored is not what was backed up: a batch has more in it. Orders are allocated again to where consumers were not
// told. The partition halts at the first of them, by name, before it is in Postgres, also for the next life, and no other. Once
// the fault is mended it goes on by itself, to the state that was.
func TestADifferenceAfterARestoreHaltsThePartition(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 3)...)
	sent := []*kgo.Record{b.command("second", create("b2", "CHAIR", 50)), b.command("cut", schemas.Command{
		Type: schemas.CommandChangeBatchQuantity, SKU: "CHAIR", Ref: "b1", Qty: 4,
	})}
	b.send(sent...)
	stop := b.start(small)
	b.events(6)
	stop()
	restore := b.backup()
	b.send(b.lineCommands(0, 6)...)
	stop = b.start(small)
	b.events(12)
	stop()
	want := b.lines()

	restore(`UPDATE batches SET qty = qty + 2 WHERE ref = 'b1'`)
	partition := sent[0].Partition
	halted := fmt.Sprintf(`lotline_allocator_partition_halted{partition="%d"}`, partition)
	for range 2 { // lives
		ready := b.startReady(small)
		require.Eventually(t, func() bool { return ready.says("decided otherwise than it was published") }, waitMax, tick)
		require.True(t, ready.says("the command at offset 6 (SKU CHAIR)"), "the first one")
		require.Positive(t, ready.metric(halted))
		require.Equal(t, int64(6), b.position(partition).NextOffset, "nothing of it is in Postgres")
		require.Contains(t, b.standing(b.desk(), partition).Halted, "the command at offset 6 (SKU CHAIR) is decided otherwise")
		ready.stop()
	}
	ready := b.startReady(small)
	require.Eventually(t, func() bool { return ready.says("decided otherwise") }, waitMax, tick)
	b.send(b.orders(b.otherPartition(partition), 2)...)
	require.Len(t, b.events(15), 15, "the other partitions go on")
	_, err := b.postgres().Exec(t.Context(), `UPDATE batches SET qty = qty - 2 WHERE ref = 'b1'`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return ready.metric(halted) == 0 }, waitMax, tick, "it goes on by itself")
	require.Empty(t, b.standing(b.desk(), partition).Halted)
	require.Subset(t, b.lines(), want)
	b.send(b.lineCommands(6, 8)...)
	b.events(17)
}

// Orders of a SKU came over two partitions in turn. After a restore one partition's may be decided before the other's: who
// comes first gets the better batch. That is noticed, by name, and ends by itself in the order of then.
func TestARestoreFindsTheOrderOfSharedSKUs(t *testing.T) {
	b := onKfake(t)
	b.sendTo(0, b.command("b1", create("b1", "CHAIR", 3)), b.command("b2", create("b2", "CHAIR", 10)))
	stop := b.start(sudden)
	b.events(2)
	stop()
	restore := b.backup()
	stop = b.start(sudden)
	for i, partition := range []int32{1, 1, 0, 1, 0} { // the first three go to b1
		b.sendTo(partition, b.lineCommands(i, i+1)...)
		b.events(3 + i)
	}
	stop()
	want := b.lines()

	restore()
	ready := b.startReady(sudden)
	require.Eventually(t, func() bool { return len(b.lines()) == len(want) }, 2*waitMax, tick)
	require.Equal(t, want, b.lines())
	require.Eventually(t, func() bool { return ready.metric(compared) == 5 }, waitMax, tick)
	require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick, "nothing is halted")
	b.sendTo(1, b.lineCommands(5, 6)...)
	b.events(8)
}

// Commands that were never applied are deleted from the log: the partition stops by name. Starting at what is left
// would lose them in silence.
func TestTruncatedCommandsHaltThePartition(t *testing.T) {
	b := onKfake(t)
	sent := b.orders("CHAIR", 4)
	b.send(sent...)
	stop := b.start()
	b.check(5)
	stop()
	b.send(b.orders("CHAIR", 9)[5:]...)
	partition := sent[0].Partition
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: b.topics.Commands.Name, Partition: partition, At: 8})
	_, err := b.adm.DeleteRecords(t.Context(), offsets)
	require.NoError(t, err)
	ready := b.startReady()
	require.Eventually(t, func() bool { return ready.says("halted") }, 20*time.Second, 100*time.Millisecond, "readyz names the halt")
	require.Len(t, b.events(5), 5, "nothing after the hole is decided")
	other := b.otherPartition(partition)
	b.send(b.orders(other, 2)...)
	require.Len(t, b.events(8), 8, "the other partitions go on")
}

// The topic is deleted and created again: offsets of the old one mean nothing in the new one.
func TestRecreatedTopicHalts(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 4)...)
	stop := b.start()
	b.check(5)
	stop()
	b.recreate()
	b.send(b.orders("CHAIR", 9)...)
	ready := b.startReady()
	require.Eventually(t, func() bool { return ready.says("created anew") }, 20*time.Second, 100*time.Millisecond)
	require.Len(t, b.events(5), 5)
}

// The broker does not know the topic for a moment, just when its id is asked for. A made-up id would be stored, and
// the partitions halted for good once the true one is known.
func TestATopicsIDIsNeverMadeUp(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 2)...)
	var asked, joined atomic.Int32
	b.fake.ControlKey(int16(kmsg.OffsetFetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		joined.Store(1)
		return nil, nil, false
	})
	b.fake.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		metadata := req.(*kmsg.MetadataRequest)
		if joined.Load() == 0 || asked.Load() > 1 || len(metadata.Topics) != 1 || metadata.Topics[0].Topic == nil {
			return nil, nil, false
		}
		asked.Add(1)
		answer := metadata.ResponseKind().(*kmsg.MetadataResponse)
		host, port, err := net.SplitHostPort(b.config.Kafka.Brokers[0])
		if err != nil {
			t.Error(err)
		}
		broker := kmsg.NewMetadataResponseBroker()
		number, err := strconv.ParseInt(port, 10, 32)
		if err != nil {
			t.Error(err)
		}
		broker.Host, broker.Port = host, int32(number)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.ErrorCode = metadata.Topics[0].Topic, kerr.UnknownTopicOrPartition.Code
		answer.Brokers, answer.Topics = append(answer.Brokers, broker), append(answer.Topics, topic)
		return answer, nil, true
	})
	b.start()
	b.check(3)
	require.Positive(t, asked.Load(), "the fault took effect")
}
