package allocation

import (
	"errors"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"
)

// table holds the rows of one SKU, as the database does.
type table struct {
	version   uint64
	available int64
	batches   map[string]Batch
	lines     map[string]Line
	seen      map[CommandID]Seen
}

func newTable() *table {
	return &table{batches: map[string]Batch{}, lines: map[string]Line{}, seen: map[CommandID]Seen{}}
}

func (t *table) open() []Batch {
	var open []Batch
	for _, b := range t.batches {
		if b.Available > 0 {
			open = append(open, b)
		}
	}
	return open
}

// facts loads what the chunk's commands name, and nothing else. Of the batch that
// first names it loads enough for any decision; of others as little as it may.
func (t *table) facts(chunk []Command, first Command, limits Limits) Facts {
	f := Facts{Newest: map[string]NewestLines{}}
	lines, batches, least := map[string]Line{}, map[string]Batch{}, map[string]int32{}
	for _, c := range chunk {
		if l, ok := t.lines[c.OrderID]; ok {
			lines[c.OrderID] = l
			c.Ref = l.BatchRef
		}
		if b, ok := t.batches[c.Ref]; ok {
			batches[c.Ref] = b
		}
		if s, ok := t.seen[c.ID]; ok {
			f.Seen = append(f.Seen, s)
		}
		if qty, ok := least[c.Ref]; c.Kind == ChangeBatchQuantity && (!ok || c.Qty < qty) {
			least[c.Ref] = c.Qty
		}
	}
	for ref, qty := range least {
		linesMax := 1
		if first.SKU == chunk[0].SKU && first.Ref == ref {
			linesMax = limits.CutLinesMax + 1
		}
		f.Newest[ref] = t.newest(ref, qty, linesMax)
	}
	f.Lines = slices.Collect(maps.Values(lines))
	f.Batches = slices.Collect(maps.Values(batches))
	return f
}

func (t *table) newest(ref string, least int32, linesMax int) NewestLines {
	var all []Line
	for _, l := range t.lines {
		if l.BatchRef == ref {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b Line) int { return int(b.AllocatedVersion) - int(a.AllocatedVersion) })
	older := t.batches[ref].Qty - t.batches[ref].Available
	for i, l := range all {
		if older <= least {
			return NewestLines{Lines: all[:i], Complete: true}
		}
		if i == linesMax {
			return NewestLines{Lines: all[:i]}
		}
		older -= l.Qty
	}
	return NewestLines{Lines: all, Complete: true}
}

func (t *table) save(test require.TestingT, p *Product) {
	require.Equal(test, t.version, p.SettledVersion(), "compare-and-set of the SKU's version")
	rows := p.Changes()
	if !p.Dirty() {
		require.Equal(test, Changes{}, rows)
	}
	t.version, t.available = p.Version, p.Available
	var newRefs, refs, newOrders, orders, ids []string
	for _, b := range rows.NewBatches {
		require.NotContains(test, t.batches, b.Ref)
		newRefs = append(newRefs, b.Ref)
	}
	for _, b := range rows.Batches {
		require.Contains(test, t.batches, b.Ref)
		refs = append(refs, b.Ref)
	}
	for _, b := range append(rows.NewBatches, rows.Batches...) {
		t.batches[b.Ref] = b
	}
	for _, l := range rows.NewLines {
		require.NotContains(test, t.lines, l.OrderID)
		newOrders = append(newOrders, l.OrderID)
	}
	for _, l := range rows.Lines {
		require.Contains(test, t.lines, l.OrderID)
		orders = append(orders, l.OrderID)
	}
	for _, l := range append(rows.NewLines, rows.Lines...) {
		t.lines[l.OrderID] = l
	}
	for _, s := range rows.Seen {
		t.seen[s.Command] = s
		ids = append(ids, s.Command.Source+" "+s.Command.ID)
	}
	for _, keys := range [][]string{newRefs, refs, newOrders, orders, ids} {
		require.True(test, slices.IsSorted(keys), "rows are sorted by key: %q", keys)
	}
}

// world plays the use case: it applies polls of commands to products and tables.
type world struct {
	limits Limits
	tables map[string]*table
	cache  map[string]*Product
}

func newWorld(limits Limits) *world {
	return &world{limits: limits, tables: map[string]*table{}, cache: map[string]*Product{}}
}

// poll applies the commands as one chunk, or more if a cut needs more lines.
func (w *world) poll(t require.TestingT, commands []Command) []Event {
	var events []Event
	for len(commands) > 0 {
		n := w.chunk(t, commands, &events)
		require.Positive(t, n, "the first command of a chunk needed more lines")
		commands = commands[n:]
	}
	return events
}

// chunk decides as many of the commands as it can in one transaction.
func (w *world) chunk(t require.TestingT, commands []Command, events *[]Event) (decided int) {
	bySKU := map[string][]Command{}
	for _, c := range commands {
		bySKU[c.SKU] = append(bySKU[c.SKU], c)
	}
	for sku, chunk := range bySKU {
		if w.tables[sku] == nil {
			w.tables[sku] = newTable()
		}
		stored := w.tables[sku]
		if w.cache[sku] == nil {
			w.cache[sku] = NewProduct(sku, stored.version, stored.open(), &w.limits)
		}
		w.cache[sku].Learn(stored.facts(chunk, commands[0], w.limits))
	}
	for _, c := range commands {
		got, err := w.cache[c.SKU].Decide(c, *events)
		if errors.Is(err, ErrMoreLinesNeeded) {
			break
		}
		require.NoError(t, err)
		*events = got
		decided++
	}
	for sku := range bySKU {
		w.tables[sku].save(t, w.cache[sku])
		w.cache[sku].Settle()
	}
	return decided
}

// forget drops the SKU from memory: the next poll loads it from its rows.
func (w *world) forget(sku string) { delete(w.cache, sku) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
