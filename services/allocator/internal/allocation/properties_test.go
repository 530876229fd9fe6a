package allocation

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestEqualsTheModel: events and rows are those of the model, though the commands
// come in chunks and products are dropped from memory at random.
func TestEqualsTheModel(t *testing.T) {
	met := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		limits, commands := anyLimits(t), anyCommands(t)
		models := map[string]*model{}
		var want []Event
		for _, c := range commands {
			if models[c.SKU] == nil {
				models[c.SKU] = &model{limits: limits, sku: c.SKU}
			}
			want = append(want, models[c.SKU].decide(c)...)
		}
		w := newWorld(limits)
		got := play(t, w, commands)
		for i, e := range got {
			met[fmt.Sprintf("%s %s", e.Kind, e.Reason)] = true
			got[i].Message = ""
		}
		require.Equal(t, want, got)
		for sku, m := range models {
			require.Equal(t, m.table(), w.tables[sku])
		}
	})
	require.Len(t, met, 5+1+4+9, "every kind of event, and every reason, came up: %v", met)
}

// TestDivisionsDoNotMatter: two divisions into chunks, each with its own losses of
// memory, end the same to the byte.
func TestDivisionsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits, commands := anyLimits(t), anyCommands(t)
		one, other := newWorld(limits), newWorld(limits)
		require.Equal(t, play(t, one, commands), play(t, other, commands))
		require.Equal(t, one.tables, other.tables)
		for sku, p := range one.cache {
			require.Equal(t, len(one.tables[sku].open()), p.batches.len(), "memory is the open batches")
			require.Nil(t, p.chunk)
		}
	})
}

// TestEventsTellTheState: whoever folds the events, in order, has the state, and
// at no version is anything oversold or in two places.
func TestEventsTellTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(anyLimits(t))
		folds := map[string]*fold{}
		seq := int32(0)
		for _, e := range play(t, w, anyCommands(t)) {
			require.Equal(t, seq, e.Seq)
			if seq++; e.Last {
				seq = 0
			}
			if folds[e.SKU] == nil {
				folds[e.SKU] = &fold{batches: map[string]Event{}, lines: map[string]Event{}}
			}
			folds[e.SKU].add(t, e)
		}
		require.Zero(t, seq, "the last event of all is the last of its command")
		for sku, f := range folds {
			f.equal(t, w.tables[sku])
		}
	})
}

// fold is a consumer's view of a SKU: the last event of each batch and line.
type fold struct {
	version        uint64
	batches, lines map[string]Event
}

func (f *fold) add(t require.TestingT, e Event) {
	if e.Kind == CommandIgnored || e.Kind == CommandRejected {
		require.Equal(t, f.version, e.Version)
		return
	}
	require.Equal(t, f.version+1, e.Version, "versions are gapless")
	f.version = e.Version
	if e.BatchRef != "" {
		f.batches[e.BatchRef] = e
	}
	switch held, ok := f.lines[e.OrderID]; e.Kind {
	case Allocated:
		require.False(t, ok, "line %s is in batch %s", e.OrderID, held.BatchRef)
		f.lines[e.OrderID] = e
	case Deallocated:
		require.Equal(t, []any{held.BatchRef, held.Qty}, []any{e.BatchRef, e.Qty})
		delete(f.lines, e.OrderID)
	}
	var available int64
	allocated := map[string]int32{}
	for _, l := range f.lines {
		allocated[l.BatchRef] += l.Qty
	}
	for ref, b := range f.batches {
		require.LessOrEqual(t, allocated[ref], b.BatchQty, "batch %s is oversold at version %d", ref, e.Version)
		require.Equal(t, b.BatchQty-allocated[ref], b.BatchAvailable)
		available += int64(b.BatchAvailable)
	}
	require.Equal(t, available, e.Available)
}

func (f *fold) equal(t require.TestingT, stored *table) {
	require.Equal(t, stored.version, f.version)
	require.Len(t, f.batches, len(stored.batches))
	for ref, b := range stored.batches {
		e := f.batches[ref]
		require.Equal(t, []any{b.Qty, b.Available, b.ETA}, []any{e.BatchQty, e.BatchAvailable, e.ETA})
	}
	allocated := 0
	for order, l := range stored.lines {
		if l.BatchRef != "" {
			allocated++
			e := f.lines[order]
			require.Equal(t, []any{l.BatchRef, l.Qty, l.AllocatedVersion}, []any{e.BatchRef, e.Qty, e.Version})
		}
	}
	require.Len(t, f.lines, allocated)
}

// play applies the commands in polls of any size, now and then after a loss of memory.
func play(t *rapid.T, w *world, commands []Command) (events []Event) {
	for len(commands) > 0 {
		n := min(len(commands), rapid.SampledFrom([]int{50, 10, 200, 2, 1}).Draw(t, "poll"))
		if rapid.Bool().Draw(t, "forget") {
			w.forget(commands[0].SKU)
		}
		events = append(events, w.poll(t, commands[:n])...)
		commands = commands[n:]
	}
	return events
}

func anyLimits(t *rapid.T) Limits {
	return Limits{CutLinesMax: anyOf(t, "cutLinesMax", 2, 3, 1, 5), CommandIDRetention: 12 * time.Hour}
}

// anyCommands draws commands among so few names that they meet: the same lines,
// batches and ids again and again.
func anyCommands(t *rapid.T) []Command {
	commands := rapid.SliceOfN(rapid.Custom(anyCommand), 100, 200).Draw(t, "commands")
	if rapid.Bool().Draw(t, "known") {
		commands[0] = Command{Kind: CreateBatch, SKU: "A", Ref: "b1", Qty: 12}
	}
	now := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	for i := range commands {
		c := &commands[i]
		switch identity := anyOf(t, "identity", "unique", "unique", "unique", "unique", "shared", "none", "repeat"); {
		case identity == "unique":
			c.ID = CommandID{Source: "shop", ID: fmt.Sprint("unique-", i)}
		case identity == "shared":
			c.ID = CommandID{Source: anyOf(t, "source", "", "shop"), ID: anyOf(t, "id", "x", "y", "z")}
		case identity == "repeat" && i > 0:
			*c = commands[i-1-rapid.IntRange(0, min(20, i-1)).Draw(t, "ago")]
		}
		if i > 0 && commands[i-1].Kind == ChangeBatchQuantity && rapid.Bool().Draw(t, "cut on") {
			*c = commands[i-1] // step by step, deeper than the lines that were loaded
			c.Qty, c.ID = c.Qty-1, CommandID{}
		}
		now = now.Add(time.Duration(rapid.IntRange(-1, 60).Draw(t, "minutes")) * time.Minute)
		c.Position, c.Time = Position{Offset: int64(i)}, now
	}
	return commands
}

func anyCommand(t *rapid.T) Command {
	c := Command{
		SKU: anyOf(t, "sku", "A", "A", "A", "A", "A", "B"),
		Kind: anyOf(t, "kind", Allocate, Allocate, Allocate, Allocate, Allocate, Allocate,
			CreateBatch, Deallocate, ChangeBatchQuantity, ChangeBatchQuantity),
	}
	order := fmt.Sprint("o", rapid.IntRange(1, 40).Draw(t, "order"))
	ref := anyOf(t, "ref", "b1", "b1", "b1", "b2", "b3", "b4")
	switch c.Kind {
	case CreateBatch:
		c.Ref, c.Qty = ref, anyOf[int32](t, "qty", 12, 12, 12, 12, 12, 20, 20, 5, 0, 1e9+1)
		c.ETA = anyOf(t, "eta", "", "", "", "2031-01-01", "2031-01-01", "2031-01-01", "2031-01-02", "2031-01-02", "1969-12-31", "2300-01-01")
	case Allocate:
		c.OrderID, c.Qty = order, anyOf[int32](t, "qty", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 5, -1)
	case Deallocate:
		c.OrderID = order
	case ChangeBatchQuantity:
		c.Ref, c.Qty = ref, anyOf[int32](t, "qty", 5, 6, 7, 8, 9, 10, 11, 12, 3, 15, 0, -1)
	}
	return c
}

func anyOf[V any](t *rapid.T, label string, values ...V) V {
	return rapid.SampledFrom(values).Draw(t, label)
}
