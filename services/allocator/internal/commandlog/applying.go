package commandlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// apply brings a polled partition to its end in Postgres, however many tries that takes. Records below the next
// offset were applied by an earlier life; for those nothing is decided.
func (s *session) apply(ctx context.Context, p *polled, generation int32) error {
	s.mu.Lock()
	position := p.state.position
	s.mu.Unlock()
	if _, now := s.kafka.Client().GroupMetadata(); now != generation {
		return fmt.Errorf("%w: the group moved on since the poll", errStale)
	}
	working, cancel := s.grace(ctx) // a stop lets the running transaction finish
	defer cancel()
	broken := 0
	for pause := applyPauseMin; ; pause = min(2*pause, applyPauseMax) {
		err := s.applyOnce(working, p, position)
		if err == nil {
			s.setHealth("postgres", nil)
			return nil
		}
		if errors.Is(err, errBehind) {
			return err
		}
		// Whatever went wrong, what happened in Postgres is not known: believe nothing, read again.
		s.setApplied(p.state, unknown)
		p.decided = nil
		s.applier.Forget()
		if errors.Is(err, apply.ErrBroken) || errors.Is(err, allocation.ErrInconsistent) {
			if broken++; broken > 1 { // decided twice, the second time from nothing but what is stored
				s.stop(p.partition, err)
				return fmt.Errorf("%w: %w", errStale, err)
			}
		}
		if !errors.Is(err, apply.ErrRefused) {
			s.setHealth("postgres", err)
			s.log.Warn("commands wait for Postgres", "partition", p.partition, "error", err, "pause", pause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if _, now := s.kafka.Client().GroupMetadata(); now != generation {
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
	applied := p.state.applied
	s.mu.Unlock()
	if applied == unknown {
		next, err := s.store.NextOffset(ctx, p.partition)
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
	segments, err := s.applier.Apply(ctx, p.partition, applied, p.next, p.inputs[first:])
	s.countShared()
	if err != nil {
		return err
	}
	p.decided = segments
	s.metrics.commands.Add(float64(len(p.inputs) - first))
	s.setApplied(p.state, p.next)
	return nil
}

// countShared counts what SKUs cost that other allocators change too, and explains the first time.
func (s *session) countShared() {
	now := s.applier.Counters
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
	state.applied = next
	s.mu.Unlock()
}

// toPublish finds the records that this poll has to publish: for each of its commands that is not published yet, what
// was decided for it, now or by an earlier life. A segment may reach beyond the poll, because an earlier poll had
// other boundaries; only the commands of this poll are taken from it.
func (s *session) toPublish(ctx context.Context, p *polled, bytesMax int) (out []*kgo.Record, bytes int, err error) {
	s.mu.Lock()
	from := max(p.state.position, p.state.published)
	topicID := p.state.topicID
	s.mu.Unlock()
	first := sort.Search(len(p.records), func(i int) bool { return p.records[i].Offset >= from })
	wanted := p.records[first:]
	if len(wanted) == 0 {
		return nil, 0, nil
	}
	segments, floor := p.decided, int64(0)
	if len(segments) == 0 || wanted[0].Offset < segments[0].First {
		waiting, err := s.store.Outbox(ctx, p.partition, wanted[0].Offset, p.next, bytesMax)
		if err != nil {
			s.applier.Forget()
			return nil, 0, fmt.Errorf("%w: %w", errStale, err)
		}
		if waiting.NextOffset < p.next {
			return nil, 0, fmt.Errorf("%w: partition %d is applied to %d and was to %d", errBehind, p.partition, waiting.NextOffset, p.next)
		}
		if waiting.TooMuch {
			return nil, 0, errTooMuch
		}
		for _, r := range wanted {
			if len(segments) == 0 || r.Offset < segments[0].First {
				s.metrics.recovered.Inc()
			}
		}
		segments, floor = waiting.Segments, waiting.OutboxFloor
	}
	for _, segment := range segments {
		bytes += len(segment.Data)
	}
	if bytes > bytesMax {
		return nil, 0, errTooMuch
	}
	out, err = s.match(p, topicID, wanted, segments, floor)
	if err != nil {
		s.stop(p.partition, err)
		return nil, 0, fmt.Errorf("%w: %w", errStale, err)
	}
	return out, bytes, nil
}

// stop halts a partition and has the client leave it alone.
func (s *session) stop(partition int32, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halt(partition, reason)
	s.pause(partition)
}

// match walks the wanted commands and the decided entries, both in order of offset. A command that is neither in a
// segment nor below the floor has lost its events: that is said by name, never passed over.
func (s *session) match(p *polled, topicID string, wanted []*kgo.Record, segments []outbox.Segment, floor int64) ([]*kgo.Record, error) {
	out := make([]*kgo.Record, 0, len(wanted))
	var entries []outbox.Entry
	for _, r := range wanted {
		for len(entries) == 0 || entries[0].Offset < r.Offset {
			if len(entries) > 0 {
				entries = entries[1:]
				continue
			}
			if len(segments) == 0 {
				break
			}
			var err error
			if entries, err = segments[0].Entries(); err != nil {
				return nil, err
			}
			segments = segments[1:]
		}
		switch {
		case len(entries) > 0 && entries[0].Offset == r.Offset && entries[0].DeadLetter != "":
			out = append(out, deadLetter(s.config.Topics.DeadLetters.Name, r, entries[0].DeadLetter))
			p.deadLetters++
		case len(entries) > 0 && entries[0].Offset == r.Offset:
			out = append(out, eventRecords(s.config.Topics.Events.Name, topicID, p.partition, entries[0])...)
			p.events += len(entries[0].Messages)
		case r.Offset < floor:
			// Published and deleted by an earlier life.
		default:
			return nil, fmt.Errorf("the command at offset %d is applied, and its events are neither in the outbox nor published", r.Offset)
		}
	}
	return out, nil
}

// assigned are the partitions that this member has now, sorted: the client forgets those that it lost.
func (s *session) assigned() []int32 {
	return slices.Sorted(maps.Keys(s.kafka.Client().CommittedOffsets()[s.config.Topics.Commands.Name]))
}

// idle looks for a restored database while there is nothing to do, so that the commands which the backup lacks are
// applied again at once, and not when the next command happens to come.
func (s *session) idle(ctx context.Context) error {
	s.trim(ctx)
	partitions := s.assigned()
	next, err := s.store.NextOffsets(ctx, partitions)
	s.setHealth("postgres", err)
	if err != nil {
		s.applier.Forget()
		s.log.Warn("looking after Postgres while idle", "error", err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range partitions {
		state := s.parts[p]
		switch {
		case state == nil || state.halted:
		case next[p] < state.position:
			return fmt.Errorf("%w: partition %d was read to %d and is applied to %d", errBehind, p, state.position, next[p])
		case next[p] != state.applied:
			state.applied = unknown
			s.applier.Forget()
		}
	}
	if _, generation := s.kafka.Client().GroupMetadata(); generation >= 0 {
		s.health.Set(s.name, nil)
	}
	return nil
}

// idsExpiredMargin keeps ids longer than decisions ask for them: append times may go back a little, and whether an id
// is still known must depend on the log alone, never on when rows were deleted.
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
		published := postgres.Published{Partition: p, Offset: state.published}
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
		s.applier.Forget()
		s.log.Warn("the outbox keeps what is published for now", "error", err)
	}
}
