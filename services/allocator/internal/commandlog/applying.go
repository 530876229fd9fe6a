package commandlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// apply brings a polled partition to its end in Postgres, however many tries that takes. Records below the next
// offset were applied by an earlier life; for those nothing is decided.
func (s *session) apply(ctx context.Context, p *polled, generation int32) error {
	s.mu.Lock()
	position := p.state.position
	s.mu.Unlock()
	if _, now := s.kafka.GroupMetadata(); now != generation {
		return fmt.Errorf("%w: the group moved on since the poll", errStale)
	}
	working, cancel := s.grace(ctx) // a stop lets the running transaction finish
	defer cancel()
	working, span := applying(working, p)
	defer span.End()
	broken := 0
	for pause := applyPauseMin; ; pause = min(2*pause, applyPauseMax) {
		err := s.applyOnce(working, p, position)
		if err == nil {
			s.setHealth("postgres", nil)
			s.setHealth(pastComponent, nil)
			return nil
		}
		if errors.Is(err, errBehind) {
			return err
		}
		span.RecordError(err)
		// Whatever went wrong, what happened in Postgres is not known: believe nothing, read again.
		s.setApplied(p.state, unknown)
		p.decided = nil
		s.lanes[s.lane(p.partition)].Applier.Forget()
		if errors.Is(err, apply.ErrDiffers) {
			s.stop(p.partition, err)
			return fmt.Errorf("%w: %w", errStale, err)
		}
		if errors.Is(err, apply.ErrBroken) || errors.Is(err, allocation.ErrInconsistent) {
			if broken++; broken > 1 { // decided twice, the second time from nothing but what is stored
				s.stop(p.partition, err)
				return fmt.Errorf("%w: %w", errStale, err)
			}
		}
		switch {
		case errors.Is(err, errPast):
			s.setHealth(pastComponent, err)
			s.log.WarnContext(working, "commands wait to be compared with what was published", "partition", p.partition, "error", err, "pause", pause)
		case !errors.Is(err, apply.ErrRefused):
			s.setHealth("postgres", err)
			s.log.WarnContext(working, "commands wait for Postgres", "partition", p.partition, "error", err, "pause", pause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if _, now := s.kafka.GroupMetadata(); now != generation {
			return fmt.Errorf("%w: the group moved on while Postgres was not to be had", errStale)
		}
	}
}

const (
	applyPauseMin = 5 * time.Millisecond
	applyPauseMax = 2 * time.Second
)

func (s *session) applyOnce(ctx context.Context, p *polled, position int64) error {
	s.mu.Lock()
	applied, topicID := p.state.applied, p.state.topicID
	s.mu.Unlock()
	if applied == unknown {
		next, err := s.lanes[s.lane(p.partition)].Store.NextOffset(ctx, topicID, p.partition)
		if err != nil {
			return err
		}
		applied = next
		s.setApplied(p.state, next)
	}
	if position > applied {
		// Applying from here would leave a hole: the commands between were applied to a state that is gone.
		return fmt.Errorf("%w: partition %d was read to %d and is applied to %d", errBehind, p.partition, position, applied)
	}
	if applied >= p.next {
		return nil
	}
	first := sort.Search(len(p.inputs), func(i int) bool { return p.inputs[i].Offset >= applied })
	past, err := s.past(ctx, p, applied, p.inputs[first].Time)
	if err != nil {
		return err
	}
	var check apply.Check
	if past != nil {
		check = past.Differs
	}
	segments, err := s.lanes[s.lane(p.partition)].Applier.ApplyAgain(ctx, topicID, p.partition, applied, p.next, p.inputs[first:], check)
	s.countShared()
	if errors.Is(err, apply.ErrDiffers) {
		s.agreed(ctx, p, past, applied)
	}
	if err != nil {
		return err
	}
	p.decided = segments
	s.metrics.commands.Add(float64(len(p.inputs) - first))
	s.metrics.compared.Add(float64(past.compared(applied, p.next)))
	s.setApplied(p.state, p.next)
	return nil
}

// countShared counts what SKUs cost that other allocators change too, and explains the first time.
func (s *session) countShared() {
	var now apply.Counters
	for _, l := range s.lanes {
		now.Refusals += l.Applier.Counters.Refusals
		now.Locked += l.Applier.Counters.Locked
	}
	s.metrics.refusals.Add(float64(now.Refusals - s.counted.Refusals))
	s.metrics.locked.Add(float64(now.Locked - s.counted.Locked))
	if now.Locked > s.counted.Locked {
		s.metrics.warnSharedOnce.Do(func() {
			s.log.Warn("commands of one SKU come over several partitions, to several allocators: they are decided correctly and more slowly; key commands by SKU with the murmur2 partitioner")
		})
	}
	s.counted = now
}

func (s *session) setApplied(state *part, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state.applied = next; next != unknown {
		state.decided = next
	}
}

// stop halts a partition and has the client leave it alone.
func (s *session) stop(partition int32, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halt(partition, reason, true)
	s.pause(partition)
}

// assigned are the partitions that this member has now, sorted: the client forgets those that it lost.
func (s *session) assigned() []int32 {
	return slices.Sorted(maps.Keys(s.kafka.CommittedOffsets()[s.config.Topics.Commands.Name]))
}

// idle looks for a restored database while there is nothing to do, so that the commands which the backup lacks are
// applied again at once, and not when the next command happens to come.
func (s *session) idle(ctx context.Context) error {
	// Nothing waits here to be published or compared: what could not be was taken over by another, and must not be named for ever.
	s.setHealth("publishing", nil)
	s.setHealth(pastComponent, nil)
	settling, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	// Whatever else went wrong here goes wrong again before the next transaction, and is said then.
	s.settleNoLonger()
	for _, p := range s.producers {
		if err := s.awaitMarkers(settling, p, false); errors.Is(err, errLeftOpen) {
			return err
		}
	}
	s.trim(ctx)
	partitions := s.assigned()
	at, err := s.store.Standing(ctx, partitions)
	s.setHealth("postgres", err)
	if err != nil {
		s.forget()
		s.log.Warn("looking after Postgres while idle", "error", err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range partitions {
		state := s.parts[p]
		switch {
		case state == nil || state.halted:
		case at[p].NextOffset < state.position:
			return fmt.Errorf("%w: partition %d was read to %d and is applied to %d", errBehind, p, state.position, at[p].NextOffset)
		case at[p].NextOffset != state.applied:
			state.applied = unknown
			s.forget()
		}
	}
	if s.joined(settling) {
		s.lostGeneration = unknown
		s.health.Set(s.name, nil)
	}
	return nil
}

// joined says whether this member is in the group. The client speaks of a generation that it was thrown out of when the next
// poll is taken, and may be in the next one by then: that one is taken for the lost one. Where no commands come, nothing else
// would show that it is not, so the group is asked who is in it.
func (s *session) joined(ctx context.Context) bool {
	member, generation := s.kafka.GroupMetadata()
	if generation != s.lostGeneration {
		return true
	}
	described, err := s.admin.DescribeGroups(ctx, s.config.Group)
	return err == nil && slices.ContainsFunc(described[s.config.Group].Members, func(m kadm.DescribedGroupMember) bool { return m.MemberID == member })
}

// idsExpiredMargin keeps ids longer than decisions ask for them: append times may go back a little, and whether an id
// is still known must depend on the log alone, never on when rows were deleted. So it does over the partition that brought
// the id, whose newest command says what has expired. A repeat that comes over another one, as after partitions were added,
// is known for sure only where that is less than this behind; further behind, the row may be gone when it is decided.
const idsExpiredMargin = time.Hour

// trim deletes what is published from the outbox, now and then: rows below an offset that was seen to be committed.
func (s *session) trim(ctx context.Context) {
	if time.Since(s.trimmed) < trimInterval {
		return
	}
	s.trimmed = time.Now()
	assigned := s.assigned()
	s.mu.Lock()
	var done []postgres.Published
	for _, p := range assigned {
		state := s.parts[p]
		if state == nil || state.halted {
			continue
		}
		published := postgres.Published{TopicID: state.topicID, Partition: p, Offset: state.published}
		if newest, ok := s.newest[p]; ok {
			published.IDsExpired = newest.Add(-s.config.CommandIDRetention - idsExpiredMargin)
		}
		done = append(done, published)
	}
	s.mu.Unlock()
	if len(done) == 0 {
		return
	}
	if err := s.store.Trim(ctx, done); err != nil {
		s.forget()
		s.log.Warn("the outbox keeps what is published for now", "error", err)
	}
}

// trimLast deletes what is published before the worker leaves, so that after a clean stop of all allocators nothing in
// the outbox is published: whatever becomes of the group's offsets then, nothing can appear twice. A partition that goes
// to another worker needs no such care: its first trim does it.
func (s *session) trimLast(ctx context.Context) {
	finishing, cancel := s.grace(ctx)
	defer cancel()
	s.trimmed = time.Time{}
	s.trim(finishing)
}
