package commandlog

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const (
	lagInterval = 5 * time.Second
	lagTimeout  = 5 * time.Second
)

// seen counts the generations that the group went through while this worker was in it.
func (s *session) seen(generation int32) {
	if generation != s.generation && generation >= 0 {
		s.metrics.rebalances.Inc()
		s.errorsSince = nil // of partitions that may be another's now; of those that stay the client is made to speak again
	}
	s.generation = generation
}

// watchLag measures how far the partitions of this member are behind until ctx ends. It runs beside the loop, so that
// the lag is seen to grow while the loop waits for Postgres.
func (s *session) watchLag(ctx context.Context) {
	measured := map[int32]bool{}
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	for {
		if err := s.measureLag(ctx, measured); err != nil && ctx.Err() == nil {
			s.log.Warn("could not measure the lag", "error", err)
		}
		select {
		case <-ctx.Done():
			for p := range measured {
				s.forgetLag(p)
			}
			return
		case <-tick.C:
		}
	}
}

// measureLag sets the lag of the partitions that are assigned now and forgets that of those that were measured before.
func (s *session) measureLag(ctx context.Context, measured map[int32]bool) error {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	assigned := s.assigned()
	gone := measuredNot(measured, assigned)
	for _, p := range gone {
		s.forgetLag(p)
		delete(measured, p)
	}
	if len(assigned) == 0 {
		return nil
	}
	topic := s.config.Topics.Commands.Name
	ends, err := s.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("read the ends of %s: %w", topic, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range assigned {
		end, ok := ends.Lookup(topic, p)
		if state := s.parts[p]; ok && state != nil {
			s.setLag(p, state, end)
			state.watchStall(end.Offset)
			measured[p] = true
		}
	}
	return nil
}

// setLag leaves the lag of what is not known at the moment as it was. The caller holds mu.
func (s *session) setLag(p int32, state *part, end kadm.ListedOffset) {
	set := func(stage string, at int64) {
		s.metrics.lag.WithLabelValues(label(p), stage).Set(float64(max(0, end.Offset-at)))
	}
	if state.applied != unknown {
		set(stageApplied, state.applied)
	}
	set(stagePublished, state.published)
}

func (s *session) forgetLag(p int32) {
	s.metrics.lag.DeleteLabelValues(label(p), stageApplied)
	s.metrics.lag.DeleteLabelValues(label(p), stagePublished)
}

func measuredNot(measured map[int32]bool, assigned []int32) []int32 {
	here := make(map[int32]bool, len(assigned))
	for _, p := range assigned {
		here[p] = true
	}
	var gone []int32
	for p := range measured {
		if !here[p] {
			gone = append(gone, p)
		}
	}
	return gone
}
