package allocation

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// loaded returns a product whose batch b1 has ten lines of 1, o1 to o10, of which
// the newest are loaded.
func loaded(newest int, complete bool, cutLinesMax int) *Product {
	p := NewProduct("SKU", 11, nil, &Limits{CutLinesMax: cutLinesMax, CommandIDRetention: time.Hour})
	var lines []Line
	for i := 10; i > 10-newest; i-- {
		lines = append(lines, Line{OrderID: fmt.Sprint("o", i), Qty: 1, BatchRef: "b1", AllocatedVersion: uint64(i) + 1})
	}
	p.Learn(Facts{
		Batches: []Batch{{Ref: "b1", CreatedVersion: 1, CreatedQty: 10, Qty: 10}},
		Newest:  map[string]NewestLines{"b1": {Lines: lines, Complete: complete}},
	})
	return p
}

func cutTo(qty int32) Command {
	return Command{Kind: ChangeBatchQuantity, SKU: "SKU", Ref: "b1", Qty: qty}
}

// TestMoreLinesNeeded: a cut that reaches below what was loaded is not guessed at.
func TestMoreLinesNeeded(t *testing.T) {
	p := loaded(3, false, 2)
	events, err := p.Decide(cutTo(8), nil)
	require.NoError(t, err)
	require.Len(t, events, 5)
	before, version := p.Changes(), p.Version

	after, err := p.Decide(cutTo(6), events)
	require.ErrorIs(t, err, ErrMoreLinesNeeded)
	require.Equal(t, events, after)
	require.Equal(t, before, p.Changes())
	require.Equal(t, version, p.Version)

	events, err = p.Decide(cutTo(7), nil)
	require.NoError(t, err, "what was loaded suffices for less")
	require.Equal(t, "o8", events[0].OrderID)
}

// TestInconsistentRows: rows that contradict each other are named, not believed.
func TestInconsistentRows(t *testing.T) {
	p := loaded(3, true, 100)
	events, err := p.Decide(cutTo(5), nil)
	require.ErrorIs(t, err, ErrInconsistent)
	require.ErrorContains(t, err, `cutting batch "b1" of SKU "SKU": its lines hold 2 less than is allocated`)
	require.Empty(t, events)
	require.False(t, p.Dirty())

	p = NewProduct("SKU", 2, nil, p.limits)
	p.Learn(Facts{Lines: []Line{{OrderID: "o1", Qty: 1, BatchRef: "b9", AllocatedVersion: 2}}})
	_, err = p.Decide(Command{Kind: Deallocate, SKU: "SKU", OrderID: "o1"}, nil)
	require.ErrorIs(t, err, ErrInconsistent)
	require.ErrorContains(t, err, `deallocating line "o1" of SKU "SKU": no batch "b9"`)
	require.False(t, p.Dirty())
}

// TestHotSKU: 20,000 shops at once want 10,000 pieces. Each is answered, half of
// them get one, in the order of the log, and what stays in memory is nothing.
func TestHotSKU(t *testing.T) {
	commands := []Command{{Kind: CreateBatch, SKU: "HOT", Ref: "b1", Qty: 10_000}}
	for i := range 20_000 {
		commands = append(commands, Command{Kind: Allocate, SKU: "HOT", OrderID: fmt.Sprint("o", i), Qty: 1})
	}
	w := newWorld(Limits{CutLinesMax: 100, CommandIDRetention: time.Hour})
	events := w.poll(t, commands)
	require.Len(t, events, len(commands))
	for i, e := range events[1:] {
		want := Allocated
		if i >= 10_000 {
			want = OutOfStock
		}
		require.Equal(t, want, e.Kind)
		require.Equal(t, commands[i+1].OrderID, e.OrderID)
	}
	require.Zero(t, w.tables["HOT"].available)
	require.Zero(t, w.cache["HOT"].batches.len())
	require.Nil(t, w.cache["HOT"].open)
}
