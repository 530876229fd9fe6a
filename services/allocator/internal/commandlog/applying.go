package commandlog

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// apply brings a polled partition to its end in Postgres, however many tries that takes. Records below the next
// offset were applied by an earlier life; for those nothing is decided.
func (s *session) apply(ctx context.Context, p *polled, generation int32) error {
	s.mu.Lock()
	state := s.parts[p.partition]
	position := state.position
	s.mu.Unlock()
	for pause := applyPauseMin; ; pause = min(2*pause, applyPauseMax) {
		err := s.applyOnce(ctx, p, state, position)
		if err == nil {
			s.setHealth("postgres", nil)
			return nil
		}
		if errors.Is(err, errBehind) {
			return err
		}
		// Whatever went wrong, what happened in Postgres is not known: believe nothing, read again.
		s.setApplied(state, unknown)
		p.decided = nil
		s.applier.Forget()
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

func (s *session) applyOnce(ctx context.Context, p *polled, state *part, position int64) error {
	s.mu.Lock()
	applied := state.applied
	s.mu.Unlock()
	if applied == unknown {
		next, err := s.store.NextOffset(ctx, p.partition)
		if err != nil {
			return err
		}
		applied = next
		s.setApplied(state, next)
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
	if err != nil {
		return err
	}
	p.decided = segments
	s.metrics.commands.Add(float64(len(p.inputs) - first))
	s.setApplied(state, p.next)
	return nil
}

func (s *session) setApplied(state *part, next int64) {
	s.mu.Lock()
	state.applied = next
	s.mu.Unlock()
}

// toPublish finds the records that this poll has to publish: for each of its commands that is not published yet, what
// was decided for it, now or by an earlier life. A segment may reach beyond the poll, because an earlier poll had
// other boundaries; only the commands of this poll are taken from it.
func (s *session) toPublish(ctx context.Context, p *polled) ([]*kgo.Record, error) {
	s.mu.Lock()
	state := s.parts[p.partition]
	from := max(state.position, state.published)
	topicID := state.topicID
	s.mu.Unlock()
	first := sort.Search(len(p.records), func(i int) bool { return p.records[i].Offset >= from })
	wanted := p.records[first:]
	if len(wanted) == 0 {
		return nil, nil
	}
	segments, floor := p.decided, int64(0)
	if len(segments) == 0 || wanted[0].Offset < segments[0].First {
		waiting, err := s.store.Outbox(ctx, p.partition, wanted[0].Offset, p.next)
		if err != nil {
			s.applier.Forget()
			return nil, fmt.Errorf("%w: %w", errStale, err)
		}
		if waiting.NextOffset < p.next {
			return nil, fmt.Errorf("%w: partition %d is applied to %d and was to %d", errBehind, p.partition, waiting.NextOffset, p.next)
		}
		segments, floor = waiting.Segments, waiting.OutboxFloor
		s.metrics.recovered.Add(float64(len(wanted)))
	}
	records, err := s.match(p, topicID, wanted, segments, floor)
	if err != nil {
		s.mu.Lock()
		s.halt(p.partition, err)
		s.mu.Unlock()
		s.pause(p.partition)
		return nil, fmt.Errorf("%w: %w", errStale, err)
	}
	return records, nil
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

// idle looks for a restored database while there is nothing to do, so that the commands which the backup lacks are
// applied again at once, and not when the next command happens to come.
func (s *session) idle(ctx context.Context) error {
	s.trim(ctx)
	var partitions []int32 // assigned now: the client forgets those that it lost
	for p := range s.kafka.Client().CommittedOffsets()[s.config.Topics.Commands.Name] {
		partitions = append(partitions, p)
	}
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

// trim deletes what is published from the outbox, now and then: rows below an offset that was seen to be committed.
func (s *session) trim(ctx context.Context) {
	if time.Since(s.trimmed) < trimInterval {
		return
	}
	s.trimmed = time.Now()
	s.mu.Lock()
	var done []postgres.Published
	for p, state := range s.parts {
		if state.halted {
			continue
		}
		published := postgres.Published{Partition: p, Offset: state.published}
		if newest, ok := s.newest[p]; ok {
			published.IDsExpired = newest.Add(-s.config.CommandIDRetention)
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
