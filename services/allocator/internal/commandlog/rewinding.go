package commandlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	settleMax     = 10 * time.Second      // for asking what is committed after an unclear end
	unstablePause = 50 * time.Millisecond // before offsets that a transaction is about to change are asked for again
)

// rewound goes back to what is published, after a transaction that was not committed. That it was not is what the
// client believes; a lost answer may hide a commit, so what is published is asked for again. Otherwise: the commit
// happened, the answer was lost, the records come again, and their events would be published twice.
func (s *session) rewound(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	topic := s.config.Topics.Commands.Name
	committed, err := Committed(asking, s.admin, s.config.Group, s.assigned()...)
	if err != nil {
		return fmt.Errorf("after an aborted transaction: %w", err)
	}
	back := make(map[int32]int64)
	s.mu.Lock()
	for partition, state := range s.parts {
		if at, ok := committed.Lookup(topic, partition); ok {
			state.published = max(state.published, at.At)
		}
		state.position = min(state.position, state.published)
		state.applied = unknown
		back[partition] = state.position
	}
	s.mu.Unlock()
	s.forget()
	s.errorsSince, s.hand = nil, hand{}
	s.setPositions(back)
	return nil
}

// Committed are the group's offsets, once no transaction is about to change those of the partitions, which are of the
// commands topic. What runs on others is not waited for: it may be a dead member's, which the broker ends after the
// transaction timeout. The error wraps kerr.GroupIDNotFound if there is no such group; ctx bounds the waiting.
func Committed(ctx context.Context, adm *kadm.Client, group string, partitions ...int32) (kadm.OffsetResponses, error) {
	for {
		committed, err := adm.FetchOffsets(kadm.RequireStable(ctx), group)
		committed.Each(func(o kadm.OffsetResponse) {
			if slices.Contains(partitions, o.Partition) || !errors.Is(o.Err, kerr.UnstableOffsetCommit) {
				err = errors.Join(err, o.Err)
			}
		})
		switch {
		case err == nil:
			return committed, nil
		case !errors.Is(err, kerr.UnstableOffsetCommit):
			return nil, fmt.Errorf("fetch the offsets of group %s: %w", group, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("fetch the offsets of group %s, which a transaction is about to change: %w", group, err)
		case <-time.After(unstablePause):
		}
	}
}

// setPositions has the client go to other positions, from where it brings all that follows again: what the hand has of it is dropped, and
// what could not be read behind that. Partitions that it does not consume any more it passes over.
func (s *session) setPositions(offsets map[int32]int64) {
	if len(offsets) == 0 {
		return
	}
	positions := make(map[int32]kgo.EpochOffset, len(offsets))
	for partition, offset := range offsets {
		positions[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	moved := func(partition int32) bool { _, ok := offsets[partition]; return ok }
	s.hand.drop(moved)
	for _, fetch := range s.errorsSince {
		for i := range fetch.Topics {
			topic := &fetch.Topics[i]
			topic.Partitions = slices.DeleteFunc(topic.Partitions, func(f kgo.FetchPartition) bool { return moved(f.Partition) })
		}
	}
	s.kafka.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.config.Topics.Commands.Name: positions})
}
