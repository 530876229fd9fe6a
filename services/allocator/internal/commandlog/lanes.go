package commandlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// errOtherLane ends a lane's attempt with nothing written, because another's has ended.
var errOtherLane = fmt.Errorf("%w: another lane did not come to a decision", apply.ErrApart)

// inLanes applies parts together, those of each lane in a Postgres transaction of its own, side by side; or all in one, where they
// are few. None commits before all have decided: then decided is called, once, with the segments of all parts, beside the lanes, which
// commit meanwhile. Nothing is written if a lane does not come to a decision. After any other error, also of decided, some lanes may
// have committed.
//
// Two cores decide and two Postgres processes write, where one of each would leave half of a small machine idle; and it is still
// one Kafka transaction, which costs a broker as much as dozens of commands, and as much time as deciding them.
func (s *session) inLanes(ctx context.Context, parts []apply.Part, decided func([][]outbox.Segment) error) ([][]outbox.Segment, error) {
	attempts := s.attempts(parts)
	var left atomic.Int32
	left.Store(int32(len(attempts)))
	segments := make([][]outbox.Segment, len(parts))
	all, one := make(chan struct{}), make(chan struct{}) // all have decided; one has ended with an error
	var failed sync.Once
	errs := make([]error, len(attempts))
	var working sync.WaitGroup
	var sending error // of decided
	for at, a := range attempts {
		working.Go(func() {
			_, errs[at] = apply.Together(ctx, a.shares, func(got [][]outbox.Segment) error {
				for i, part := range a.parts {
					segments[part] = got[i]
				}
				if left.Add(-1) == 0 { // the last, which sees what the others have put there
					close(all)
					working.Go(func() { sending = decided(segments) })
					return nil
				}
				select {
				case <-all:
					return nil
				case <-one:
				}
				select { // one that has decided and failed since may be heard of first
				case <-all:
					return nil
				default:
					return errOtherLane
				}
			})
			if errs[at] != nil {
				failed.Do(func() { close(one) })
			}
		})
	}
	working.Wait()
	return segments, firstOf(slices.Concat(errs, []error{sending}))
}

// attempt is what one Postgres transaction has of a poll.
type attempt struct {
	shares []apply.Share
	parts  []int // which those are, in the order of the shares
}

// oneTransactionMax is how many commands are applied in one Postgres transaction, whichever lanes they are of: another transaction is
// as much work as deciding so many, and on a busy machine those that come next wait for it.
const oneTransactionMax = 100

// attempts divides a poll's parts among Postgres transactions.
func (s *session) attempts(parts []apply.Part) []attempt {
	of, commands := make([]attempt, len(s.lanes)), 0
	for i, p := range parts {
		lane := s.lane(p.Partition)
		a := &of[lane]
		if a.shares == nil {
			a.shares = []apply.Share{{Applier: s.lanes[lane].Applier}}
		}
		a.shares[0].Parts = append(a.shares[0].Parts, p)
		a.parts = append(a.parts, i)
		commands += len(p.In)
	}
	of = slices.DeleteFunc(of, func(a attempt) bool { return a.parts == nil })
	if commands > s.oneTransactionMax {
		return of
	}
	var all attempt
	for _, a := range of {
		all.shares, all.parts = append(all.shares, a.shares...), append(all.parts, a.parts...)
	}
	return []attempt{all}
}

// lane is the number of a partition's lane: when it is first asked for the one that has the fewest of the assigned partitions, as
// every second of them may have gone to another member; and then the same while it is assigned.
func (s *session) lane(partition int32) int {
	if lane, known := s.laneOf[partition]; known {
		return lane
	}
	assigned := s.assigned()
	maps.DeleteFunc(s.laneOf, func(p int32, _ int) bool { return !slices.Contains(assigned, p) })
	has := make([]int, len(s.lanes))
	for _, lane := range s.laneOf {
		has[lane]++
	}
	lane := slices.Index(has, slices.Min(has))
	s.laneOf[partition] = lane
	return lane
}

// firstOf is the first error that is not of another lane's making.
func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, errOtherLane) {
			return err
		}
	}
	return nil
}
