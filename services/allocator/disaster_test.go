//go:build integration

package allocator_test

import (
	"context"
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
	"github.com/twmb/franz-go/pkg/kmsg"

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

// Postgres comes back from an older backup while Kafka has gone on: the commands that the backup lacks are applied
// again from the log, to the same state, and nothing is published twice.
func TestPostgresRestoredFromABackup(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 10)...)
	stop := b.start(small)
	b.check(11)
	stop()
	admin := b.postgresAdmin()
	database := b.config.Kafka.TopicPrefix
	_, err := admin.Exec(t.Context(), fmt.Sprintf(`CREATE DATABASE "%[1]s_backup" TEMPLATE "%[1]s"`, database))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := b.postgresAdmin().Exec(context.Background(), fmt.Sprintf(`DROP DATABASE "%s_backup" WITH (FORCE)`, database))
		require.NoError(t, err)
	})

	more := b.orders("CHAIR", 30)[11:]
	b.send(more...)
	stop = b.start(small)
	b.check(31)
	stop()
	want := b.lines()

	b.config.PostgresURL, b.owner = backupURL(b.config.PostgresURL, database), backupURL(b.owner, database)
	b.start(small)
	require.Eventually(t, func() bool { return len(b.lines()) == len(want) }, 20*time.Second, 100*time.Millisecond,
		"the log is applied again while idle")
	require.Equal(t, want, b.lines())
	b.send(b.orders("TABLE", 3)...)
	b.check(35)
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
	_, err := b.adm.DeleteTopic(t.Context(), b.topics.Commands.Name)
	require.NoError(t, err)
	b.client.PurgeTopicsFromClient(b.topics.Commands.Name)
	b.createTopics()
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
