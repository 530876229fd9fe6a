//go:build integration

package allocator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator"
)

// orders are commands for one SKU: its batch, and n lines of it.
func (b *bench) orders(sku string, n int) []*kgo.Record {
	records := []*kgo.Record{b.command("batch-"+sku, create("b1", sku, 1_000_000))}
	for i := range n {
		records = append(records, b.command(fmt.Sprintf("%s-%d", sku, i), allocate(name(sku, i), sku, 1)))
	}
	return records
}

// check holds what a read_committed consumer saw against Postgres: n events, no hole and no repeat in any SKU's
// versions, and as many allocated lines as Allocated events.
func (b *bench) check(n int) {
	b.t.Helper()
	versions := make(map[string]uint64)
	for _, e := range b.events(n) {
		require.Equal(b.t, versions[e.SKU]+1, e.Version, "%s: versions follow each other", e.SKU)
		versions[e.SKU] = e.Version
	}
	conn := b.postgres()
	defer conn.Close(b.t.Context())
	for sku, version := range versions {
		var stored uint64
		var lines int
		require.NoError(b.t, conn.QueryRow(b.t.Context(),
			`SELECT version, (SELECT count(*) FROM order_lines WHERE sku = $1 AND batchref IS NOT NULL) FROM products WHERE sku = $1`, sku).Scan(&stored, &lines))
		require.Equal(b.t, version, stored, "%s: the stored version is the last event's", sku)
		require.Equal(b.t, int(version)-1, lines, "%s: a line for each Allocated", sku)
	}
}

// small makes polls small and the stop sudden, as in a crash.
func small(c *allocator.Config) { c.PollRecordsMax, c.Sessions, c.GracePeriod = 3, 1, 0 }

func sudden(c *allocator.Config) { c.Sessions, c.GracePeriod = 1, 0 }

// A life decides everything in one poll and dies before its Kafka transaction ends. The next life polls the same
// records in pieces of three: each piece must bring exactly its own commands' events.
func TestCrashAfterPostgresBeforeKafka(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 20)...)
	p := newProxy(t, b.config.PostgresURL)
	blocked, unblock := b.blockEndTxn()
	stop := b.start(sudden, func(c *allocator.Config) { c.PostgresURL = p.url })
	<-blocked
	require.Equal(t, 1, p.seen(), "one commit holds the whole poll")
	stop()
	unblock()
	b.start(small)
	b.check(21)
}

// blockEndTxn makes every end of a transaction get lost with its connection, until unblock; blocked is closed when it
// first happens.
func (b *bench) blockEndTxn() (blocked <-chan struct{}, unblock func()) {
	happened := make(chan struct{})
	var once sync.Once
	var open atomic.Bool
	b.fake.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		if open.Load() {
			return nil, nil, false
		}
		b.fake.KeepControl()
		once.Do(func() { close(happened) })
		return nil, errors.New("cut"), true
	})
	return happened, func() { open.Store(true) }
}

// The Kafka transaction commits and its answer says otherwise: the client believes in an abort and goes back. What was
// published must not be published again.
func TestKafkaCommitWithALostAnswer(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 5)...)
	var lost atomic.Int32
	b.fake.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		end := *req.(*kmsg.EndTxnRequest)
		if !end.Commit || lost.Load() > 0 { // the commit below comes through here as well
			b.fake.KeepControl()
			return nil, nil, false
		}
		lost.Add(1)
		b.fake.SleepControl(func() {
			resp, err := end.RequestWith(context.Background(), b.client)
			if err != nil || resp.ErrorCode != 0 {
				t.Errorf("commit behind the allocator's back: %v %+v", err, resp)
			}
		})
		answer := end.ResponseKind().(*kmsg.EndTxnResponse)
		answer.ErrorCode = kerr.UnknownServerError.Code
		return answer, nil, true
	})
	b.start()
	b.check(6)
	b.send(b.orders("TABLE", 3)...)
	b.check(10)
	require.EqualValues(t, 1, lost.Load(), "the fault took effect")
}

// The answer to Postgres' commit is lost: it happened, and nobody may decide those commands again.
func TestPostgresCommitWithALostAnswer(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 20)...)
	p := newProxy(t, b.config.PostgresURL)
	p.at(func(l *link) bool {
		if p.seen()%2 == 1 {
			l.loseAnswer()
		}
		return true
	})
	b.start(small, func(c *allocator.Config) { c.PostgresURL = p.url })
	b.check(21)
	require.GreaterOrEqual(t, p.seen(), 7)
}

// A poll of two partitions is one commit, and its answer is lost. Both partitions are applied, which each of them finds out
// for itself: taken for not applied, or only one of them, commands would be decided twice or their events forgotten. With two
// connections they are of two lanes, and it is one commit as they are few commands.
//
// What the first poll has is the client's affair: a partition alone, if that one's answer is there first. Then it is tried again.
func TestACommitOfSeveralPartitionsWithALostAnswer(t *testing.T) {
	for _, connections := range []int{1, 2} {
		t.Run(fmt.Sprintf("connections=%d", connections), func(t *testing.T) {
			for range 8 {
				if losesTheFirstAnswer(t, connections) > 1 {
					return
				}
			}
			require.Fail(t, "no commit whose answer was lost had several partitions")
		})
	}
}

// losesTheFirstAnswer returns how many partitions the commit had whose answer was lost.
func losesTheFirstAnswer(t *testing.T, connections int) (together int) {
	b := onKfake(t)
	orders := b.orders("CHAIR", 20)
	b.send(orders...)
	b.send(b.orders(b.otherPartition(orders[0].Partition), 20)...)
	p := newProxy(t, b.config.PostgresURL)
	p.at(func(l *link) bool {
		if p.seen() == 1 {
			l.loseAnswer()
		}
		return true
	})
	stop := b.start(sudden, func(c *allocator.Config) { c.PostgresURL, c.PostgresConnections = p.url, connections })
	b.check(42)
	stop()
	conn := b.postgres()
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(),
		"SELECT count(DISTINCT command_partition) FROM order_lines GROUP BY xmin::text::bigint ORDER BY xmin::text::bigint LIMIT 1").Scan(&together))
	return together
}

// The commit never reaches Postgres: nothing happened, and the commands are decided again.
func TestPostgresCommitThatNeverArrives(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 20)...)
	p := newProxy(t, b.config.PostgresURL)
	p.at(func(*link) bool { return p.seen()%3 != 1 })
	b.start(small, func(c *allocator.Config) { c.PostgresURL = p.url })
	b.check(21)
}

// An allocator freezes with its commit on the way, another takes its partition over and finishes the work, deletes
// the outbox rows too, and then the first one's commit arrives. The commands are refused ones, which move no SKU's
// version: only the compare-and-set of the partition's next offset stands between them and a second life.
func TestAFrozenAllocatorsCommitIsRefused(t *testing.T) {
	b := onKfake(t)
	var records []*kgo.Record
	for i := range 5 {
		records = append(records, b.command(fmt.Sprint("c", i), allocate(name("o", i), "NO-SUCH-SKU", 1)))
	}
	b.send(records...)
	p := newProxy(t, b.config.PostgresURL)
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.at(func(*link) bool {
		once.Do(func() { close(held); <-release })
		return true
	})
	stopFrozen := b.start(sudden, func(c *allocator.Config) { c.PostgresURL, c.InstanceID = p.url, "frozen" })
	<-held
	// Only its way to Postgres is frozen: its Kafka client is well, would join the group again, and could be given the
	// partition, of which nothing would come.
	b.fake.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		join := req.(*kmsg.JoinGroupRequest)
		if !strings.Contains(join.MemberID, ".frozen.") {
			return nil, nil, false
		}
		resp := join.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return resp, nil, true
	})
	b.removeMembers()
	b.start(func(c *allocator.Config) { c.InstanceID = "successor" })
	require.Len(t, b.events(5), 5)
	more := b.command("later", allocate("o9", "NO-SUCH-SKU", 1))
	b.send(more)
	b.events(6)
	conn := b.postgres()
	var before int64
	require.Eventually(t, func() bool {
		var rows int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*), (SELECT max(next_offset) FROM partitions) FROM outbox`).Scan(&rows, &before))
		return rows == 0
	}, 10*time.Second, 50*time.Millisecond, "the successor deletes what it published")
	require.EqualValues(t, 6, before)
	close(release)
	require.Never(t, func() bool {
		var now int64
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT max(next_offset) FROM partitions`).Scan(&now))
		return now != before
	}, time.Second, 50*time.Millisecond, "the next offset never goes back")
	stopFrozen()
	b.events(6)
}

// removeMembers makes the group forget its members, as it does with one that is silent for too long.
func (b *bench) removeMembers() {
	b.t.Helper()
	group := b.topics.AllocatorGroup
	described, err := b.adm.DescribeGroups(b.t.Context(), group)
	require.NoError(b.t, err)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, m := range described[group].Members {
		member := kmsg.NewLeaveGroupRequestMember()
		member.MemberID = m.MemberID
		leave.Members = append(leave.Members, member)
	}
	require.NotEmpty(b.t, leave.Members)
	_, err = leave.RequestWith(b.t.Context(), b.client)
	require.NoError(b.t, err)
}

// A graceful stop finishes its transaction and leaves the group, so whoever takes over waits for neither's timeout, which
// here are longer than the test waits for events.
func TestGracefulStopHandsOver(t *testing.T) {
	for name, install := range map[string]func(*testing.T) *bench{"kfake": onKfake, "kafka": onKafka} {
		t.Run(name, func(t *testing.T) {
			b := install(t)
			b.config.SessionTimeout, b.config.TransactionTimeout = 5*time.Minute, 5*time.Minute
			stop := b.start(func(c *allocator.Config) { c.InstanceID = "first" })
			b.send(b.orders("CHAIR", 10)...)
			b.check(11)
			b.start(func(c *allocator.Config) { c.InstanceID = "second" })
			b.partitionsOf("second", 2*b.config.Sessions)
			stop()
			b.send(b.orders("TABLE", 3)...)
			b.check(15)
		})
	}
}

// Few commands can decide very many events: cuts that send the same lines back and forth. More than a poll may hold
// are published in parts, each once, whatever boundaries the polls have.
func TestCutsThatDecideVeryManyEvents(t *testing.T) {
	const lines, rounds = 4000, 20
	b := onKfake(t)
	records := []*kgo.Record{b.command("a", create("a", "CHAIR", lines))}
	for i := range lines {
		records = append(records, b.command(name("l", i), allocate(name("o", i), "CHAIR", 1)))
	}
	records = append(records, b.command("b", create("b", "CHAIR", lines)))
	change := func(ref string, qty int32) *kgo.Record {
		return b.command("", schemas.Command{Type: schemas.CommandChangeBatchQuantity, SKU: "CHAIR", Ref: ref, Qty: qty})
	}
	for range rounds {
		records = append(records, change("a", 0), change("a", lines), change("b", 0), change("b", lines))
	}
	b.send(records...)
	b.start(func(c *allocator.Config) { c.Sessions = 1 })
	want := 2 + lines + rounds*2*(2*lines+2)
	for i, e := range b.events(want) {
		require.EqualValues(t, i+1, e.Version, "versions follow each other")
	}
}
