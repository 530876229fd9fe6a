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
	_, generation := s.kafka.Client().GroupMetadata()
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

// loads are the SKUs that an applier asked its store for.
type loads struct {
	apply.Store
	skus []string
}

func (l *loads) Load(_ context.Context, need apply.Need) (apply.Loaded, error) {
	l.skus = append(l.skus, need.Products...)
	return apply.Loaded{}, nil
}

func (l *loads) Commit(context.Context, apply.Write) error { return nil }

// A look after parked partitions that fails takes the connection with it. Behind the next one may be a database restored
// from a backup, in which the same versions have other content: nothing cached counts any more.
func TestAFailedLookForgetsWhatIsCached(t *testing.T) {
	s, _ := onKfake(t)
	var err error
	s.store, err = postgres.New(func() (string, error) { return "postgres://127.0.0.1:1/nobody", nil }, time.Second)
	require.NoError(t, err)
	stored := &loads{}
	s.applier, err = apply.New(stored, apply.Encoder{Append: func(dst []byte, _ *allocation.Command, _ *allocation.Event) ([]byte, uint8) { return dst, 1 }},
		apply.Limits{ProductsCachedMax: 9, SegmentBytesMax: 1 << 20})
	require.NoError(t, err)
	decide := func(offset int64, ref string) {
		_, err := s.applier.Apply(t.Context(), 0, offset, offset+1, []apply.Input{{Offset: offset, Command: allocation.Command{
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
