package commandlog

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	publishSlow   = 5 * time.Second       // events that are not taken for so long are named
	abortPauseMin = 20 * time.Millisecond // after the broker refused a record
	abortPauseMax = 2 * time.Second
)

// publish makes what a poll has to publish visible, in as few Kafka transactions as the order of events allows: one, if
// nothing depends on what others have not published yet. What has to wait is left to a later poll if that takes long.
func (s *session) publish(ctx context.Context, q *queue, generation int32) error {
	for {
		if ready := q.take(s.publishedBelow); len(ready) > 0 {
			committed, err := s.transact(ctx, ready, generation)
			if err != nil || !committed {
				s.dropWaits()
				return err
			}
		}
		s.noteWaits(q.rest(s.publishedBelow))
		if q.left() == 0 {
			return nil
		}
		if more, err := s.await(ctx, q, generation); err != nil || !more {
			return err
		}
	}
}

// transact publishes pieces in one Kafka transaction: their records and the group's offsets become visible together, or
// not at all.
func (s *session) transact(ctx context.Context, ready []piece, generation int32) (committed bool, err error) {
	finishing, cancel := s.grace(ctx)
	defer cancel()
	t, err := s.open(finishing, ready, generation)
	if err != nil {
		return false, err
	}
	return s.commit(finishing, ctx, t)
}

// nameWait says in /readyz that events wait for Kafka, once they have for a while, until taken is called: the client
// offers them for as long as Kafka is away. What taken leaves there is the caller's to change.
func (s *session) nameWait() (taken func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var naming sync.WaitGroup
	naming.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(s.publishSlow):
			s.setHealth("publishing", errNotTaken)
		}
	})
	return func() { cancel(); naming.Wait() }
}

var errNotTaken = fmt.Errorf("events wait for Kafka, which has not taken them for %s", publishSlow)

// backOff waits before an abort, longer each time in a row: what the broker refuses now it will refuse at once again.
func (s *session) backOff(ctx context.Context) {
	pause := min(abortPauseMin<<min(s.aborts, 10), abortPauseMax)
	s.aborts++
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// upTo is what a commit of the pieces moves the group's offsets to, and in the topic of which id; never below what is published already, for after a
// restore positions are lower than that.
func (s *session) upTo(ready []piece) (topicID string, offsets map[int32]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	offsets = make(map[int32]int64, len(ready))
	for i := range ready {
		offsets[ready[i].poll.partition] = max(ready[i].next, ready[i].poll.state.published)
	}
	return ready[0].poll.state.topicID, offsets // all are of one: see readable
}

// publishedBelow is the offset below which a partition's events are known to be visible, whoever has the partition.
func (s *session) publishedBelow(partition int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.below(partition)
}

// below is publishedBelow for callers that hold mu.
func (s *session) below(partition int32) int64 {
	below := s.elsewhere[partition]
	if state := s.parts[partition]; state != nil {
		below = max(below, state.published)
	}
	return below
}
