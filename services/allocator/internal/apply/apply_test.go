package apply

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
)

var start = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// wire is an encoder that tells the whole of an event.
var wire = Encoder{Append: func(dst []byte, _ *allocation.Command, e *allocation.Event) ([]byte, uint8) {
	return fmt.Appendf(dst, "%+v", *e), uint8(e.Kind)
}}

func newApplier(t require.TestingT, store Store, change ...func(*Limits)) *Applier {
	limits := Limits{
		Limits:            allocation.Limits{CutLinesMax: 100, CommandIDRetention: time.Hour},
		ProductsCachedMax: 10, SegmentBytesMax: 1 << 20,
	}
	for _, c := range change {
		c(&limits)
	}
	a, err := New(store, wire, limits)
	require.NoError(t, err)
	return a
}

// at gives the commands offsets from first on.
func at(first int64, commands ...allocation.Command) (in []Input) {
	for i, c := range commands {
		c.Time = start.Add(time.Duration(first+int64(i)) * time.Second)
		c.Position.Offset = first + int64(i)
		in = append(in, Input{Offset: c.Position.Offset, Time: c.Time, Command: c})
	}
	return in
}

func create(sku, ref string, qty int32) allocation.Command {
	return allocation.Command{Kind: allocation.CreateBatch, SKU: sku, Ref: ref, Qty: qty}
}

func allocate(sku, order string, qty int32) allocation.Command {
	return allocation.Command{Kind: allocation.Allocate, SKU: sku, OrderID: order, Qty: qty}
}

func cut(sku, ref string, qty int32) allocation.Command {
	return allocation.Command{Kind: allocation.ChangeBatchQuantity, SKU: sku, Ref: ref, Qty: qty}
}

// TestApply: what is committed is what the returned segments say, and the next poll needs no product again.
func TestApply(t *testing.T) {
	f := newFakeStore()
	a := newApplier(t, f)
	segments, err := a.Apply(t.Context(), "topic", 0, 0, 5, append(at(0, create("S", "b1", 10), allocate("S", "o1", 3)),
		Input{Offset: 3, Time: start, DeadLetter: "not JSON"}))
	require.NoError(t, err)
	require.Equal(t, f.outbox[0], segments)
	messages := f.published(t, 0)
	require.Len(t, messages, 3)
	require.Contains(t, messages[1][0], "OrderID:o1 Qty:3 BatchRef:b1 BatchQty:10 BatchAvailable:7")
	require.Equal(t, []string{"dead: not JSON"}, messages[3])
	require.EqualValues(t, 5, f.next[0])
	require.Equal(t, []Moved{{SKU: "S", Old: 0, New: 2, Available: 7, Offset: 1}}, f.commits[0].Products)
	require.Equal(t, Counters{Commands: 3, Events: 2, DeadLetters: 1}, a.Counters)

	_, err = a.Apply(t.Context(), "topic", 0, 5, 6, at(5, allocate("S", "o1", 3)))
	require.NoError(t, err)
	require.Empty(t, f.needs[1].Products, "it is cached")
	require.Equal(t, []Moved{{SKU: "S", Old: 2, New: 2, Available: 7}}, f.commits[1].Products, "a SKU only read is checked too")
	require.Empty(t, f.commits[1].Changes)

	_, err = a.Apply(t.Context(), "topic", 0, 6, 9, nil)
	require.NoError(t, err, "offsets without commands")
	f.published(t, 0)
}

// TestLockedSecondTry: a SKU that another changes between load and commit is decided again, locked, from what is
// stored then.
func TestLockedSecondTry(t *testing.T) {
	f := newFakeStore()
	a, other := newApplier(t, f), newApplier(t, f)
	_, err := a.Apply(t.Context(), "topic", 0, 0, 1, at(0, create("S", "b1", 10)))
	require.NoError(t, err)
	f.beforeCommit = func(bool) {
		f.beforeCommit = nil
		_, err := other.Apply(t.Context(), "topic", 1, 0, 1, at(0, allocate("S", "theirs", 9)))
		require.NoError(t, err)
	}
	_, err = a.Apply(t.Context(), "topic", 0, 1, 3, at(1, allocate("S", "ours", 2), allocate("A", "o", 1)))
	require.NoError(t, err)
	require.Equal(t, [][]string{{"A", "S"}}, f.locks, "in key order")
	require.Contains(t, f.published(t, 0)[1][0], "Kind:OutOfStock", "their line was first")
	require.EqualValues(t, 1, a.Counters.Refusals)
	require.EqualValues(t, 1, a.Counters.Locked)
	require.EqualValues(t, 3, a.Counters.Commands, "the refused try counts nothing")
}

// TestStaleCacheThatContradictsTheRows: the cache says that b1 has 6 allocated, and by the time that its lines are
// loaded another has taken them out. That is no damage: it is decided again, locked, like any other change.
func TestStaleCacheThatContradictsTheRows(t *testing.T) {
	f := newFakeStore()
	a, other := newApplier(t, f), newApplier(t, f)
	_, err := a.Apply(t.Context(), "topic", 0, 0, 2, at(0, create("S", "b1", 10), allocate("S", "o1", 6)))
	require.NoError(t, err)
	_, err = other.Apply(t.Context(), "topic", 1, 0, 1, at(0, allocation.Command{Kind: allocation.Deallocate, SKU: "S", OrderID: "o1"}))
	require.NoError(t, err)
	_, err = a.Apply(t.Context(), "topic", 0, 2, 3, at(2, cut("S", "b1", 4)))
	require.NoError(t, err)
	require.Contains(t, f.published(t, 0)[2][0], "Kind:BatchQuantityChanged")
	require.Len(t, f.locks, 1)
}

// TestDamagedRows: rows that contradict each other even when locked are an error, which no retry hides.
func TestDamagedRows(t *testing.T) {
	f := newFakeStore()
	f.product("S").version = 1
	f.product("S").batches["b1"] = allocation.Batch{Ref: "b1", Qty: 10, Available: 4}
	_, err := newApplier(t, f).Apply(t.Context(), "topic", 0, 0, 1, at(0, cut("S", "b1", 0)))
	require.ErrorIs(t, err, allocation.ErrInconsistent)
	require.Len(t, f.locks, 1)
	require.Empty(t, f.commits)
}

// TestUnknownSKUCreatedUnderTheLock: a row that is not there cannot be locked; it can appear once.
func TestUnknownSKUCreatedUnderTheLock(t *testing.T) {
	f := newFakeStore()
	a, other := newApplier(t, f), newApplier(t, f)
	steps := int64(0)
	f.beforeCommit = func(bool) {
		hook := f.beforeCommit
		f.beforeCommit = nil
		defer func() { f.beforeCommit = hook }()
		if names := []string{"X", "Y"}; steps < 2 {
			_, err := other.Apply(t.Context(), "topic", 1, steps, steps+1, at(steps, create(names[steps], "b", 5)))
			require.NoError(t, err)
			steps++
		}
	}
	_, err := a.Apply(t.Context(), "topic", 0, 0, 2, at(0, allocate("X", "o", 1), allocate("Y", "o", 1)))
	require.NoError(t, err)
	require.Len(t, f.locks, 2)
	for _, m := range f.published(t, 0) {
		require.Contains(t, m[0], "BatchAvailable:4")
	}
}

// TestPartitionRefused: another moved the partition. That is told, nothing is written, and nothing is believed.
func TestPartitionRefused(t *testing.T) {
	f := newFakeStore()
	a, successor := newApplier(t, f), newApplier(t, f)
	_, err := a.Apply(t.Context(), "topic", 0, 0, 1, at(0, create("S", "b1", 10)))
	require.NoError(t, err)
	_, err = successor.Apply(t.Context(), "topic", 0, 1, 2, at(1, allocate("S", "o1", 1)))
	require.NoError(t, err)
	commits := len(f.commits)
	_, err = a.Apply(t.Context(), "topic", 0, 1, 2, at(1, allocate("S", "o1", 1)))
	require.ErrorIs(t, err, ErrRefused)
	require.Len(t, f.commits, commits)
	require.Zero(t, a.products.Len())
	require.Empty(t, f.locks, "refused before anything is decided again")
	f.published(t, 0)
}

// TestUnknownOutcome: after an error nothing is believed, whether the commit happened or not.
func TestUnknownOutcome(t *testing.T) {
	for _, done := range []bool{true, false} {
		f := newFakeStore()
		a := newApplier(t, f)
		f.fate = func() (bool, bool) { return true, done }
		_, err := a.Apply(t.Context(), "topic", 0, 0, 1, at(0, create("S", "b1", 10)))
		require.ErrorIs(t, err, errLost)
		require.NotErrorIs(t, err, ErrRefused)
		require.Zero(t, a.products.Len())
		require.Zero(t, a.Counters.Commands)
		require.Empty(t, f.locks, "only a refusal may be tried again: this may have happened")
	}
}

// TestChunks: a cut that needs more lines than were loaded ends the chunk, the rest follows in another, and the
// events are those of one chunk.
func TestChunks(t *testing.T) {
	commands := []allocation.Command{create("S", "b1", 30), create("S", "b2", 30)}
	for i := range 30 {
		commands = append(commands, allocate("S", fmt.Sprint("o", i), 1))
	}
	var cuts []allocation.Command
	for qty := int32(27); qty >= 0; qty -= 3 {
		cuts = append(cuts, cut("S", "b1", qty), cut("S", "b2", 29-qty))
	}
	play := func(size int) (*fakeStore, *Applier) {
		f := newFakeStore()
		a := newApplier(t, f, func(l *Limits) { l.CutLinesMax = 4 })
		n := int64(len(commands))
		_, err := a.Apply(t.Context(), "topic", 0, 0, n, at(0, commands...))
		require.NoError(t, err)
		for done := 0; done < len(cuts); done += size {
			part := cuts[done:min(done+size, len(cuts))]
			_, err := a.Apply(t.Context(), "topic", 0, n, n+int64(len(part)), at(n, part...))
			require.NoError(t, err)
			n += int64(len(part))
		}
		return f, a
	}
	one, a := play(1)
	all, b := play(len(cuts))
	require.Equal(t, one.published(t, 0), all.published(t, 0))
	require.Equal(t, one.rows(), all.rows())
	require.Equal(t, a.Counters, b.Counters)
	require.Less(t, 2, len(all.commits), "more than one chunk was needed")
	require.Less(t, len(all.commits), len(one.commits))
	for _, need := range all.needs {
		lines := 0
		for _, c := range need.Cuts {
			lines += c.LinesMax
		}
		require.LessOrEqual(t, lines, 2*4+1+len(need.Cuts), "the lines of a load are bounded together")
	}
}

// TestSegmentsSplit: a row is closed once it has its size, at a command's end, and the rows cover the whole range.
func TestSegmentsSplit(t *testing.T) {
	f := newFakeStore()
	a := newApplier(t, f, func(l *Limits) { l.SegmentBytesMax = 600 })
	in := at(2, create("S", "b1", 100))
	for i := range int64(20) {
		in = append(in, at(5+2*i, allocate("S", fmt.Sprint("o", i), 1))...)
	}
	in = append(in, Input{Offset: 50, Time: start, DeadLetter: strings.Repeat("x", 700)})
	segments, err := a.Apply(t.Context(), "topic", 0, 0, 60, in)
	require.NoError(t, err)
	require.Len(t, f.commits, 1, "one transaction")
	require.Greater(t, len(segments), 5)
	require.Len(t, f.published(t, 0), 22)
	for _, s := range segments[:len(segments)-1] {
		require.GreaterOrEqual(t, len(s.Data), 600)
	}
}

// TestSegmentsAreNoLargerThanTheirBytes: they are kept until they are published, also those after a cut, of which one command
// becomes very many events.
func TestSegmentsAreNoLargerThanTheirBytes(t *testing.T) {
	a := newApplier(t, newFakeStore())
	apply := func(from int64, commands ...allocation.Command) {
		t.Helper()
		next := from + int64(len(commands))
		segments, err := a.Apply(t.Context(), "topic", 0, from, next, at(from, commands...))
		require.NoError(t, err)
		for _, s := range segments {
			require.LessOrEqual(t, cap(s.Data), 2*len(s.Data), "offsets %d..%d", s.First, s.Next)
		}
	}
	orders := func(name string) (commands []allocation.Command) {
		for i := range 60 {
			commands = append(commands, allocate("S", fmt.Sprint(name, i), 1))
		}
		return commands
	}
	apply(0, create("S", "b1", 60))
	apply(1, orders("first")...)
	apply(61, cut("S", "b1", 0))
	apply(62, orders("second")...)
}

// TestTheCacheIsBounded: more SKUs than it holds are decided right, and the least recently used leave.
func TestTheCacheIsBounded(t *testing.T) {
	f := newFakeStore()
	a := newApplier(t, f, func(l *Limits) { l.ProductsCachedMax = 3 })
	for round := range int64(3) {
		var commands []allocation.Command
		for i := range 8 {
			sku := fmt.Sprint("S", i)
			if round == 0 {
				commands = append(commands, create(sku, "b1", 9))
			} else {
				commands = append(commands, allocate(sku, fmt.Sprint("o", round), 2))
			}
		}
		_, err := a.Apply(t.Context(), "topic", 0, 8*round, 8*round+8, at(8*round, commands...))
		require.NoError(t, err)
		require.Equal(t, 3, a.products.Len())
	}
	for sku, p := range f.products {
		require.EqualValues(t, 3, p.version, sku)
		require.EqualValues(t, 5, p.available, sku)
	}
	a.Forget()
	require.Zero(t, a.products.Len())
	_, err := New(f, wire, Limits{})
	require.ErrorContains(t, err, "make a cache of 0 SKUs")
}

// TestManyEventsEndAChunk: memory and the transaction stay bounded however many events a poll's cuts make; the events
// are the same.
func TestManyEventsEndAChunk(t *testing.T) {
	commands := []allocation.Command{create("S", "b1", 50), create("S", "b2", 50)}
	for i := range 10 {
		commands = append(commands, allocate("S", fmt.Sprint("o", i), 5))
	}
	commands = append(commands, cut("S", "b1", 0), allocate("S", "late", 5))
	one, many := newFakeStore(), newFakeStore()
	_, err := newApplier(t, one).Apply(t.Context(), "topic", 0, 0, int64(len(commands)), at(0, commands...))
	require.NoError(t, err)
	require.Len(t, one.commits, 1)
	a := newApplier(t, many)
	a.eventsMax = 4
	_, err = a.Apply(t.Context(), "topic", 0, 0, int64(len(commands)), at(0, commands...))
	require.NoError(t, err)
	require.Len(t, many.commits, 5, "three of four commands, the cut's 21 events, the rest")
	require.Equal(t, one.published(t, 0), many.published(t, 0))
}
