package commandlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// part is what a session knows of one partition.
//
//	position   the next record to be polled: everything below is published, or was taken from the outbox already
//	published  every event of a command below it is visible on the events topic
//	applied    Postgres' next offset as last read or written; unknown (-1) after anything went wrong
//	decided    the same, and what it was before if it is unknown now
type part struct {
	topicID             string
	position, published int64
	applied, decided    int64

	past *Past // what was published of the commands that are decided again after a restore

	halted     bool
	omitted    bool          // halted when it was assigned: the client does not consume it
	suspect    bool          // was halted, and nothing of it was committed since
	oldTopic   bool          // was halted because the client's id of the topic is not the broker's
	retryAt    time.Time     // when to try again although nothing changed; zero = never
	retryPause time.Duration // the last pause before that
	reached    int64         // where Postgres stands if it was halted for a difference: past its position

	measured int64     // position when the lag was last measured
	stalled  bool      // nothing came between two measurements, though there was more
	nudged   time.Time // when it was last read anew for that
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
		var err error
		topicID, positions, err = s.stand(ctx, partitions)
		return err
	})
	if err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	starts := make(map[int32]kgo.Offset, len(partitions))
	for _, p := range partitions {
		at := positions[p]
		if at.TopicID != topicID {
			s.halt(p, fmt.Errorf("the topic was created anew (its id was %s and is %s): offsets of the old one mean nothing in it", at.TopicID, topicID), false)
			s.parts[p].topicID, s.parts[p].omitted = at.TopicID, true
			continue
		}
		known := committed[p].EpochOffset().Offset
		if known < 0 {
			if at.NextOffset > 0 {
				s.log.Warn("the group's offset is gone, starting from the outbox floor: events of published commands that are still in the outbox may appear again, with the same ids",
					"partition", p, "outbox_floor", at.OutboxFloor, "next_offset", at.NextOffset)
			}
		}
		state := &part{topicID: topicID, applied: at.NextOffset, decided: at.NextOffset, measured: unknown}
		state.position, state.published = Start(known, at)
		if state.position < state.published {
			s.log.Warn("Postgres is behind what was published, as after a restore: applying again, publishing nothing below the published offset",
				"partition", p, "next_offset", at.NextOffset, "published", state.published)
		}
		if old := s.parts[p]; old != nil && old.halted {
			state.retryPause = old.retryPause
		}
		s.parts[p] = state
		delete(s.waits, p)
		s.unhalt(p)
		starts[p] = kgo.NewOffset().At(state.position).WithEpoch(-1)
	}
	s.setHealth("kafka", nil)
	return map[string]map[int32]kgo.Offset{topic: starts}, nil
}

func (s *session) setHealth(component string, err error) {
	s.health.Set(s.name+" "+component, kafkaclient.Explain(err))
}

// Reasons for a session to end. None loses anything: the next one starts from what Kafka and Postgres say.
var (
	errBehind  = errors.New("Postgres is behind the position that was read to, as after a restore from a backup")
	errUnknown = errors.New("the outcome of the Kafka transaction is not known")
)
