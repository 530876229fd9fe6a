//go:build integration

package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// TestPositions: unknown partitions are added at 0, known ones keep what they have, the topic's id above all.
func TestPositions(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), step(0)))
	got, err := s.Positions(t.Context(), "another topic", []int32{0, 5})
	require.NoError(t, err)
	require.Equal(t, map[int32]Position{0: {TopicID: "topic", NextOffset: 1}, 5: {TopicID: "another topic"}}, got)
	var rows int
	d.row(`SELECT count(*) FROM partitions`, &rows)
	require.Equal(t, 3, rows)
}

// segments commits segments [0,3) [3,5) [5,9) of partition 0, and one of partition 1.
func segments(t *testing.T, s *Store) []outbox.Segment {
	all := []outbox.Segment{{First: 0, Next: 3, Data: []byte{1}}, {First: 3, Next: 5, Data: []byte{2}}, {First: 5, Next: 9, Data: []byte{3}}}
	require.NoError(t, s.Commit(t.Context(), apply.Write{TopicID: "topic", From: 0, Next: 5, Segments: all[:2]}))
	require.NoError(t, s.Commit(t.Context(), apply.Write{TopicID: "topic", From: 5, Next: 9, Segments: all[2:]}))
	require.NoError(t, s.Commit(t.Context(), apply.Write{TopicID: "topic", Partition: 1, From: 0, Next: 4, Segments: []outbox.Segment{{First: 0, Next: 4, Data: []byte{9}}}}))
	return all
}

// TestOutbox: exactly the segments that overlap the range, in order, and the position as of the same moment.
func TestOutbox(t *testing.T) {
	s := newDatabase(t).store(time.Minute)
	all := segments(t, s)
	for _, c := range []struct {
		from, next int64
		want       []outbox.Segment
	}{
		{0, 9, all}, {0, 3, all[:1]}, {2, 4, all[:2]}, {3, 5, all[1:2]}, {4, 6, all[1:]}, {8, 100, all[2:]}, {9, 100, nil}, {1, 2, all[:1]},
	} {
		got, err := s.Outbox(t.Context(), 0, c.from, c.next, 1<<30)
		require.NoError(t, err)
		require.Equal(t, Waiting{Position: Position{TopicID: "topic", NextOffset: 9}, Segments: c.want}, got, "%d..%d", c.from, c.next)
	}
	over, err := s.Outbox(t.Context(), 0, 0, 9, len(all[0].Data))
	require.NoError(t, err)
	require.True(t, over.TooMuch)
	require.Empty(t, over.Segments)
	got, err := s.Outbox(t.Context(), 42, 0, 9, 1<<30)
	require.NoError(t, err)
	require.Equal(t, Waiting{}, got, "nothing is applied of a partition without a row")
}

// TestOutboxIsOneSnapshot: while another commits and trims without pause, each answer covers its range: every offset
// below next is in a segment or below the floor. Read apart, a segment that was deleted in between would be missing.
func TestOutboxIsOneSnapshot(t *testing.T) {
	d := newDatabase(t)
	writer, reader := d.store(time.Minute), d.store(time.Minute)
	const commits = 300
	done := make(chan error, 1)
	go func() {
		for n := range int64(commits) {
			w := step(n)
			w.Segments = []outbox.Segment{{First: n, Next: n + 1, Data: []byte{1}}}
			if err := writer.Commit(t.Context(), w); err != nil {
				done <- err
				return
			}
			if err := writer.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 0, Offset: n - 1}}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for seen := int64(0); seen < commits; {
		got, err := reader.Outbox(t.Context(), 0, 0, commits, 1<<30)
		require.NoError(t, err)
		covered := got.OutboxFloor
		for _, s := range got.Segments {
			require.LessOrEqual(t, s.First, covered)
			covered = s.Next
		}
		require.Equal(t, got.NextOffset, covered)
		seen = got.NextOffset
	}
	require.NoError(t, <-done)
}

// TestTrim: a segment goes when all of it is published; the floor follows, never back, never past what is applied.
func TestTrim(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	all := segments(t, s)
	for _, c := range []struct {
		published, floor int64
		left             []outbox.Segment
	}{
		{0, 0, all}, {2, 2, all}, {3, 3, all[1:]}, {1, 3, all[1:]}, {8, 8, all[2:]}, {1000, 9, nil},
	} {
		require.NoError(t, s.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 0, Offset: c.published}}))
		got, err := s.Outbox(t.Context(), 0, 0, 100, 1<<30)
		require.NoError(t, err)
		require.Equal(t, c.left, got.Segments, "published %d", c.published)
		require.Equal(t, c.floor, got.OutboxFloor, "published %d", c.published)
		require.EqualValues(t, 9, got.NextOffset)
	}
	other, err := s.Outbox(t.Context(), 1, 0, 100, 1<<30)
	require.NoError(t, err)
	require.Len(t, other.Segments, 1, "the other partition keeps its own")
	require.Zero(t, other.OutboxFloor)
	require.NoError(t, s.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 42, Offset: 7}}), "a partition without a row")
}

// TestAnAllocatorOfATopicThatIsGone: it wakes after the topic was created anew and adopted, and its successor has applied commands
// of the new one. It deletes nothing of these, moves nothing on, and is told to start anew, wherever the partition stands now.
func TestAnAllocatorOfATopicThatIsGone(t *testing.T) {
	d := newDatabase(t)
	frozen, successor := d.store(time.Minute), d.store(time.Minute)
	require.NoError(t, frozen.Commit(t.Context(), apply.Write{TopicID: "topic", From: 0, Next: 1000}))
	published := []Published{{TopicID: "topic", Partition: 0, Offset: 1000}}
	require.NoError(t, frozen.Trim(t.Context(), published))
	require.NoError(t, Move(t.Context(), d.url, 0, Position{TopicID: "topic", NextOffset: 1000, OutboxFloor: 1000}, Position{TopicID: "new"}))
	w := apply.Write{TopicID: "new", From: 0, Next: 10, Segments: []outbox.Segment{{First: 0, Next: 10, Data: []byte{1}}}}
	require.NoError(t, successor.Commit(t.Context(), w))
	before := d.contents()

	require.NoError(t, frozen.Trim(t.Context(), published))
	require.Equal(t, before, d.contents())
	require.ErrorIs(t, frozen.Commit(t.Context(), step(10)), apply.ErrRefused)
	require.ErrorIs(t, frozen.Locked(t.Context(), "topic", 0, 10, nil, func(context.Context, apply.Session) error {
		t.Error("it was held for the old topic")
		return nil
	}), apply.ErrRefused)
	require.Equal(t, before, d.contents())
	next, err := frozen.NextOffset(t.Context(), "topic", 0)
	require.NoError(t, err)
	require.EqualValues(t, -1, next)

	require.NoError(t, successor.Trim(t.Context(), []Published{{TopicID: "new", Partition: 0, Offset: 10}}))
	got, err := successor.Outbox(t.Context(), 0, 0, 10, 1<<30)
	require.NoError(t, err)
	require.Equal(t, Waiting{Position: Position{TopicID: "new", NextOffset: 10, OutboxFloor: 10}}, got)
}

// TestTrimForgetsExpiredIDs: of the partition that brought them, and only those older than the time given.
func TestTrimForgetsExpiredIDs(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	d.exec(`INSERT INTO command_seen SELECT 'CHAIR', 'shop', p || '/' || i, '\x00', p, i, timestamptz '2030-06-01 12:00Z' + i * interval '1 hour'
		FROM generate_series(0, 1) p, generate_series(0, 9) i`)
	left := func() (ids string) {
		d.row(`SELECT string_agg(command_id, ' ' ORDER BY command_partition, command_offset) FROM command_seen WHERE command_offset IN (0, 4, 5)`, &ids)
		return ids
	}
	require.NoError(t, s.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 0}, {TopicID: "topic", Partition: 1}}))
	require.Equal(t, "0/0 0/4 0/5 1/0 1/4 1/5", left(), "no time given")
	require.NoError(t, s.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 0}, {TopicID: "topic", Partition: 1, IDsExpired: time.Date(2030, 6, 1, 17, 0, 0, 0, time.UTC)}}))
	require.Equal(t, "0/0 0/4 0/5 1/5", left())
}

// TestTrimForgetsNoIDsThatAreNeededAgain: of a partition that stands behind what was published of it, as after a restore.
func TestTrimForgetsNoIDsThatAreNeededAgain(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	segments(t, s) // of partition 0 to 9
	d.exec(`INSERT INTO command_seen SELECT 'CHAIR', 'shop', i, '\x00', 0, i, timestamptz '2030-06-01 12:00Z' FROM generate_series(0, 9) i`)
	for _, c := range []struct {
		published int64
		left      int
	}{{10, 10}, {9, 0}} {
		require.NoError(t, s.Trim(t.Context(), []Published{{TopicID: "topic", Offset: c.published, IDsExpired: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)}}))
		var left int
		d.row(`SELECT count(*) FROM command_seen`, &left)
		require.Equal(t, c.left, left, "published below %d", c.published)
	}
}

// TestTrimForgetsABoundedNumber: however many ids expired at once, each Trim is short, the oldest go first, and all go.
func TestTrimForgetsABoundedNumber(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	d.exec(`INSERT INTO command_seen SELECT 'CHAIR', 'shop', i, '\x00', 0, i, timestamptz '2030-06-01 12:00Z' + i * interval '1 second'
		FROM generate_series(1, 25000) i`)
	for _, left := range []int{15_000, 5_000, 0} {
		require.NoError(t, s.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 0, IDsExpired: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)}}))
		var ids, newest int
		d.row(`SELECT count(*), coalesce(25000 - min(command_offset) + 1, 0) FROM command_seen`, &ids, &newest)
		require.Equal(t, left, ids)
		require.Equal(t, left, newest)
	}
}
