package readmodeltest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// The scenarios of generations: the next one is made beside the one that is asked, from nothing, while events and questions
// flow; and readers are switched to and fro.
func (s Store) generations(t *testing.T) {
	t.Run("beside", s.besideTheLiveOne)
	t.Run("never existed", s.neverExisted)
	t.Run("by version", s.loadedByVersion)
	t.Run("planted", s.planted)
	t.Run("broken off", s.brokenOff)
	t.Run("begun under load", s.begunUnderLoad)
	t.Run("switched under load", s.switchedUnderLoad)
}

// sums adds up a generation, as a comparison does.
func sums(t *testing.T, g readmodel.Generations, generation int) map[string]readmodel.Sum {
	t.Helper()
	if summed, ok := g.(readmodel.Summed); ok {
		all, err := summed.Sums(t.Context(), generation)
		require.NoError(t, err)
		return all
	}
	return added(t, g, generation, nil)
}

// added reads a generation and adds it up.
func added(t *testing.T, g readmodel.Generations, generation int, skus []string) map[string]readmodel.Sum {
	t.Helper()
	var all rowsum.Adder
	require.NoError(t, g.Read(t.Context(), generation, skus, func(rows *readmodel.State) error {
		all.Add(rows)
		return nil
	}))
	return all.Sums
}

// foldedSums is what the rows of a history come to.
func foldedSums(history []readmodel.Record) map[string]readmodel.Sum {
	var all rowsum.Adder
	rows := readmodel.Fold(history)
	all.Add(&rows.State)
	return all.Sums
}

// inParts hands rows over in several parts, in memory that is used again.
func inParts(rows readmodel.State) readmodel.Parts {
	return func(add func(*readmodel.State) error) error {
		var part readmodel.State
		for lines := range slices.Chunk(rows.Lines, 100) {
			part.Lines = append(part.Lines[:0], lines...)
			if err := add(&part); err != nil {
				return err
			}
		}
		rows.Lines = nil
		return add(&rows)
	}
}

func requireList(t *testing.T, g readmodel.Generations, live int, all ...int) {
	t.Helper()
	listed, asked, err := g.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, all, listed)
	require.Equal(t, live, asked)
}

func (s Store) besideTheLiveOne(t *testing.T) {
	h := New(11, 4000)
	early, late := h.Records[:2000], h.Records[2000:]
	p := s.Open(t)
	w, g := p.Writer(t), p.Generations(t)
	requireList(t, g, 1, 1)
	require.NoError(t, tellTo(t.Context(), w, early, 500))
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NoError(t, g.Begin(t.Context(), 2), "again, as after a crash")
	requireList(t, g, 1, 1, 2)
	require.Empty(t, sums(t, g, 2), "it is filled by Load and by what comes")
	require.NoError(t, tellTo(t.Context(), w, late, 500))
	require.NoError(t, tellTo(t.Context(), p.Writer(t), early[900:1800], 300)) // as a zombie does
	want := tell(h.Records)
	want.require(t, s, p.Reader)
	require.NotEqual(t, sums(t, g, 1), sums(t, g, 2), "it has not caught up yet")

	state := readmodel.Fold(early).State
	broken, given := errors.New("the write side is away"), 0
	require.ErrorIs(t, g.Load(t.Context(), 2, func(add func(*readmodel.State) error) error {
		return inParts(state)(func(part *readmodel.State) error {
			if given++; given > 2 {
				return broken
			}
			return add(part)
		})
	}), broken, "some of it may be there, and it is loaded again")
	require.Equal(t, 3, given)
	require.NotEqual(t, foldedSums(h.Records), sums(t, g, 2))
	for _, rows := range []readmodel.Parts{inParts(state), state.Whole} { // the second as after a crash
		require.NoError(t, g.Load(t.Context(), 2, rows))
		require.NoError(t, g.Settle(t.Context()))
		for _, generation := range []int{1, 2} {
			require.Equal(t, foldedSums(h.Records), sums(t, g, generation))
			require.Equal(t, foldedSums(h.Records), added(t, g, generation, nil), "as a store adds up, or who reads it")
		}
	}
	some := added(t, g, 2, []string{"SKU-03", "SKU-07", "NO-SUCH"})
	require.Equal(t, map[string]readmodel.Sum{"SKU-03": foldedSums(h.Records)["SKU-03"], "SKU-07": foldedSums(h.Records)["SKU-07"]}, some)
	require.Empty(t, added(t, g, 2, []string{}))

	// Something that only the first has, by which a switch can be told.
	first := readmodel.State{SKUs: []readmodel.SKURow{{SKU: "FIRST", Version: 7, Available: 1, EventTime: h.Records[0].Time}}}
	require.NoError(t, g.Load(t.Context(), 1, first.Whole))
	requireFirst := func(there bool) {
		t.Helper()
		found, err := p.Reader.Availability(t.Context(), []string{"FIRST"})
		require.NoError(t, err)
		require.Equal(t, there, len(found) == 1)
	}
	requireFirst(true)
	require.Error(t, g.Drop(t.Context(), 1), "it is asked")
	requireFirst(true)
	require.Error(t, g.Switch(t.Context(), 3), "there is none")
	requireList(t, g, 1, 1, 2)
	for _, generation := range []int{2, 2, 1, 2} {
		require.NoError(t, g.Switch(t.Context(), generation))
		requireList(t, p.Generations(t), generation, 1, 2)
		requireFirst(generation == 1)
		want.require(t, s, p.Reader)
	}
	require.NoError(t, g.Drop(t.Context(), 1))
	require.NoError(t, g.Drop(t.Context(), 1), "again, as after a crash")
	requireList(t, g, 2, 2)
	require.NoError(t, tellTo(t.Context(), w, h.Records, 1000), "once more, without the first generation")
	want.require(t, s, p.Reader)
	require.Equal(t, foldedSums(h.Records), sums(t, g, 2))
}

// neverExisted makes a read model out of nothing but rows.
func (s Store) neverExisted(t *testing.T) {
	h := New(29, 500)
	p := s.Open(t)
	g := p.Generations(t)
	require.NoError(t, g.Begin(t.Context(), 2))
	state := readmodel.Fold(h.Records).State
	require.NoError(t, g.Load(t.Context(), 2, state.Whole))
	require.NoError(t, g.Switch(t.Context(), 2))
	require.NoError(t, g.Drop(t.Context(), 1))
	requireList(t, g, 2, 2)
	require.Equal(t, foldedSums(h.Records), sums(t, g, 2))
	want := tell(h.Records)
	want.outcomes = map[string]readmodel.Outcome{} // the state does not know them
	want.require(t, s, p.Reader)
}

// loadedByVersion: what is loaded is ordered by version like what is applied. Older rows, before or after it, change nothing,
// and do not bring back a line that was deallocated.
func (s Store) loadedByVersion(t *testing.T) {
	h := newStory()
	h.batch("LAMP", "b1", 20, "2031-05-06")
	h.allocate("o1", "LAMP", "b1", 1)
	h.allocate("o2", "LAMP", "b1", 2)
	h.deallocate("o2", "LAMP")
	h.sku("LAMP").version = math.MaxInt64 - 3
	h.allocate("o3", "LAMP", "b1", 3)
	old, now := readmodel.Fold(h.records[:3]).State, readmodel.Fold(h.records).State
	for _, order := range [][]*readmodel.State{{&old, &now}, {&now, &old}} {
		p := s.Open(t)
		w, g := p.Writer(t), p.Generations(t)
		require.NoError(t, g.Begin(t.Context(), 2))
		for _, rows := range order {
			require.NoError(t, g.Load(t.Context(), 2, rows.Whole))
			require.NoError(t, w.Apply(t.Context(), h.records[1:3])) // a zombie's
		}
		require.Equal(t, foldedSums(h.records), sums(t, g, 2))
		require.NoError(t, g.Switch(t.Context(), 2))
		orders, err := p.Reader.Orders(t.Context(), []string{"o1", "o2", "o3"})
		require.NoError(t, err)
		require.Len(t, orders, 2, "o2 is not allocated, though events from before say so")
	}
}

// planted: a row that is another one, one too many and one that is missing each make sums of their SKU that are not those of
// the events, and of no other SKU; read, they are what was planted.
func (s Store) planted(t *testing.T) {
	h := newStory()
	for _, sku := range []string{"CHANGED", "MANY", "MISSING", "RIGHT"} {
		h.batch(sku, "b1", 20, "")
		h.allocate("o1", sku, "b1", 1)
		h.allocate("o2", sku, "b1", 2)
	}
	p := s.Open(t)
	g := p.Generations(t)
	require.NoError(t, g.Begin(t.Context(), 2))
	rows := readmodel.Fold(h.records).State
	at := h.records[0].Time
	rows.Lines = slices.DeleteFunc(rows.Lines, func(l readmodel.LineRow) bool { return l.SKU == "MISSING" && l.OrderID == "o2" })
	for i := range rows.Lines {
		if l := &rows.Lines[i]; l.SKU == "CHANGED" && l.OrderID == "o1" {
			l.Qty = 9
		}
	}
	rows.Lines = append(rows.Lines, readmodel.LineRow{Line: readmodel.Line{OrderID: "ghost", SKU: "MANY", BatchRef: "b1", Qty: 1, Version: 2}, EventTime: at})
	require.NoError(t, g.Load(t.Context(), 2, rows.Whole))
	is, should := sums(t, g, 2), foldedSums(h.records)
	require.Len(t, is, 4)
	for sku, want := range should {
		require.Equal(t, sku == "RIGHT", is[sku] == want, sku)
	}
	lines := map[string]int32{}
	require.NoError(t, g.Read(t.Context(), 2, []string{"CHANGED", "MANY", "MISSING"}, func(part *readmodel.State) error {
		for _, l := range part.Lines {
			lines[l.SKU+" "+l.OrderID] = l.Qty
		}
		return nil
	}))
	require.Equal(t, map[string]int32{"CHANGED o1": 9, "CHANGED o2": 2, "MANY o1": 1, "MANY o2": 2, "MANY ghost": 1, "MISSING o1": 1}, lines)
}

// brokenOff: another process finds what the first has marked, and nothing of it once the generation was dropped.
func (s Store) brokenOff(t *testing.T) {
	p := s.Open(t)
	first := p.Generations(t)
	marks, err := first.Marks(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, marks)
	require.NoError(t, first.Begin(t.Context(), 2))
	require.NoError(t, first.Mark(t.Context(), 2, "lines/1", "done: 'all'"))
	require.NoError(t, first.Mark(t.Context(), 2, "lines/1", "done"))
	require.NoError(t, first.Mark(t.Context(), 2, "lines/2", ""))
	next := p.Generations(t)
	require.NoError(t, next.Begin(t.Context(), 2))
	marks, err = next.Marks(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"lines/1": "done", "lines/2": ""}, marks)
	h := New(31, 300)
	require.NoError(t, tellTo(t.Context(), p.Writer(t), h.Records, 100))
	require.NoError(t, next.Drop(t.Context(), 2))
	requireList(t, next, 1, 1)
	require.NoError(t, next.Begin(t.Context(), 2))
	marks, err = next.Marks(t.Context(), 2)
	require.NoError(t, err)
	require.Empty(t, marks)
	require.Empty(t, sums(t, next, 2), "nothing is left of the one before")
}

// begunUnderLoad has a writer that does not stop for it: each block whose Apply has returned after Begin did is in the new generation.
func (s Store) begunUnderLoad(t *testing.T) {
	p := s.Open(t)
	w, g := p.Writer(t), p.Generations(t)
	h := newStory()
	h.batch("LAMP", "b", 1_000_000, "")
	const lines, blockLines = 4000, 40
	for i := range lines {
		h.allocate(fmt.Sprintf("o%d", i), "LAMP", "b", 1)
	}
	require.NoError(t, w.Apply(t.Context(), h.records[:1]))
	var applied, end atomic.Int64
	end.Store(lines / blockLines)
	var group errgroup.Group
	group.Go(func() error {
		for block := range slices.Chunk(h.records[1:], blockLines) {
			if applied.Load() >= end.Load() {
				return nil
			}
			if err := w.Apply(t.Context(), block); err != nil {
				return err
			}
			applied.Add(1)
		}
		return nil
	})
	for applied.Load() < 5 { // it is at it
		require.NoError(t, g.Settle(t.Context()))
	}
	require.NoError(t, g.Begin(t.Context(), 2))
	began := applied.Load()
	end.Store(began + 10) // a slow store need not take the rest
	require.NoError(t, group.Wait())
	require.Greater(t, applied.Load(), began+1, "the writer had ended: this tested nothing")
	found := map[string]bool{}
	require.NoError(t, g.Read(t.Context(), 2, nil, func(part *readmodel.State) error {
		for _, l := range part.Lines {
			found[l.OrderID] = true
		}
		return nil
	}))
	// The one that was under way when Begin returned may have returned itself, and not been counted yet.
	for i := (began + 1) * blockLines; i < applied.Load()*blockLines; i++ {
		require.True(t, found[fmt.Sprintf("o%d", i)], "line %d, of a block after block %d", i, began)
	}
}

// switchedUnderLoad has readers that ask all the time while generations are switched and dropped: none fails, and none goes
// back.
func (s Store) switchedUnderLoad(t *testing.T) {
	p := s.Open(t)
	w, g := p.Writer(t), p.Generations(t)
	h := newStory()
	h.batch("LAMP", "b", 1_000_000, "")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group errgroup.Group
	for range 2 {
		group.Go(func() error {
			for last := uint64(0); ctx.Err() == nil; {
				found, err := p.Reader.Availability(context.WithoutCancel(ctx), []string{"LAMP"})
				if err != nil {
					return err
				}
				orders, err := p.Reader.Orders(context.WithoutCancel(ctx), []string{"o0"})
				if err != nil {
					return err
				}
				now := found["LAMP"].Version
				if now < last || now > 5 && len(orders) == 0 {
					return fmt.Errorf("version %d after %d, and orders %v", now, last, orders)
				}
				last = now
			}
			return nil
		})
	}
	told, lines := 0, 0
	write := func(n int) {
		t.Helper()
		for range n {
			h.allocate(fmt.Sprintf("o%d", lines), "LAMP", "b", 1)
			lines++
			require.NoError(t, w.Apply(t.Context(), h.records[told:]))
			told = len(h.records)
		}
	}
	write(5)
	require.NoError(t, g.Begin(t.Context(), 2))
	state := readmodel.Fold(h.records).State
	require.NoError(t, g.Load(t.Context(), 2, state.Whole))
	for _, generation := range []int{2, 1, 2} {
		write(5)
		require.NoError(t, g.Switch(t.Context(), generation))
	}
	require.NoError(t, g.Drop(t.Context(), 1))
	write(5)
	stop()
	require.NoError(t, group.Wait())
	tell(h.records).require(t, s, p.Reader)
}
