package readmodeltest

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// answers is what every question about what a history names has to be answered with. It is made by telling the history in
// order; nothing of it is taken from what the stores do.
type answers struct {
	orders       map[string][]readmodel.Allocation
	lines        map[readmodel.LineKey]readmodel.Line
	availability map[string]readmodel.Availability
	skus         map[string][]string
	outcomes     map[string]readmodel.Outcome

	// What is asked about: all that the history names, in whatever sense.
	askedOrders, askedSKUs, askedRefs, askedCommands map[string]bool
	askedLines                                       map[readmodel.LineKey]bool
}

// tell returns the answers after a history. Its events are those of each SKU in the order of versions.
func tell(history []readmodel.Record) answers {
	a := answers{
		orders: map[string][]readmodel.Allocation{}, lines: map[readmodel.LineKey]readmodel.Line{}, availability: map[string]readmodel.Availability{},
		skus: map[string][]string{}, outcomes: map[string]readmodel.Outcome{},
		askedOrders: map[string]bool{}, askedSKUs: map[string]bool{}, askedRefs: map[string]bool{}, askedCommands: map[string]bool{},
		askedLines: map[readmodel.LineKey]bool{},
	}
	first := map[string]readmodel.Record{}
	for _, r := range history {
		e := r.Event
		a.askedOrders[e.OrderID], a.askedSKUs[e.SKU], a.askedRefs[e.BatchRef], a.askedCommands[e.CommandID] = true, true, true, true
		a.askedLines[readmodel.LineKey{OrderID: e.OrderID, SKU: e.SKU}] = true
		if known, ok := first[e.CommandID]; e.Last && (!ok || sooner(r, known)) {
			first[e.CommandID] = r
		}
		a.change(e)
	}
	for id, r := range first {
		e := r.Event
		a.outcomes[id] = readmodel.Outcome{
			CommandID: id, CommandSource: e.CommandSource, Type: e.Type.String(), SKU: e.SKU, Version: e.Version, OrderID: e.OrderID,
			BatchRef: e.BatchRef, Reason: e.Reason, Message: e.Message, EventTime: r.Time,
		}
	}
	for key, l := range a.lines {
		a.orders[key.OrderID] = append(a.orders[key.OrderID], l.Allocation())
	}
	for _, lines := range a.orders {
		slices.SortFunc(lines, func(a, b readmodel.Allocation) int { return cmp.Compare(a.SKU, b.SKU) })
	}
	for ref, skus := range a.skus {
		slices.Sort(skus)
		a.skus[ref] = skus[:min(len(skus), readmodel.RefSKUsMax)]
	}
	return a
}

func sooner(a, b readmodel.Record) bool {
	if !a.Time.Equal(b.Time) {
		return a.Time.Before(b.Time)
	}
	return a.Partition < b.Partition || a.Partition == b.Partition && a.Offset < b.Offset
}

// change tells one event that changes a SKU.
func (a answers) change(e schemas.Event) {
	if !e.Type.ChangesState() {
		return
	}
	s := a.availability[e.SKU]
	s.SKU, s.Version, s.Available = e.SKU, e.Version, e.Available
	if e.BatchRef != "" {
		others := slices.DeleteFunc(slices.Clone(s.Batches), func(b readmodel.Batch) bool { return b.Ref == e.BatchRef })
		s.Batches = append(others, readmodel.Batch{
			Ref: e.BatchRef, Qty: e.BatchQty, Available: e.BatchAvailable, ETA: e.ETA, Version: e.Version,
		})
		slices.SortFunc(s.Batches, func(a, b readmodel.Batch) int { return cmp.Or(cmp.Compare(a.ETA, b.ETA), cmp.Compare(a.Ref, b.Ref)) })
	}
	a.availability[e.SKU] = s
	key := readmodel.LineKey{OrderID: e.OrderID, SKU: e.SKU}
	switch e.Type {
	case schemas.EventAllocated:
		a.lines[key] = readmodel.Line{OrderID: e.OrderID, SKU: e.SKU, BatchRef: e.BatchRef, Qty: e.Qty, ETA: e.ETA, Version: e.Version}
	case schemas.EventDeallocated:
		delete(a.lines, key)
	case schemas.EventBatchCreated:
		a.skus[e.BatchRef] = append(a.skus[e.BatchRef], e.SKU)
	}
}

// require asks a store everything, and about what nobody knows, and holds its answers to a.
func (a answers) require(t *testing.T, s Store, r readmodel.Reader) {
	t.Helper()
	ctx := t.Context()
	if !s.KeepsOutcomes {
		_, err := r.Outcomes(ctx, []string{"c1"})
		require.ErrorIs(t, err, readmodel.ErrNotKept)
	} else {
		require.Equal(t, a.outcomes, askAll(t, a.askedCommands, func(keys []string) (map[string]readmodel.Outcome, error) { return r.Outcomes(ctx, keys) }))
	}
	availability := a.availability
	if !s.KeepsBatchVersions {
		availability = maps.Clone(availability)
		for sku, k := range availability {
			k.Batches = slices.Clone(k.Batches)
			for i := range k.Batches {
				k.Batches[i].Version = 0
			}
			availability[sku] = k
		}
	}
	require.Equal(t, availability, askAll(t, a.askedSKUs, func(keys []string) (map[string]readmodel.Availability, error) { return r.Availability(ctx, keys) }))
	require.Equal(t, a.orders, askAll(t, a.askedOrders, func(keys []string) (map[string][]readmodel.Allocation, error) { return r.Orders(ctx, keys) }))
	require.Equal(t, a.lines, askAll(t, a.askedLines, func(keys []readmodel.LineKey) (map[readmodel.LineKey]readmodel.Line, error) {
		return r.Lines(ctx, keys)
	}))
	require.Equal(t, a.skus, askAll(t, a.askedRefs, func(keys []string) (map[string][]string, error) { return r.SKUs(ctx, keys) }))
}

// askAll asks about all keys, in as few questions as there may be.
func askAll[K comparable, V any](t *testing.T, asked map[K]bool, ask func(keys []K) (map[K]V, error)) map[K]V {
	t.Helper()
	all := map[K]V{}
	for keys := range slices.Chunk(slices.Collect(maps.Keys(asked)), readmodel.KeysMax) {
		found, err := ask(keys)
		require.NoError(t, err)
		maps.Copy(all, found)
	}
	return all
}
