package commandlog

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// of makes a partition's pieces that end at the given offsets.
func of(partition int32, pieces ...piece) []piece {
	p := &polled{partition: partition, state: &part{}, next: pieces[len(pieces)-1].next}
	for i := range pieces {
		pieces[i].poll = p
	}
	return pieces
}

func names(pieces []piece) (names []string) {
	for _, p := range pieces {
		names = append(names, fmt.Sprintf("%d<%d", p.poll.partition, p.next))
	}
	return names
}

func TestDependenciesComeFirst(t *testing.T) {
	nothing := func(int32) int64 { return 0 }
	after := func(partition int32, below int64) map[int32]int64 { return map[int32]int64{partition: below} }
	q := newQueue(append(append(
		of(0, piece{next: 10, dependsOn: after(1, 5)}, piece{next: 20, dependsOn: after(1, 9)}),
		of(1, piece{next: 5}, piece{next: 9, dependsOn: after(0, 10)})...),
		of(2, piece{next: 7}, piece{next: 8, dependsOn: after(3, 1)}, piece{next: 9})...))
	require.Equal(t, []string{"1<5", "2<7", "0<10", "1<9", "0<20"}, names(q.take(nothing)), "segments of two partitions in turn")
	require.Equal(t, 1, q.left())
	require.EqualValues(t, 9, q.end(2))
	require.Zero(t, q.end(0))
	rest := q.rest(nothing)
	require.Equal(t, "partition 2 waits for events of partition 3 up to offset 0", sentence(rest))
	require.Empty(t, q.take(nothing))
	require.Equal(t, []string{"2<8", "2<9"}, names(q.take(func(int32) int64 { return 1 })))
	require.Zero(t, q.left())
}

func TestManyWaitsAreNamedInShort(t *testing.T) {
	var waits []dependency
	for p := range int32(5) {
		waits = append(waits, dependency{partition: 4 - p, on: 9, below: 121})
	}
	require.Equal(t, "partition 0 waits for events of partition 9 up to offset 120; partition 1 waits for events of partition 9 up to offset 120; partition 2 waits for events of partition 9 up to offset 120; 2 more partitions wait", sentence(waits))
}

// world is what allocators share: decided transactions, by partition, and a log of what is published.
type world struct {
	segments  map[int32][]decided // of all lives, in order of offset
	published map[int32]int64
	log       []event
	versions  map[string]int
	made      map[string]event // the latest version of each SKU
}

type event struct {
	sku       string
	version   int
	partition int32
	offset    int64
}

// decided is a segment: of one transaction, or of a part of it.
type decided struct {
	first, next int64
	dependsOn   map[int32]int64
	events      []event
}

// decide commits a transaction of a partition, in one or more segments, as the store would.
func (w *world) decide(t *rapid.T, partition int32) {
	first := int64(0)
	if all := w.segments[partition]; len(all) > 0 {
		first = all[len(all)-1].next
	}
	dependsOn := map[int32]int64{}
	var events []event
	before := map[string]event{}
	for i := range rapid.IntRange(1, 5).Draw(t, "commands") {
		sku := fmt.Sprint("S", rapid.IntRange(0, 3).Draw(t, "sku"))
		if by, ok := w.made[sku]; ok && by.partition != partition {
			dependsOn[by.partition] = max(dependsOn[by.partition], by.offset+1)
		}
		if _, ok := before[sku]; !ok {
			before[sku] = w.made[sku]
		}
		w.versions[sku]++
		e := event{sku, w.versions[sku], partition, first + int64(i)}
		events = append(events, e)
		w.made[sku] = e
	}
	for len(events) > 0 {
		n := rapid.IntRange(1, len(events)).Draw(t, "in a segment")
		next := events[n-1].offset + 1
		w.segments[partition] = append(w.segments[partition], decided{first, next, dependsOn, events[:n]})
		first, events = next, events[n:]
	}
}

// poll is what a worker has of its partitions: up to a number of commands of each, from where they are published.
func (w *world) poll(t *rapid.T, mine []int32) (*queue, map[int32]int64) {
	var all []piece
	for _, partition := range mine {
		from := w.published[partition]
		to := from + int64(rapid.IntRange(1, 12).Draw(t, "poll"))
		var pieces []piece
		for _, s := range w.segments[partition] {
			if s.next > from && s.first < to {
				pieces = append(pieces, piece{next: min(s.next, to), dependsOn: s.dependsOn})
			}
		}
		if len(pieces) > 0 {
			all = append(all, of(partition, pieces...)...)
		}
	}
	known := map[int32]int64{}
	for p, below := range w.published {
		known[p] = below
	}
	return newQueue(all), known
}

// publish appends pieces to the log, as one Kafka transaction.
func (w *world) publish(pieces []piece) {
	for _, p := range pieces {
		partition := p.poll.partition
		for _, s := range w.segments[partition] {
			for _, e := range s.events {
				if e.offset >= w.published[partition] && e.offset < p.next {
					w.log = append(w.log, e)
				}
			}
		}
		w.published[partition] = p.next
	}
}

func (w *world) left() (n int64) {
	for partition, all := range w.segments {
		n += all[len(all)-1].next - w.published[partition]
	}
	return n
}

// TestEveryOrderOfPublishingKeepsVersionsInOrder: transactions over several partitions and SKUs are decided while workers
// publish, die, lose partitions to each other, see late what others published, and poll with any boundaries. Versions come
// in order, and as long as each partition has a worker, everything is published.
func TestEveryOrderOfPublishingKeepsVersionsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const partitions, workers = 4, 3
		w := &world{segments: map[int32][]decided{}, published: map[int32]int64{}, versions: map[string]int{}, made: map[string]event{}}
		owner := make([]int, partitions)
		for p := range owner {
			owner[p] = rapid.IntRange(0, workers-1).Draw(t, "owner")
		}
		mine := func(worker int) (own []int32) {
			for p, o := range owner {
				if o == worker {
					own = append(own, int32(p))
				}
			}
			return own
		}
		type holding struct {
			q     *queue
			known map[int32]int64
		}
		held := make([]holding, workers) // polls that wait
		turn := func(worker int) {
			h := &held[worker]
			if h.q == nil || h.q.left() == 0 {
				h.q, h.known = w.poll(t, mine(worker))
			}
			if rapid.Bool().Draw(t, "looks") {
				for p, below := range w.published {
					h.known[p] = below
				}
			}
			taken := h.q.take(func(p int32) int64 { return h.known[p] })
			w.publish(taken)
			for _, p := range taken {
				h.known[p.poll.partition] = p.next
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				w.decide(t, int32(rapid.IntRange(0, partitions-1).Draw(t, "partition")))
			case 3: // a rebalance: all polls are dropped
				owner[rapid.IntRange(0, partitions-1).Draw(t, "moves")] = rapid.IntRange(0, workers-1).Draw(t, "to")
				clear(held)
			case 4: // one parks what it has
				held[rapid.IntRange(0, workers-1).Draw(t, "parks")] = holding{}
			default:
				turn(rapid.IntRange(0, workers-1).Draw(t, "worker"))
			}
		}
		for w.left() > 0 { // a calm end: each round brings the first of all that are left at least
			before := w.left()
			clear(held)
			for worker := range workers {
				turn(worker)
			}
			require.Less(t, w.left(), before, "somebody can always go on")
		}
		seen := map[string]int{}
		for _, e := range w.log {
			require.Equal(t, seen[e.sku]+1, e.version, "%v", e)
			seen[e.sku] = e.version
		}
		require.Equal(t, w.versions, seen)
	})
}
