package commandlog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// laneStore loads and commits as it is told.
type laneStore struct {
	apply.Store
	load   func() error
	commit func(context.Context) error
	writes []apply.Write
}

func (l *laneStore) Connect(context.Context) (made time.Time, err error) { return made, nil }

func (l *laneStore) Load(context.Context, apply.Need) (apply.Loaded, error) {
	return apply.Loaded{}, l.load()
}

func (l *laneStore) Commit(ctx context.Context, writes ...apply.Write) error {
	if err := l.commit(ctx); err != nil {
		return err
	}
	l.writes = writes
	return nil
}

// lanesOf makes a session with a lane for each store, in a transaction of its own whatever a poll has. All of them load and commit.
func lanesOf(t *testing.T, stores ...*laneStore) *session {
	t.Helper()
	s := &session{Worker: &Worker{}, laneOf: map[int32]int{0: 0, 2: 0, 1: 1, 5: 1, 7: 1}}
	for _, store := range stores {
		store.load, store.commit = func() error { return nil }, func(context.Context) error { return nil }
		applier, err := apply.New(store, apply.Encoder{}, apply.Limits{ProductsCachedMax: 1, SegmentBytesMax: 1})
		require.NoError(t, err)
		s.lanes = append(s.lanes, Lane{Applier: applier})
	}
	return s
}

func partsOf(partitions ...int32) (parts []apply.Part) {
	for _, p := range partitions {
		offset := int64(p) * 10
		parts = append(parts, apply.Part{Partition: p, From: offset, Next: offset + 1, In: []apply.Input{{Offset: offset, DeadLetter: "not JSON"}}})
	}
	return parts
}

func (l *laneStore) partitions() (written []int32) {
	for _, w := range l.writes {
		written = append(written, w.Partition)
	}
	return written
}

func TestEachLaneHasPartitionsOfItsOwn(t *testing.T) {
	a, b := &laneStore{}, &laneStore{}
	s := lanesOf(t, a, b)
	calls := 0
	segments, err := s.inLanes(t.Context(), partsOf(5, 2, 0, 7), func(of [][]outbox.Segment) error {
		calls++
		require.Len(t, of, 4)
		for i, first := range []int64{50, 20, 0, 70} {
			require.Equal(t, first, of[i][0].First, "in the order of the parts")
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, calls)
	require.EqualValues(t, 20, segments[1][0].First)
	require.Equal(t, []int32{2, 0}, a.partitions())
	require.Equal(t, []int32{5, 7}, b.partitions())
	_, err = s.inLanes(t.Context(), partsOf(2), ignored)
	require.NoError(t, err, "a lane that has nothing to do is not waited for")
}

func ignored([][]outbox.Segment) error { return nil }

// Few commands are one transaction, whichever lanes their partitions are of.
func TestFewCommandsAreOneTransaction(t *testing.T) {
	a, b := &laneStore{}, &laneStore{}
	s := lanesOf(t, a, b)
	s.oneTransactionMax = 4
	segments, err := s.inLanes(t.Context(), partsOf(5, 2, 0, 7), func(of [][]outbox.Segment) error {
		for i, first := range []int64{50, 20, 0, 70} {
			require.Equal(t, first, of[i][0].First, "in the order of the parts")
		}
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, 20, segments[1][0].First)
	require.Equal(t, []int32{2, 0, 5, 7}, a.partitions())
	require.Empty(t, b.writes)

	_, err = s.inLanes(t.Context(), partsOf(5, 2, 0, 7, 1), ignored)
	require.NoError(t, err)
	require.Equal(t, []int32{2, 0}, a.partitions())
	require.Equal(t, []int32{5, 7, 1}, b.partitions())
}

// Whichever partitions a member has, and whichever go, its lanes have as many.
func TestPartitionsAreSharedAmongLanes(t *testing.T) {
	s, _ := onKfake(t)
	s.lanes = make([]Lane, 2)
	require.Equal(t, []int32{0}, s.assigned())
	require.Equal(t, 0, s.lane(0))
	s.laneOf = map[int32]int{0: 1, 4: 0, 6: 0} // 4 and 6 went to others
	require.Equal(t, 0, s.lane(2))
	require.Equal(t, map[int32]int{0: 1, 2: 0}, s.laneOf)
	require.Equal(t, 1, s.lane(0), "for as long as it is assigned")
}

// Where one lane does not come to a decision, nothing is written.
func TestNoLaneCommitsBeforeAllHaveDecided(t *testing.T) {
	away := errors.New("Postgres is away")
	a, b := &laneStore{}, &laneStore{}
	s := lanesOf(t, a, b)
	b.load = func() error { return away }
	_, err := s.inLanes(t.Context(), partsOf(0, 1), func([][]outbox.Segment) error {
		return errors.New("it is not decided")
	})
	require.ErrorIs(t, err, away)
	require.NotErrorIs(t, err, apply.ErrApart)
	require.Empty(t, a.writes)
	require.Empty(t, b.writes)
	require.Zero(t, s.lanes[0].Applier.Counters.Refusals)
}

// What cannot be sent is an error, and was committed all the same: as before a crash, it is in the outbox.
func TestWhatCannotBeSentIsAnError(t *testing.T) {
	full := errors.New("no transaction can be begun")
	a, b := &laneStore{}, &laneStore{}
	s := lanesOf(t, a, b)
	_, err := s.inLanes(t.Context(), partsOf(0, 1), func([][]outbox.Segment) error { return full })
	require.ErrorIs(t, err, full)
	require.NotErrorIs(t, err, apply.ErrApart, "or it would be taken for nothing written")
	require.Equal(t, []int32{0, 1}, append(a.partitions(), b.partitions()...))
}

// No lane waits until events are sent. That takes a fifth of the time of a commit, so the lane that waited would be done that much later,
// and the others' cores would be idle.
func TestLanesCommitWhileEventsAreSent(t *testing.T) {
	a, b := &laneStore{}, &laneStore{}
	s := lanesOf(t, a, b)
	committed := make(chan struct{}, 2)
	a.commit = func(context.Context) error { committed <- struct{}{}; return nil }
	b.commit = a.commit
	_, err := s.inLanes(t.Context(), partsOf(0, 1), func([][]outbox.Segment) error {
		for range 2 {
			select {
			case <-committed:
			case <-time.After(10 * time.Second):
				return errors.New("a lane waits")
			}
		}
		return nil
	})
	require.NoError(t, err)
}

// A lane that is refused is no reason to cut off another's commit, whose outcome would not be known then.
func TestARefusedLaneLeavesTheOthersAlone(t *testing.T) {
	a, b := &laneStore{}, &laneStore{}
	s := lanesOf(t, a, b)
	refused := make(chan struct{})
	b.commit = func(context.Context) error { close(refused); return apply.ErrRefused }
	a.commit = func(ctx context.Context) error {
		<-refused
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(shut): // what must not happen has so long to happen
			return nil
		}
	}
	_, err := s.inLanes(t.Context(), partsOf(0, 1), ignored)
	require.ErrorIs(t, err, apply.ErrRefused)
	require.Equal(t, []int32{0}, a.partitions())
}
