package commandlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// part is what a session knows of one partition.
//
//	position   the next record to be polled: everything below is published, or was taken from the outbox already
//	published  every event of a command below it is visible on the events topic
//	applied    Postgres' next offset as last read or written; unknown (-1) after anything went wrong
type part struct {
	topicID             string
	position, published int64
	applied             int64
	halted              bool
}

const unknown = -1

// adjust decides where newly assigned partitions start, from the group's committed offset (published) and from
// Postgres (applied). The client calls it from its own goroutine, after its stable fetch of the group's offsets.
//
//   - Normally published <= applied: start at published; what is applied already comes from the outbox.
//   - Postgres was restored from a backup: applied < published. Start at applied; commands below published are applied
//     again and nothing is published for them.
//   - The group has no offset: start at the outbox's floor, never at applied, or the events in between are lost.
func (s *session) adjust(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	topic := s.config.Topics.Commands.Name
	committed := offsets[topic]
	partitions := slices.Sorted(maps.Keys(committed))
	if len(partitions) == 0 {
		return offsets, nil
	}
	var topicID string
	var positions map[int32]postgres.Position
	err := fault.Retry(ctx, s.log, "read where the partitions stand", func(ctx context.Context) error {
		found, err := s.admin.ListTopics(ctx, topic)
		if err != nil {
			return fmt.Errorf("ask for the id of topic %s: %w", topic, err)
		}
		detail := found[topic]
		if detail.Err == nil && detail.ID == (kadm.TopicID{}) {
			detail.Err = errors.New("the broker does not say")
		}
		if detail.Err != nil { // never a made-up id: it would be stored, and the true one taken for another topic's
			return fmt.Errorf("ask for the id of topic %s: %w", topic, detail.Err)
		}
		topicID = topicName(detail.ID)
		positions, err = s.store.Positions(ctx, topicID, partitions)
		s.setHealth("postgres", err)
		return err
	})
	if err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	start := make(map[int32]kgo.Offset, len(partitions))
	for _, p := range partitions {
		at := positions[p]
		if at.TopicID != topicID {
			s.halt(p, fmt.Errorf("the topic was created anew (its id was %s and is %s): offsets of the old one mean nothing in it", at.TopicID, topicID))
			continue
		}
		known := committed[p].EpochOffset().Offset
		if known < 0 {
			if at.NextOffset > 0 {
				s.log.Warn("the group's offset is gone, starting from the outbox floor: events of published commands that are still in the outbox may appear again, with the same ids",
					"partition", p, "outbox_floor", at.OutboxFloor, "next_offset", at.NextOffset)
			}
			known = at.OutboxFloor
		}
		state := &part{
			topicID:   topicID,
			published: max(known, at.OutboxFloor),
			position:  min(known, at.NextOffset),
			applied:   at.NextOffset,
		}
		if state.position < state.published {
			s.log.Warn("Postgres is behind what was published, as after a restore: applying again, publishing nothing below the published offset",
				"partition", p, "next_offset", at.NextOffset, "published", state.published)
		}
		s.parts[p] = state
		s.unhalt(p)
		start[p] = kgo.NewOffset().At(state.position).WithEpoch(-1)
	}
	s.setHealth("kafka", nil)
	return map[string]map[int32]kgo.Offset{topic: start}, nil
}

// halt marks a partition as stopped by name: nothing of it is published until a person has decided, and nothing is
// skipped. The other partitions go on. The caller holds mu.
func (s *session) halt(partition int32, reason error) {
	reason = fmt.Errorf("partition %d of %s is halted: %w", partition, s.config.Topics.Commands.Name, reason)
	s.log.Error("partition halted, nothing of it is skipped: mend the cause and restart the allocator", "partition", partition, "error", reason)
	s.health.Set(partitionComponent(partition), reason)
	s.metrics.halted.WithLabelValues(label(partition)).Set(1)
	if s.parts[partition] == nil {
		s.parts[partition] = &part{}
	}
	s.parts[partition].halted = true
}

// unhalt forgets a halt that an earlier assignment ended in; the next poll resumes the partition. The caller holds mu.
func (s *session) unhalt(partition int32) {
	s.health.Set(partitionComponent(partition), nil)
	s.metrics.halted.WithLabelValues(label(partition)).Set(0)
}

func partitionComponent(partition int32) string {
	return fmt.Sprintf("commands partition %d", partition)
}

func (s *session) setHealth(component string, err error) {
	s.health.Set(s.name+" "+component, err)
}

// Reasons for a session to end. None loses anything: the next one starts from what Kafka and Postgres say.
var (
	errBehind  = errors.New("Postgres is behind the position that was read to, as after a restore from a backup")
	errUnknown = errors.New("the outcome of the Kafka transaction is not known")
)
