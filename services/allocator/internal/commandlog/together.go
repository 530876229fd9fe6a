package commandlog

import (
	"context"
	"errors"
	"sort"

	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// applyTogether applies a poll of several partitions in one Postgres transaction, and says whether it did: two round trips
// and one commit, where one partition after the other would take so many of each.
//
// It is for what is normal. Whatever else there is, nothing is known of what became of it, and all partitions are left to
// apply, which reads where they are, and tries, waits, compares and halts for each of them by itself.
func (s *session) applyTogether(ctx context.Context, polls []*polled, generation int32) bool {
	parts := s.together(polls)
	if _, now := s.kafka.Client().GroupMetadata(); len(parts) < 2 || now != generation {
		return false
	}
	working, cancel := s.grace(ctx) // a stop lets the running transaction finish
	defer cancel()
	working, span := applying(working, polls...)
	defer span.End()
	segments, err := s.applier.ApplyTogether(working, parts)
	s.countShared()
	if errors.Is(err, apply.ErrApart) {
		return false
	}
	if err != nil {
		span.RecordError(err)
		for _, p := range polls {
			s.setApplied(p.state, unknown)
		}
		return false
	}
	for i, p := range polls {
		p.decided = segments[i]
		s.metrics.commands.Add(float64(len(parts[i].In)))
		s.setApplied(p.state, p.next)
		s.passed(p.state)
	}
	s.setHealth("postgres", nil)
	s.setHealth(pastComponent, nil)
	return true
}

// together are the polls' parts that are to be decided; none if one of them is not of the normal kind: its position in
// Postgres is not known or not where it was polled to, or its commands were decided before, as after a crash or a restore.
func (s *session) together(polls []*polled) []apply.Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := make([]apply.Part, 0, len(polls))
	for _, p := range polls {
		applied := p.state.applied
		if applied == unknown || applied < p.state.position || applied < p.state.published || applied >= p.next {
			return nil
		}
		first := sort.Search(len(p.inputs), func(i int) bool { return p.inputs[i].Offset >= applied })
		parts = append(parts, apply.Part{Partition: p.partition, From: applied, Next: p.next, In: p.inputs[first:]})
	}
	return parts
}
