package commandlog

import (
	"maps"
	"slices"
	"time"
)

// nudgeInterval is how often a partition that brings nothing is read anew from where it is.
const nudgeInterval = 30 * time.Second

// watchStall notes a partition of which there was more to read at two measurements, and nothing was read in between. The
// caller holds mu.
func (state *part) watchStall(end int64) {
	if !state.halted && state.position < end && state.position == state.measured {
		state.stalled = true
	}
	state.measured = state.position
}

// nudge has the client read stalled partitions anew. It stops to read a partition whose next batch inflates to too much,
// and says so once: if the group moves on just then, what it said is dropped with the poll, and the partition would stand
// still without a halt, for ever. Where nothing is left but markers of transactions, reading them again does no harm.
//
// Until then the client does not read the partition at all, not after a pause either, unless it is set to an offset; and
// one that it believes to be at already it passes over. So it is set to the next one first. There is one, since there is
// more to read, and what may be read from it in between is dropped with the second call.
func (s *session) nudge() {
	at := s.stalls() // the client is asked without mu, which its own goroutine may wait for
	if len(at) == 0 {
		return
	}
	assigned := s.assigned()
	maps.DeleteFunc(at, func(p int32, _ int64) bool { return !slices.Contains(assigned, p) })
	away := make(map[int32]int64, len(at))
	for p, to := range at {
		away[p] = to + 1
	}
	s.setPositions(away)
	s.setPositions(at)
}

// again has the next nudge read a partition that was halted. The caller holds mu.
func (state *part) again() {
	state.halted, state.stalled = false, true // and suspect until something of it is committed
	state.measured, state.nudged = state.position, time.Time{}
}

// stalls are the partitions that are to be read anew, and from where.
func (s *session) stalls() map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := make(map[int32]int64)
	for p, state := range s.parts {
		if state.stalled && !state.halted && state.position == state.measured && time.Since(state.nudged) >= nudgeInterval {
			state.nudged = time.Now()
			at[p] = state.position
		}
		state.stalled = false
	}
	return at
}
