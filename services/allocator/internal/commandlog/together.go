package commandlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// A poll of which everything is normal is applied in one Postgres transaction a lane, or one for all of them, whatever partitions its
// commands are of: two round trips and one commit, where one partition after the other would take so many of each. And while that
// commits, the events are on their way: a Kafka transaction is open, and has them. Nobody sees them before it is committed, which it
// is only once Postgres has answered in each lane that it has committed. So published never passes applied, and neither waits for the
// other's disk.
//
//	Postgres refuses one lane, or its answer is lost: the Kafka transaction is aborted and the poll dropped; what was decided, if
//	  anything was, is in the outbox when its records come again
//	Kafka takes no transaction: the lanes commit all the same, and the poll goes the long way, from the outbox
//	this process dies in between: its Kafka transaction is aborted by its next life, or by the broker
//	the answer takes long: read_committed consumers wait at the first record of an open transaction, those of other
//	  allocators' events too. So the commit is given up before the broker would end the transaction, and looked up
//
// Whatever is not normal goes the long way: applied, and then published.

// For so long events are sent after the commit, once they were sent in vain, and twice as long each time in a row: an abort costs
// more than is gained.
const (
	earlyPauseMin = time.Second
	earlyPauseMax = time.Minute
)

// applyTogether applies a poll in one Postgres transaction a lane, or one for all, and says whether it did. If it returns a transaction,
// that is open and has the poll's events. An error means that the poll is to be given up.
//
// It is for what is normal. Where it did not apply the poll, nothing is known of what became of it, and all partitions are left to
// apply, which reads where they are, and tries, waits, compares and halts for each of them by itself.
//
// finishing must be one of grace, and last until the transaction is ended: the client drops records whose context has ended
// before it sent them, and Postgres may be done first.
func (s *session) applyTogether(finishing context.Context, polls []*polled, generation int32) (done bool, open *transaction, err error) {
	parts := s.together(polls)
	if _, now := s.kafka.GroupMetadata(); len(parts) == 0 || now != generation {
		return false, nil, nil
	}
	working, span := applying(finishing, polls...)
	defer span.End()
	working, giveUp := context.WithCancel(working)
	defer giveUp()
	late := time.AfterFunc(math.MaxInt64, giveUp)
	defer late.Stop()
	segments, err := s.inLanes(working, parts, func(segments [][]outbox.Segment) (err error) {
		if s.mayOpen(polls, segments) {
			late.Reset(s.config.openMax())
			open, err = s.openEarly(finishing, polls, segments, generation)
		}
		return err
	})
	s.countShared()
	if errors.Is(err, apply.ErrApart) {
		return false, nil, nil
	}
	if err != nil {
		span.RecordError(err)
		for _, p := range polls {
			s.setApplied(p.state, unknown)
			p.decided = nil
		}
		if open == nil {
			return false, nil, nil
		}
		open.drop(err)
		s.earlyPause = min(max(2*s.earlyPause, earlyPauseMin), earlyPauseMax)
		s.earlyFrom = time.Now().Add(s.earlyPause)
		return false, nil, fmt.Errorf("%w: %w", errStale, err)
	}
	for i, p := range polls {
		p.decided = segments[i]
		s.metrics.commands.Add(float64(len(parts[i].In)))
		s.setApplied(p.state, p.next)
		s.passed(p.state)
	}
	s.setHealth("postgres", nil)
	s.setHealth(pastComponent, nil)
	if open != nil {
		s.earlyPause = 0
	}
	return true, open, nil
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
		parts = append(parts, apply.Part{TopicID: p.state.topicID, Partition: p.partition, From: applied, Next: p.next, In: p.inputs[first:]})
	}
	return parts
}

// mayOpen says whether events of a poll may be sent before they are committed: all of them were decided now, and none has to wait
// for those of another partition.
func (s *session) mayOpen(polls []*polled, segments [][]outbox.Segment) bool {
	if time.Now().Before(s.earlyFrom) {
		return false
	}
	for i, p := range polls {
		if len(segments[i]) == 0 || p.records[0].Offset < segments[i][0].First ||
			slices.ContainsFunc(segments[i], func(s outbox.Segment) bool { return len(s.DependsOn) > 0 }) {
			return false
		}
	}
	return true
}

// openEarly sends what was decided in a Kafka transaction that is to be committed after it.
func (s *session) openEarly(ctx context.Context, polls []*polled, segments [][]outbox.Segment, generation int32) (*transaction, error) {
	for i, p := range polls {
		p.decided = segments[i]
	}
	queue, err := s.collect(ctx, polls)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, queue.take(s.publishedBelow), generation)
}
