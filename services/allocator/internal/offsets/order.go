package offsets

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// progress is how far a partition was published when it was looked at.
type progress struct {
	published int64 // all below
	halted    bool
}

// piece is what is to be published of one segment of the outbox.
type piece struct {
	plan      *Skip
	next      int64           // with it, all of the partition below is published or given up
	dependsOn map[int32]int64 // what must be published first: events of other partitions, below an offset each
	entries   []outbox.Entry
}

// Ordered says whether plans, done at once, publish every SKU's versions in order. The error names what has to be
// published first.
//
// Partition 0 has made version 5, partition 1 has gone on with version 6, and neither is published. If 6 was published
// first, a consumer that keeps the highest version would skip 5. So one waits for the other as with the allocators; two
// that went on from each other, back and forth, have to be published at once.
func Ordered(plans ...*Skip) error {
	_, err := inOrder(plans)
	return err
}

// inOrder returns what the plans publish in an order in which dependencies come first.
func inOrder(plans []*Skip) ([]piece, error) {
	var taken []piece
	reached := make(map[int32]int64) // by those taken
	waiting := make([][]piece, len(plans))
	for i, p := range plans {
		if slices.ContainsFunc(plans[:i], func(earlier *Skip) bool { return earlier.Partition == p.Partition }) {
			return nil, fmt.Errorf("partition %d is named twice", p.Partition)
		}
		waiting[i] = p.pieces
	}
	for more := true; more; {
		more = false
		for i := range waiting {
			for len(waiting[i]) > 0 {
				head := waiting[i][0]
				if _, blocked := head.unmet(reached); blocked {
					break
				}
				taken, waiting[i], more = append(taken, head), waiting[i][1:], true
				reached[head.plan.Partition] = head.next
			}
		}
	}
	for _, left := range waiting {
		if len(left) > 0 {
			on, _ := left[0].unmet(reached)
			return nil, left[0].refusal(on)
		}
	}
	return taken, nil
}

// unmet finds the lowest partition of which not enough is published, or reached before it. What is visible already needs
// nothing any more.
func (p *piece) unmet(reached map[int32]int64) (on int32, blocked bool) {
	if len(p.entries) == 0 {
		return 0, false
	}
	for _, on := range slices.Sorted(maps.Keys(p.dependsOn)) {
		if max(reached[on], p.plan.standing.others[on].published) < p.dependsOn[on] {
			return on, true
		}
	}
	return 0, false
}

func (p *piece) refusal(on int32) error {
	what := fmt.Sprintf("partition %d has events that come after those of partition %d up to offset %d, which are not published",
		p.plan.Partition, on, p.dependsOn[on]-1)
	if p.plan.standing.others[on].halted {
		return fmt.Errorf("%s: move partition %d first, or name both in one skip (--partition=%d,%d)", what, on, on, p.plan.Partition)
	}
	return fmt.Errorf("%s: start an allocator, which publishes them, and look again", what)
}
