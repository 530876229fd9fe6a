package commandlog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/apply"
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
	normal := part{position: 4, applied: 4, published: 4}
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
	require.Equal(t, apply.Part{Partition: 1, From: 4, Next: 7, In: polls(normal)[1].inputs}, parts[1])
	normal.applied = 5
	require.Equal(t, polls(normal)[1].inputs[1:], s.together(polls(normal))[1].In, "of what is not decided yet")
}
