package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestOffsetsFollowTheAcknowledgement(t *testing.T) {
	b := newBroker(t)
	old := append(b.produce(0, "a", 5), b.produce(1, "a", 3)...) // before the group exists: it starts at the start
	s := newShutSink()
	p := b.start(s)
	first := s.waitHeld(t)
	more := b.produce(0, "b", 4)
	time.Sleep(moment)
	require.Empty(t, b.committed(), "nothing was acknowledged")
	require.Equal(t, first, s.held(), "a block must not change while it is written")
	require.Len(t, s.blocks(), 1, "blocks are written one after the other")

	close(s.shut)
	s.waitFor(t, append(old, more...))
	b.waitCommitted(map[int32]int64{0: 9, 1: 3})
	p.stop()

	after := b.produce(1, "c", 2)
	next := newSink()
	b.start(next)
	next.waitFor(t, after)
	b.waitCommitted(map[int32]int64{0: 9, 1: 5})
}

// A projector is stopped just after the other one's heartbeat: no other moment leaves the partitions alone for longer.
func TestTheOtherProjectorTakesOverSoon(t *testing.T) {
	b := newBroker(t)
	heartbeats := make(chan string, 1000)
	b.fake.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		heartbeats <- req.(*kmsg.HeartbeatRequest).MemberID
		return nil, nil, false
	})
	gone, stays := newSink(), newSink()
	p, other := b.start(gone), b.start(stays)
	sharing := func(p *projector) bool { return p.consumer.owned.has(0) != p.consumer.owned.has(1) }
	eventually(t, func() bool { return sharing(p) && sharing(other) }, func() string { return "they do not share the partitions" })
	for len(heartbeats) > 0 {
		<-heartbeats
	}
	survivor, _ := other.consumer.client.GroupMetadata()
	for member := range heartbeats {
		if member == survivor {
			break
		}
	}
	p.stop()
	stopped := time.Now()
	stays.waitFor(t, append(b.produce(0, "a", 1), b.produce(1, "a", 1)...))
	require.Less(t, time.Since(stopped), 1500*time.Millisecond)
}

func TestWhatWasNotAcknowledgedIsReadAgain(t *testing.T) {
	b := newBroker(t)
	all := append(b.produce(0, "a", 5), b.produce(1, "a", 3)...)
	held := newShutSink()
	p := b.start(held)
	held.waitHeld(t)
	p.stop()
	require.Empty(t, b.committed(), "stopping must not commit what was not acknowledged")

	s := newSink()
	b.start(s)
	s.waitFor(t, all)
	b.waitCommitted(map[int32]int64{0: 5, 1: 3})
}

// Whatever the store answers, the same block is written until it is taken.
func TestAStoreThatRefusesIsNamedAndTriedAgain(t *testing.T) {
	b := newBroker(t)
	s := newSink()
	s.fail(errors.New("the table is read-only"))
	p := b.start(s)
	all := b.produce(0, "a", 5)
	eventually(t, func() bool {
		return testutil.ToFloat64(p.consumer.metrics.insertRetries.WithLabelValues(reasonOutage)) >= 3
	}, func() string { return "it is not tried again" })
	require.Equal(t, "the table is read-only", p.health.Ready()["store"])
	require.Empty(t, b.committed())
	tries := s.blocks()
	require.Equal(t, tries[0], tries[1], "the block stays the same while it is tried")

	s.fail(nil)
	s.waitFor(t, all)
	b.waitCommitted(map[int32]int64{0: 5})
	require.NotContains(t, p.health.Ready(), "store")
}

// A steady trickle is never quiet, and must not wait for the longest interval when the store is fast.
func TestASteadyTrickleIsWrittenAsFastAsTheStoreTakesIt(t *testing.T) {
	b := newBroker(t)
	s := newSink()
	p := b.start(s, func(c *Config) { c.FlushInterval = time.Hour })
	ctx, stop := context.WithCancel(t.Context())
	trickle := make(chan struct{})
	go func() {
		defer close(trickle)
		for i := 0; ctx.Err() == nil; i++ {
			_ = b.plain.ProduceSync(ctx, event(0, fmt.Sprint("0-", i))).FirstErr()
			time.Sleep(QuietPeriod / 10)
		}
	}()
	eventually(t, func() bool { return len(s.blocks()) >= 5 }, func() string { return fmt.Sprint("only ", len(s.blocks()), " blocks") })
	stop()
	<-trickle

	p.consumer.insertTook.Store(int64(time.Second))
	require.Equal(t, time.Second, p.consumer.flushAfter(), "a slow store is spared")
	p.consumer.insertTook.Store(int64(time.Hour))
	require.Equal(t, time.Hour, p.consumer.flushAfter(), "and the interval is the most")
	p.consumer.insertTook.Store(1)
	require.Equal(t, QuietPeriod, p.consumer.flushAfter())
}

// Who would rather spare the store waits for larger blocks, also when nothing more comes; a full one waits for nothing.
func TestBlocksWaitForTheLeastInterval(t *testing.T) {
	b := newBroker(t)
	s := newSink()
	const least = 6 * QuietPeriod
	p := b.start(s, func(c *Config) { c.FlushIntervalMin, c.FlushInterval = least, time.Hour })
	start := time.Now()
	all := b.produce(0, "a", 1)
	s.waitFor(t, all)
	require.GreaterOrEqual(t, time.Since(start), least)
	p.stop()

	s = newSink()
	b.start(s, func(c *Config) { c.FlushIntervalMin, c.FlushInterval, c.BlockEventsMax = time.Hour, time.Hour, 3 })
	s.waitFor(t, b.produce(0, "b", 3))
}

func TestPartitionKeepsItsOrder(t *testing.T) {
	b := newBroker(t)
	want := b.produce(0, "a", 50)
	s := newSink()
	b.start(s, func(c *Config) { c.BlockEventsMax = 7 })
	s.waitFor(t, want)
	require.Equal(t, want, s.all())
	for _, block := range s.blocks() {
		require.LessOrEqual(t, len(block), 7)
	}
}

func TestAbortedTransactionsNeverReachTheSink(t *testing.T) {
	b := newBroker(t)
	tx := b.client(kgo.TransactionalID("allocator"))
	publish := func(id string, how kgo.TransactionEndTry) {
		require.NoError(t, tx.BeginTransaction())
		require.NoError(t, tx.ProduceSync(t.Context(), event(0, id), event(1, id)).FirstErr())
		require.NoError(t, tx.EndTransaction(t.Context(), how))
	}
	publish("aborted", kgo.TryAbort)
	publish("first", kgo.TryCommit)
	publish("aborted too", kgo.TryAbort)
	require.NoError(t, tx.BeginTransaction())
	require.NoError(t, tx.ProduceSync(t.Context(), event(0, "open"), event(1, "open")).FirstErr())

	s := newSink()
	b.start(s)
	s.waitFor(t, []string{"first", "first"})
	time.Sleep(moment)
	require.ElementsMatch(t, []string{"first", "first"}, s.all(), "an open transaction is not read")
	b.waitCommitted(map[int32]int64{0: 6, 1: 6}) // past the markers, so that the lag comes down to 0

	require.NoError(t, tx.EndTransaction(t.Context(), kgo.TryCommit))
	s.waitFor(t, []string{"first", "first", "open", "open"})
	b.waitCommitted(map[int32]int64{0: 8, 1: 8})
}

func TestRecordThatIsNoEventHaltsItsPartitionByName(t *testing.T) {
	for reason, spoil := range map[string]func(*kgo.Record){
		"ce_type is missing":   func(r *kgo.Record) { r.Headers = nil },
		"is not a known event": func(r *kgo.Record) { retype(r, "lotline.event.v9.Burnt") },
		"JSON":                 func(r *kgo.Record) { r.Value = []byte("{") },
		"no version":           func(r *kgo.Record) { r.Value = []byte(withoutVersion(r.Value)) },
	} {
		t.Run(reason, func(t *testing.T) {
			b := newBroker(t)
			want := b.produce(0, "a", 2)
			bad := event(0, "bad")
			spoil(bad)
			require.NoError(t, b.plain.ProduceSync(t.Context(), bad).FirstErr())
			b.produce(0, "never", 2)
			want = append(want, b.produce(1, "a", 3)...)

			for range 2 { // the second start finds it again
				s := newSink()
				p := b.start(s)
				want = append(want, b.produce(1, "more", 2)...)
				s.waitFor(t, want)
				b.produce(0, "never", 1)
				require.ElementsMatch(t, b.produce(1, "late", 1), waitNew(t, s, len(want)), "the other partition flows on")
				at := b.ends()[1]
				b.waitCommitted(map[int32]int64{0: 2, 1: at})
				eventually(t, func() bool { return p.health.Ready()[topic+"/0"] != "" }, func() string { return fmt.Sprint(p.health.Ready()) })
				require.Contains(t, p.health.Ready()[topic+"/0"], "the record at offset 2 is not an event")
				require.Contains(t, p.health.Ready()[topic+"/0"], reason)
				require.NotContains(t, p.health.Ready(), topic+"/1")
				p.stop()
				want = nil
			}
		})
	}
}

// An offset that the log does not have is neither taken as the start nor as the end: either would lose events silently.
func TestLostEventsHaltTheirPartitionByName(t *testing.T) {
	b := newBroker(t)
	b.produce(0, "a", 5)
	want := b.produce(1, "a", 3)
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 2, -1)
	require.NoError(t, b.adm.CommitAllOffsets(t.Context(), group, offsets))
	gone := kadm.Offsets{}
	gone.AddOffset(topic, 0, 4, -1)
	_, err := b.adm.DeleteRecords(t.Context(), gone)
	require.NoError(t, err)

	s := newSink()
	p := b.start(s)
	s.waitFor(t, want)
	eventually(t, func() bool { return p.health.Ready()[topic+"/0"] != "" }, func() string { return fmt.Sprint(p.health.Ready()) })
	require.Contains(t, p.health.Ready()[topic+"/0"], "events are missing")
	time.Sleep(moment)
	require.ElementsMatch(t, want, s.all())
	b.waitCommitted(map[int32]int64{0: 2, 1: 3})
}

func TestNewGroupStartsWithTheOldestEventThatIsLeft(t *testing.T) {
	b := newBroker(t)
	all := b.produce(0, "a", 5)
	gone := kadm.Offsets{}
	gone.AddOffset(topic, 0, 3, -1)
	_, err := b.adm.DeleteRecords(t.Context(), gone)
	require.NoError(t, err)
	s := newSink()
	b.start(s)
	s.waitFor(t, all[3:])
	b.waitCommitted(map[int32]int64{0: 5})
}

func TestStopLeavesTheGroup(t *testing.T) {
	b := newBroker(t)
	s := newSink()
	p := b.start(s)
	s.waitFor(t, b.produce(0, "a", 1))
	start := time.Now()
	p.stop()
	require.Less(t, time.Since(start), sessionTimeout/2)
	described, err := b.adm.DescribeGroups(t.Context(), group)
	require.NoError(t, err)
	require.Empty(t, described[group].Members, "partitions must not wait for a session to time out")
}

// A projector that lost a partition while its block was being written must not move the new owner's offset back.
func TestLateAcknowledgementDoesNotMoveOffsetsBack(t *testing.T) {
	b := newBroker(t)
	b.produce(0, "a", 5)
	b.produce(1, "a", 5)
	slow := newShutSink()
	first := b.start(slow)
	slow.waitHeld(t)

	s := newSink()
	b.start(s)
	eventually(t, func() bool { return len(s.all()) > 0 }, func() string { return "the second projector got no partition" })
	moved := int32(0)
	if s.all()[0][0] == '1' {
		moved = 1
	}
	b.produce(moved, "b", 5)
	b.waitCommitted(map[int32]int64{moved: 10})

	close(slow.shut)
	b.waitCommitted(map[int32]int64{moved: 10, 1 - moved: 5})
	require.True(t, slices.ContainsFunc(slow.all(), func(id string) bool { return id[0] == byte('0'+moved) }),
		"the slow block must hold events of the partition that moved")
	first.stop()
	require.Equal(t, int64(10), b.committed()[moved])
}

// waitNew returns what s received after its first n events, once there is something.
func waitNew(t *testing.T, s *sink, n int) []string {
	t.Helper()
	eventually(t, func() bool { return len(s.all()) > n }, func() string { return fmt.Sprintf("only %v", s.all()) })
	return s.all()[n:]
}

func TestTopicThatComesLateIsWaitedFor(t *testing.T) {
	b := newBroker(t)
	_, err := b.adm.DeleteTopics(t.Context(), topic)
	require.NoError(t, err)
	s := newSink()
	p := b.start(s)
	eventually(t, func() bool { return strings.Contains(p.health.Ready()["kafka"], topic) }, func() string { return fmt.Sprint(p.health.Ready()) })
	_, err = b.adm.CreateTopic(t.Context(), 2, 1, nil, topic)
	require.NoError(t, err)
	b.plain.ForceMetadataRefresh()
	s.waitFor(t, b.produce(0, "a", 3))
}
