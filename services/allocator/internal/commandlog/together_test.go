package commandlog

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// Only polls of which nothing was decided before are applied together: what is below the applied offset is in the outbox, what is
// below the published one is compared with the past, and where nothing is known Postgres is asked first.
func TestOnlyWhatIsNormalIsAppliedTogether(t *testing.T) {
	s := &session{}
	polls := func(state part) []*polled {
		inputs := []apply.Input{{Offset: 4}, {Offset: 6}}
		return []*polled{
			{partition: 0, state: &part{position: 4, applied: 4, published: 4}, inputs: inputs, next: 7},
			{partition: 1, state: &state, inputs: inputs, next: 7},
		}
	}
	normal := part{topicID: "topic", position: 4, applied: 4, published: 4}
	for name, change := range map[string]func(*part){
		"not known":      func(p *part) { p.applied = unknown },
		"a hole":         func(p *part) { p.applied = 3 },
		"restored":       func(p *part) { p.published = 5 },
		"all is applied": func(p *part) { p.applied = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			state := normal
			change(&state)
			require.Empty(t, s.together(polls(state)))
		})
	}
	parts := s.together(polls(normal))
	require.Len(t, parts, 2)
	require.Equal(t, apply.Part{TopicID: "topic", Partition: 1, From: 4, Next: 7, In: polls(normal)[1].inputs}, parts[1])
	normal.applied = 5
	require.Equal(t, polls(normal)[1].inputs[1:], s.together(polls(normal))[1].In, "of what is not decided yet")
}

// After a restore a partition waited to be compared with what was published, and was then applied again, up to what was
// published. What is applied together from there on is not held against anything, also where nothing else follows.
func TestWhatIsAppliedTogetherHasNoPastAnyMore(t *testing.T) {
	s, _ := onKfake(t)
	var err error
	s.lanes[0].Applier, err = apply.New(&takesAll{}, apply.Encoder{}, apply.Limits{ProductsCachedMax: 1, SegmentBytesMax: 1})
	require.NoError(t, err)
	unread := []apply.Input{{Offset: 4, DeadLetter: "not JSON"}}
	polls := []*polled{
		{partition: 0, state: &part{position: 4, applied: 4, published: 4, past: newPast(0, 4)}, inputs: unread, next: 5},
		{partition: 1, state: &part{position: 4, applied: 4, published: 4}, inputs: unread, next: 5},
	}
	s.setHealth("postgres", errPast)
	s.setHealth(pastComponent, errPast)
	s.earlyFrom = time.Now().Add(time.Hour)
	_, generation := s.kafka.GroupMetadata()
	done, _, err := s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.True(t, done)
	require.Empty(t, s.health.Ready())
	for _, p := range polls {
		require.EqualValues(t, 5, p.state.applied)
		require.NotEmpty(t, p.decided)
		require.Nil(t, p.state.past)
	}
}

// takesAll has nothing, and takes whatever is committed.
type takesAll struct{ apply.Store }

func (*takesAll) Load(context.Context, apply.Need) (apply.Loaded, error) { return apply.Loaded{}, nil }
func (*takesAll) Commit(context.Context, ...apply.Write) error           { return nil }
func (*takesAll) Connect(context.Context) (made time.Time, err error)    { return made, nil }

// The partition that waited to be compared went to another session, and nothing comes to this one any more.
func TestAnIdleSessionWaitsForNothing(t *testing.T) {
	s, _ := onKfake(t)
	var err error
	s.store, err = postgres.New(func() (string, error) { return "postgres://127.0.0.1:1/away", nil }, time.Second)
	require.NoError(t, err)
	s.setHealth("publishing", errNotTaken)
	s.setHealth(pastComponent, errPast)
	require.NoError(t, s.idle(t.Context()))
	require.NotContains(t, s.health.Ready(), s.name+" publishing")
	require.NotContains(t, s.health.Ready(), s.name+" "+pastComponent)
	require.Contains(t, s.health.Ready(), s.name+" postgres")
}
