package commandlog

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// The group moves on between what could be published at once and what had to wait for others. The poll is dropped, and its
// wait with it: the partition may be another's by now, who need not wait.
func TestAnAbortedTransactionLeavesNoWait(t *testing.T) {
	s, _ := onKfake(t)
	s.waits[0] = &wait{dependency: dependency{partition: 0, on: 1, below: 5}, since: time.Now().Add(-time.Minute)}
	s.elsewhere[1] = 5
	poll := &polled{partition: 0, state: s.parts[0], next: 3}
	_, generation := s.kafka.GroupMetadata()
	require.NoError(t, s.publish(t.Context(), newQueue([]piece{{poll: poll, next: 3, dependsOn: map[int32]int64{1: 5}}}), generation-1))
	require.Zero(t, s.parts[0].published)
	require.Empty(t, s.waits)
}

// Only a parked partition is looked after between polls; with any other wait a short poll would be a busy loop.
func TestPollsAreShortForParkedPartitionsOnly(t *testing.T) {
	s := &session{waits: map[int32]*wait{0: {}}}
	require.Equal(t, idlePollMax, s.pollMax())
	s.waits[1] = &wait{parked: true}
	require.Equal(t, time.Millisecond, s.pollMax())
}

// After a poll was dropped it is not known exactly what is applied. What was decided and not published then is in the way all
// the same: to wait with another poll in hand for what depends on it would hold everything up for two seconds.
func TestWhatWasDecidedIsInTheWay(t *testing.T) {
	s, _ := onKfake(t)
	s.parts[0] = &part{published: 5}
	q := newQueue(nil)
	s.setApplied(s.parts[0], 9)
	s.setApplied(s.parts[0], unknown)
	require.True(t, s.inOwnWay(q, nil))
	s.waits[0] = &wait{dependency: dependency{partition: 0, on: 1, below: 3}, parked: true}
	require.False(t, s.inOwnWay(q, nil), "it has to wait")
	s.elsewhere[1] = 3
	require.True(t, s.inOwnWay(q, nil), "and need not any more")
	s.parts[0].published = 9
	require.False(t, s.inOwnWay(q, nil))
}

// Partitions 0, 1 and 2 wait in a row, as those of a dead allocator may. Once what the first one waits for is published all
// of them are polled, to be published together, and not one after the other.
func TestWhatWaitsInARowIsFreedAtOnce(t *testing.T) {
	s, _ := onKfake(t)
	row := []dependency{{partition: 2, on: 1, below: 7}, {partition: 1, on: 0, below: 6}, {partition: 0, on: 9, below: 5}, {partition: 3, on: 8, below: 5}}
	for _, d := range row {
		s.waits[d.partition] = &wait{dependency: d, parked: true}
	}
	s.elsewhere[9] = 4
	s.free(row, []int32{0, 1, 2, 3}, nil, false)
	require.Len(t, s.waits, 4)
	s.elsewhere[9] = 5
	s.free(row, []int32{0, 1, 2, 3}, nil, false)
	require.Len(t, s.waits, 1)
	require.True(t, s.parked(3), "which has nothing to do with them")
}

// The commands topic was created anew, and the group's offsets are gone with it. Partition 0 is adopted; partition 1, for which it
// waits, is later, and its floor was one of the topic that is gone. Then 1's command 5 is applied and not published, and what goes on
// from there has to wait.
func TestAFloorOfATopicThatIsGoneSaysNothing(t *testing.T) {
	s, _ := onKfake(t)
	s.parts[0].topicID = "new"
	d := dependency{partition: 0, on: 1, below: 901}
	look := func(at postgres.Position) bool {
		s.waits[0] = &wait{dependency: d, parked: true}
		require.NoError(t, s.look(t.Context()))
		s.free([]dependency{d}, []int32{0}, map[int32]postgres.Position{1: at}, true)
		return len(s.waits) == 0
	}
	published := func(below int64) bool {
		q := newQueue([]piece{{poll: &polled{partition: 0}, next: 4, dependsOn: map[int32]int64{1: below}}})
		return len(q.take(s.publishedBelow)) > 0
	}
	freed := look(postgres.Position{TopicID: "old", NextOffset: 1000, OutboxFloor: 1000})
	require.False(t, published(6), "the floor is of other commands")
	require.False(t, freed)
	require.True(t, look(postgres.Position{TopicID: "new", NextOffset: 6}), "the partition is adopted, so it was moved back")
	require.False(t, published(6))
	d.below = 6
	require.True(t, look(postgres.Position{TopicID: "new", NextOffset: 6, OutboxFloor: 6}))
	require.True(t, published(6), "the floor says it, where the group has no offset")
}

// The topic was created anew with one partition in place of many. Nobody can adopt the others' rows, but what they say is as true as it
// will ever be.
func TestAPartitionThatIsGoneIsNotWaitedForForEver(t *testing.T) {
	s, _ := onKfake(t)
	s.parts[0].topicID = commandsID(t, s)
	d := dependency{partition: 0, on: 11, below: 901}
	s.waits[0] = &wait{dependency: d, parked: true}
	standing := map[int32]postgres.Position{0: {TopicID: "old"}, 11: {TopicID: "old", NextOffset: 1000, OutboxFloor: 1000}}
	require.NoError(t, s.outlast(t.Context(), []dependency{d}, standing))
	require.Equal(t, "old", standing[0].TopicID, "that one can be adopted")
	s.free([]dependency{d}, []int32{0}, standing, true)
	require.Empty(t, s.waits)
}

// What a parked partition waits for may wait for something in its turn, so it is looked for soon as long as anything moves,
// however long the wait has been.
func TestLooksAreSoonWhileSomethingMoves(t *testing.T) {
	s, _ := onKfake(t)
	s.lookPause = lookPauseMin
	for range 20 {
		require.NoError(t, s.look(t.Context()))
		s.lookLater()
	}
	require.Equal(t, lookPauseMax, s.lookPause)
	poll := &polled{partition: 0, state: s.parts[0], next: 3}
	_, generation := s.kafka.GroupMetadata()
	require.NoError(t, s.publish(t.Context(), newQueue([]piece{{poll: poll, next: 3}}), generation))
	require.NoError(t, s.look(t.Context()))
	s.lookLater()
	require.Equal(t, 2*lookPauseMin, s.lookPause)
}

// loads are the SKUs that an applier asked its store for.
type loads struct {
	apply.Store
	skus []string
}

func (l *loads) Load(_ context.Context, need apply.Need) (apply.Loaded, error) {
	l.skus = append(l.skus, need.Products...)
	return apply.Loaded{}, nil
}

func (l *loads) Commit(context.Context, ...apply.Write) error        { return nil }
func (l *loads) Connect(context.Context) (made time.Time, err error) { return made, nil }

// A look after parked partitions that fails takes the connection with it. Behind the next one may be a database restored
// from a backup, in which the same versions have other content: nothing cached counts any more.
func TestAFailedLookForgetsWhatIsCached(t *testing.T) {
	s, _ := onKfake(t)
	var err error
	s.store, err = postgres.New(func() (string, error) { return "postgres://127.0.0.1:1/nobody", nil }, time.Second)
	require.NoError(t, err)
	stored := &loads{}
	s.lanes[0].Applier, err = apply.New(stored, apply.Encoder{Append: func(dst []byte, _ *allocation.Command, _ *allocation.Event) ([]byte, uint8) { return dst, 1 }},
		apply.Limits{ProductsCachedMax: 9, SegmentBytesMax: 1 << 20})
	require.NoError(t, err)
	decide := func(offset int64, ref string) {
		_, err := s.lanes[0].Applier.Apply(t.Context(), "topic", 0, offset, offset+1, []apply.Input{{Offset: offset, Command: allocation.Command{
			Kind: allocation.Kind(1), SKU: "CHAIR", Ref: ref, Qty: 10, Position: allocation.Position{Offset: offset},
		}}})
		require.NoError(t, err)
	}
	decide(0, "b1")
	decide(1, "b2")
	require.Equal(t, []string{"CHAIR"}, stored.skus, "it is cached")
	s.waits[0] = &wait{dependency: dependency{partition: 0, on: 1, below: 5}, parked: true}
	s.unpark(t.Context())
	decide(2, "b3")
	require.Equal(t, []string{"CHAIR", "CHAIR"}, stored.skus)
}
