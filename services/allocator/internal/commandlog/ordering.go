package commandlog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// piece is a run of one partition's commands that becomes visible as a whole: those of the poll that one Postgres
// transaction decided.
type piece struct {
	poll      *polled
	next      int64           // past its last command
	dependsOn map[int32]int64 // what must be published before it: events of other partitions, below an offset each
	commands  []*kgo.Record
	records   []*kgo.Record // its events and dead letters

	events, deadLetters int
}

// queue holds what a poll has to publish yet, by partition and in order of offset.
//
// A SKU's versions are given out in the order in which Postgres transactions commit, and have to appear on the events
// topic in that order, whoever publishes them. Within a partition they do, by offset. Across partitions a transaction
// depends on those that made the versions which it goes on from, and these committed before it. So the transaction that
// committed first of all that are not published can always be published, and nobody waits in a circle.
type queue struct {
	partitions []int32
	waiting    map[int32][]piece
}

func newQueue(pieces []piece) *queue {
	q := &queue{waiting: make(map[int32][]piece)}
	for _, p := range pieces {
		q.waiting[p.poll.partition] = append(q.waiting[p.poll.partition], p)
	}
	q.partitions = slices.Sorted(maps.Keys(q.waiting))
	return q
}

// take removes what can be published in one Kafka transaction now, and returns it in an order in which dependencies
// come first. published tells below which offset a partition's events are visible.
func (q *queue) take(published func(partition int32) int64) []piece {
	var taken []piece
	reached := make(map[int32]int64) // by those taken
	for more := true; more; {
		more = false
		for _, partition := range q.partitions {
			for len(q.waiting[partition]) > 0 {
				head := q.waiting[partition][0]
				if _, blocked := head.unmet(reached, published); blocked {
					break
				}
				taken = append(taken, head)
				reached[partition] = head.next
				q.waiting[partition] = q.waiting[partition][1:]
				more = true
			}
		}
	}
	return taken
}

// rest says what keeps each partition that has something left from going on, sorted by partition.
func (q *queue) rest(published func(partition int32) int64) []dependency {
	var rest []dependency
	for _, partition := range q.partitions {
		if len(q.waiting[partition]) > 0 {
			if d, blocked := q.waiting[partition][0].unmet(nil, published); blocked {
				rest = append(rest, d)
			}
		}
	}
	return rest
}

// left counts the partitions that have something left.
func (q *queue) left() int {
	n := 0
	for _, pieces := range q.waiting {
		n += min(1, len(pieces))
	}
	return n
}

// end is past the last command of a partition that is left.
func (q *queue) end(partition int32) int64 {
	pieces := q.waiting[partition]
	if len(pieces) == 0 {
		return 0
	}
	return pieces[len(pieces)-1].next
}

// dependency says that a partition waits for events of another one to be published, below an offset.
type dependency struct {
	partition, on int32
	below         int64
}

func (d dependency) String() string {
	return fmt.Sprintf("partition %d waits for events of partition %d up to offset %d", d.partition, d.on, d.below-1)
}

// unmet finds the lowest partition of which not enough is published, or reached earlier in this transaction.
func (p *piece) unmet(reached map[int32]int64, published func(int32) int64) (dependency, bool) {
	for _, on := range slices.Sorted(maps.Keys(p.dependsOn)) {
		if below := p.dependsOn[on]; max(reached[on], published(on)) < below {
			return dependency{partition: p.poll.partition, on: on, below: below}, true
		}
	}
	return dependency{}, false
}

// sentence names dependencies for people, the first few of them.
func sentence(waits []dependency) string {
	slices.SortFunc(waits, func(a, b dependency) int { return cmp.Compare(a.partition, b.partition) })
	parts := make([]string, 0, 3)
	for i, d := range waits {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("%d more partitions wait", len(waits)-i))
			break
		}
		parts = append(parts, d.String())
	}
	return strings.Join(parts, "; ")
}
