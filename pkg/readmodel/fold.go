package readmodel

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/lotline/lotline/schemas"
)

// Rows is what a block of records says of each key that it names: the newest of each, in key order, so that stores
// which lock rows lock them in one order. A store keeps of each what is newer than what it has.
type Rows struct {
	State
	Outcomes []OutcomeRow
}

// OutcomeRow is a command's outcome. Of two with one command id the one that is Before the other counts.
type OutcomeRow struct {
	Outcome
	Partition int32
	Offset    int64 // with Partition, the place in the events topic
}

// Before reports whether o was sent before other.
func (o *OutcomeRow) Before(other *OutcomeRow) bool {
	return cmp.Or(o.EventTime.Compare(other.EventTime), cmp.Compare(o.Partition, other.Partition), cmp.Compare(o.Offset, other.Offset)) < 0
}

// Fold returns the rows of a block of records, in whatever order they came.
func Fold(records []Record) Rows {
	lines, batches, refs := map[LineKey]LineRow{}, map[RefRow]BatchRow{}, map[RefRow]RefRow{}
	skus, outcomes := map[string]SKURow{}, map[string]OutcomeRow{}
	for i := range records {
		r := &records[i]
		e := &r.Event
		if e.Last {
			o := outcomeOf(r)
			if known, ok := outcomes[e.CommandID]; !ok || o.Before(&known) {
				outcomes[e.CommandID] = o
			}
		}
		if !e.Type.ChangesState() {
			continue
		}
		if e.Version > skus[e.SKU].Version {
			skus[e.SKU] = SKURow{SKU: e.SKU, Version: e.Version, Available: e.Available, EventTime: r.Time}
		}
		if key := (RefRow{Ref: e.BatchRef, SKU: e.SKU}); e.BatchRef != "" && e.Version > batches[key].Version {
			refs[key] = key
			batches[key] = BatchRow{SKU: e.SKU, EventTime: r.Time, Batch: Batch{
				Ref: e.BatchRef, Qty: e.BatchQty, Available: e.BatchAvailable, ETA: e.ETA, Version: e.Version,
			}}
		}
		key := LineKey{OrderID: e.OrderID, SKU: e.SKU}
		if e.Type != schemas.EventAllocated && e.Type != schemas.EventDeallocated || e.Version <= lines[key].Version {
			continue
		}
		l := LineRow{Line: Line{OrderID: e.OrderID, SKU: e.SKU, Qty: e.Qty, Version: e.Version}, CommandID: e.CommandID, EventTime: r.Time}
		if e.Type == schemas.EventAllocated {
			l.BatchRef, l.ETA = e.BatchRef, e.ETA
		}
		lines[key] = l
	}
	rows := Rows{
		State:    State{SKUs: values(skus), Batches: values(batches), Refs: values(refs), Lines: values(lines)},
		Outcomes: values(outcomes),
	}
	rows.Sort()
	slices.SortFunc(rows.Outcomes, func(a, b OutcomeRow) int { return strings.Compare(a.CommandID, b.CommandID) })
	return rows
}

// Sort puts each kind of rows into the order of its keys.
func (s *State) Sort() {
	slices.SortFunc(s.SKUs, func(a, b SKURow) int { return strings.Compare(a.SKU, b.SKU) })
	slices.SortFunc(s.Batches, func(a, b BatchRow) int {
		return cmp.Or(strings.Compare(a.SKU, b.SKU), strings.Compare(a.Ref, b.Ref))
	})
	slices.SortFunc(s.Refs, func(a, b RefRow) int {
		return cmp.Or(strings.Compare(a.Ref, b.Ref), strings.Compare(a.SKU, b.SKU))
	})
	slices.SortFunc(s.Lines, func(a, b LineRow) int {
		return cmp.Or(strings.Compare(a.OrderID, b.OrderID), strings.Compare(a.SKU, b.SKU))
	})
}

func outcomeOf(r *Record) OutcomeRow {
	e := &r.Event
	return OutcomeRow{
		Outcome: Outcome{
			CommandID: e.CommandID, CommandSource: e.CommandSource, Type: e.Type.String(), SKU: e.SKU, Version: e.Version,
			OrderID: e.OrderID, BatchRef: e.BatchRef, Reason: e.Reason, Message: e.Message, EventTime: r.Time,
		},
		Partition: r.Partition, Offset: r.Offset,
	}
}

func values[K comparable, R any](rows map[K]R) []R {
	return slices.AppendSeq(make([]R, 0, len(rows)), maps.Values(rows))
}
