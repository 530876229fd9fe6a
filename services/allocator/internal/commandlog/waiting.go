package commandlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

const (
	awaitMax       = 2 * time.Second // for others' events, with the poll in hand; after that its partitions are parked
	awaitPauseMin  = time.Millisecond
	awaitPauseMax  = 16 * time.Millisecond
	lookPauseMin   = 4 * time.Millisecond // between looks whether parked partitions may go on; twice as long
	lookPauseMax   = time.Second / 4      // each time that nothing was published by anybody
	lookTimeout    = 2 * time.Second
	waitNamedAfter = 2 * time.Second // in readiness: shorter waits are everyday's
	orderComponent = "order"         // of readiness
)

// wait is a partition whose next events must come after some of another partition.
type wait struct {
	dependency
	since  time.Time
	parked bool // the client leaves the partition alone, and stands where it is published
}

// await looks at the group's offsets until more of q may be published. That takes as long as another worker's poll, and
// everything else of this worker stands still meanwhile. So where it takes longer, or can not happen before this
// worker has polled other partitions of its own, the partitions that wait are parked, and more is false.
//
// Rebalances do not wait for this: the client joins again by itself, and the new generation ends the wait.
func (s *session) await(ctx context.Context, q *queue, generation int32) (more bool, err error) {
	until := time.Now().Add(awaitMax)
	for pause := awaitPauseMin; ; pause = min(2*pause, awaitPauseMax) {
		rest := q.rest(s.publishedBelow)
		if len(rest) < q.left() {
			return true, nil
		}
		s.noteWaits(rest)
		if time.Now().After(until) || s.inOwnWay(q, rest) {
			s.park(rest)
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("%w: told to stop while %s", errStale, sentence(rest))
		case <-time.After(pause):
		}
		if _, now := s.kafka.GroupMetadata(); now != generation {
			return false, fmt.Errorf("%w: the group moved on while %s", errStale, sentence(rest))
		}
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("looking whether others have published", "error", err)
		}
	}
}

// noteWaits remembers what of a poll waits since when, and forgets what need not wait any more.
func (s *session) noteWaits(rest []dependency) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition, w := range s.waits {
		if !w.parked && !slices.ContainsFunc(rest, func(d dependency) bool { return d.partition == partition }) {
			s.endWait(partition)
		}
	}
	for _, d := range rest {
		if w := s.waits[d.partition]; w != nil {
			w.dependency = d
		} else {
			s.waits[d.partition] = &wait{dependency: d, since: time.Now()}
		}
	}
}

// dropWaits forgets what waited in a poll that is dropped.
func (s *session) dropWaits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.waits, func(_ int32, w *wait) bool { return !w.parked })
}

// endWait forgets a wait that is over. The caller holds mu.
func (s *session) endWait(partition int32) {
	s.metrics.orderSeconds.Observe(time.Since(s.waits[partition].since).Seconds())
	delete(s.waits, partition)
}

// inOwnWay says whether waiting with the poll in hand may be in vain: what is waited for is decided by partitions of this
// worker that it has to poll first, or may itself wait for such. That is so after a crash, when the outbox is full, and
// when a parked partition may go on.
func (s *session) inOwnWay(q *queue, rest []dependency) bool {
	assigned := s.assigned()
	if slices.ContainsFunc(rest, func(d dependency) bool { return slices.Contains(assigned, d.on) && q.end(d.on) < d.below }) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(assigned, func(p int32) bool {
		state := s.parts[p]
		if state == nil || state.halted || len(q.waiting[p]) > 0 || state.decided <= state.published {
			return false
		}
		w := s.waits[p]
		return w == nil || !w.parked || s.below(w.on) >= w.below
	})
}

// park leaves what is not published of a poll to a later one: the client goes back to where the partitions are
// published, and leaves them alone until they need not wait.
func (s *session) park(rest []dependency) {
	back := make(map[int32]int64, len(rest))
	s.mu.Lock()
	for _, d := range rest {
		w, state := s.waits[d.partition], s.parts[d.partition]
		if w == nil { // assigned anew meanwhile: it stands where it should
			continue
		}
		w.parked = true
		state.position = state.published
		back[d.partition] = state.published
		s.pause(d.partition)
	}
	s.mu.Unlock()
	s.setPositions(back)
	s.lookPause = lookPauseMin
	s.lookAt = time.Now().Add(s.lookPause)
}

// parked says whether a partition is parked. The caller holds mu.
func (s *session) parked(partition int32) bool {
	w := s.waits[partition]
	return w != nil && w.parked
}

// pollMax is how long a poll waits for records: no longer than until parked partitions are to be looked after.
func (s *session) pollMax() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(slices.Collect(maps.Values(s.waits)), func(w *wait) bool { return w.parked }) {
		return idlePollMax
	}
	return min(idlePollMax, max(time.Millisecond, time.Until(s.lookAt)))
}

// unpark has parked partitions go on once what they wait for is published. It is published, too, if its partition is
// moved back, after its topic was created anew: that is done only once everything of it is published.
func (s *session) unpark(ctx context.Context) {
	s.nameWaits()
	waits := s.parkedWaits()
	if len(waits) == 0 || time.Now().Before(s.lookAt) {
		return
	}
	on := make([]int32, 0, len(waits))
	for _, d := range waits {
		on = append(on, d.on)
	}
	standing, err := s.store.Standing(ctx, on)
	if err != nil {
		s.forget()
	}
	if err = errors.Join(err, s.outlast(ctx, waits, standing), s.look(ctx)); err != nil && ctx.Err() == nil {
		s.log.Warn("looking whether parked partitions may go on", "error", err)
	}
	s.free(waits, s.assigned(), standing, err == nil)
	s.lookLater()
}

// free ends the waits that need not go on. One for events of a partition that is freed with it may end, too: they are likely
// to be polled together, and published in one transaction. When several wait for each other in a row, as after a dead
// allocator's partitions came to this one, it would otherwise take a poll and a look for each.
func (s *session) free(waits []dependency, assigned []int32, standing map[int32]postgres.Position, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	freed := make(map[int32]bool)
	for more := true; more; {
		more = false
		for _, d := range waits {
			published := max(s.below(d.on), s.floor(d, standing))
			movedBack := known && standing[d.on].NextOffset < d.below
			switch {
			case s.waits[d.partition] == nil: // assigned anew meanwhile, or freed
			case !slices.Contains(assigned, d.partition):
				delete(s.waits, d.partition)
			case published >= d.below || movedBack || freed[d.on]:
				s.elsewhere[d.on] = max(s.elsewhere[d.on], s.floor(d, standing))
				s.endWait(d.partition)
				freed[d.partition], more = true, true
			}
		}
	}
}

// floor is below which the partition that is waited for is published by what Postgres says of it; without the group's offsets
// nothing else does. One of another topic than the waiting partition's says nothing. The sequence that needs this: the topic is
// created anew, and partition 0 is adopted; 0 waits for 1, whose row still has the old topic's floor of 1000; 1 is adopted, and
// commands of it are applied that nobody has published. What 0 goes on with from there would have passed for published for as long as
// the session lasts. It waits for 1 to be adopted. The caller holds mu.
func (s *session) floor(d dependency, standing map[int32]postgres.Position) int64 {
	if state := s.parts[d.partition]; state == nil || standing[d.on].TopicID != state.topicID {
		return 0
	}
	return standing[d.on].OutboxFloor
}

// outlast has what Postgres says of partitions that the topic has no more count in it: created anew with fewer of them, it leaves
// rows that nobody can adopt, and a SKU whose last command came over one of those would wait for it for ever. Nothing can be
// published over them that their floors do not say.
func (s *session) outlast(ctx context.Context, waits []dependency, standing map[int32]postgres.Position) error {
	s.mu.Lock()
	old := slices.ContainsFunc(waits, func(d dependency) bool {
		at, stored := standing[d.on]
		return stored && s.parts[d.partition] != nil && at.TopicID != s.parts[d.partition].topicID
	})
	s.mu.Unlock()
	if !old {
		return nil
	}
	id, partitions, err := s.commandsTopic(ctx)
	if err != nil {
		return err
	}
	for p, at := range standing {
		if _, has := partitions[p]; !has {
			at.TopicID = id
			standing[p] = at
		}
	}
	return nil
}

// lookLater plans the next look after parked partitions: soon while something moves, since what they wait for may wait for
// that.
func (s *session) lookLater() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookPause = min(2*s.lookPause, lookPauseMax)
	s.lookAt = time.Now().Add(s.lookPause)
}

// parkedWaits are the dependencies of the parked partitions.
func (s *session) parkedWaits() []dependency {
	s.mu.Lock()
	defer s.mu.Unlock()
	var waits []dependency
	for _, w := range s.waits {
		if w.parked {
			waits = append(waits, w.dependency)
		}
	}
	return waits
}

// nameWaits says in readiness what has waited long.
func (s *session) nameWaits() {
	s.mu.Lock()
	var long []dependency
	for _, w := range s.waits {
		if time.Since(w.since) > waitNamedAfter {
			long = append(long, w.dependency)
		}
	}
	s.mu.Unlock()
	if len(long) == 0 {
		s.setHealth(orderComponent, nil)
		return
	}
	s.setHealth(orderComponent, errors.New(sentence(long)))
}

// look reads below which offsets the group's partitions are published. Offsets of transactions that are still open are
// not among them, and are not waited for.
func (s *session) look(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	committed, err := s.admin.FetchOffsets(asking, s.config.Group)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("read the group's offsets: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition, at := range committed[s.config.Topics.Commands.Name] {
		if at.At > s.elsewhere[partition] {
			s.lookPause = lookPauseMin
		}
		s.elsewhere[partition] = max(s.elsewhere[partition], at.At)
	}
	return nil
}
