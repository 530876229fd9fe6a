package verify

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// The stores, as reports name them.
const (
	storeEvents     = "events"
	storePostgres   = "postgres"
	storeClickHouse = "clickhouse"
)

// Report is what was compared, and what does not agree.
type Report struct {
	Stores           []Counts `json:"stores"`
	Events           int      `json:"events"`
	EventsOlder      int      `json:"events_older"` // beyond the topic's retention: taken from ClickHouse's log of events
	Outcomes         int64    `json:"outcomes"`     // of commands, that the projector was past when the comparison began
	Buckets          int      `json:"buckets"`
	BucketsDiffering int      `json:"buckets_differing"` // at first sight; while commands come in, many do
	Behind           []Fault  `json:"behind"`
	Wrong            []Fault  `json:"wrong"`
	WrongMore        int      `json:"wrong_more"` // beyond those listed
	Seconds          float64  `json:"seconds"`
}

// Counts are the rows of a store at first sight.
type Counts struct {
	Store   string `json:"store"`
	SKUs    int64  `json:"skus"`
	Batches int64  `json:"batches"`
	Lines   int64  `json:"lines"`
}

// Fault is one thing that does not agree. Row is empty if it is about the SKU as a whole. Should is what the events
// say; an empty Is or Should stands for a row that is not there.
type Fault struct {
	Store  string `json:"store"`
	SKU    string `json:"sku"`
	Row    string `json:"row,omitempty"`
	Is     string `json:"is,omitempty"`
	Should string `json:"should,omitempty"`
}

// OK reports whether everything agrees, up to what was compared.
func (r *Report) OK() bool { return len(r.Behind) == 0 && len(r.Wrong) == 0 }

// wrongIn returns the SKUs that are wrong in a store, sorted.
func (r *Report) wrongIn(store string) []string { return skusIn(r.Wrong, store) }

func skusIn(faults []Fault, store string) []string {
	var skus []string
	for _, f := range faults {
		if f.Store == store {
			skus = append(skus, f.SKU)
		}
	}
	slices.Sort(skus)
	return slices.Compact(skus)
}

// Repairable returns the listed SKUs that ClickHouse has wrong and that the events can put right, sorted. why says so for SKUs that are
// left out, or is empty.
func (r *Report) Repairable() (skus []string, why string) {
	return r.RepairableOf(r.wrongIn(storeClickHouse))
}

// RepairableOf leaves out of SKUs those that the events cannot put right. Where the topic itself is wrong they cannot: ClickHouse may have
// the only copy of an event that the topic lost. What it lost at its end leaves no hole in it. But Postgres has come further then, and may
// look as if it had not published that yet. why says so for SKUs that are left out, or is empty.
func (r *Report) RepairableOf(of []string) (skus []string, why string) {
	lost := r.wrongIn(storeEvents)
	if r.WrongMore > 0 || slices.Contains(lost, "") {
		return nil, "nothing is repaired: the topic has records that cannot be read, or more is wrong than is listed"
	}
	var reasons []string
	leaveOut := func(some []string, reason string) {
		before := len(skus)
		skus = slices.DeleteFunc(skus, func(sku string) bool { return slices.Contains(some, sku) })
		if n := before - len(skus); n > 0 {
			reasons = append(reasons, fmt.Sprintf("%d SKUs are not repaired: %s", n, reason))
		}
	}
	skus = slices.Clone(of)
	leaveOut(lost, "their events in the topic are wrong too")
	leaveOut(slices.Concat(r.wrongIn(storePostgres), skusIn(r.Behind, storePostgres)),
		"Postgres does not have what the events come to either, and ClickHouse may have the only copy of events that the topic lost")
	return skus, strings.Join(reasons, "; ")
}

// report lists what was found, down to the rows for as many SKUs as the options allow.
func (j *judge) report(ctx context.Context, r *Report, outcomeBuckets []int32) error {
	j.fold.missing()
	r.Events = j.log.read
	r.Wrong = append(r.Wrong, j.fold.faults...)
	r.WrongMore += j.fold.more
	for _, sku := range slices.Sorted(maps.Keys(j.open)) {
		for store, f := range map[string]finding{storePostgres: j.open[sku].postgres, storeClickHouse: j.open[sku].clickHouse} {
			fault := Fault{Store: store, SKU: sku, Is: f.what}
			switch {
			case f.what == "":
			case f.wrong < looks: // not looked at often enough to say more
				r.Behind = append(r.Behind, fault)
			default:
				r.Wrong = append(r.Wrong, fault)
			}
		}
	}
	byStore := func(a, b Fault) int { return cmp.Or(cmp.Compare(a.Store, b.Store), cmp.Compare(a.SKU, b.SKU)) }
	slices.SortStableFunc(r.Behind, byStore)
	slices.SortStableFunc(r.Wrong, byStore)
	if len(r.Wrong) > faultsMax {
		r.WrongMore += len(r.Wrong) - faultsMax
		r.Wrong = r.Wrong[:faultsMax]
	}
	return j.listRows(ctx, r, outcomeBuckets)
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	// While commands come in these differ, each store being asked at another moment, and all may agree nevertheless.
	fmt.Fprintf(w, "%-16s%12s%12s%12s\n", "at first sight", "SKUs", "batches", "order lines")
	for _, c := range r.Stores {
		fmt.Fprintf(w, "%-16s%12d%12d%12d\n", c.Store, c.SKUs, c.Batches, c.Lines)
	}
	fmt.Fprintf(w, "%d events folded, %d buckets of SKUs compared, %d of them looked into, %d outcomes of commands compared, in %.1f s\n",
		r.Events+r.EventsOlder, r.Buckets, r.BucketsDiffering, r.Outcomes, r.Seconds)
	if r.EventsOlder > 0 {
		fmt.Fprintf(w, "%d of the events are older than the topic's retention: ClickHouse's log of events was believed for them\n", r.EventsOlder)
	}
	for _, f := range r.Behind {
		fmt.Fprintf(w, "BEHIND  %s: %q %s\n", f.Store, f.SKU, f.Is)
	}
	for _, f := range r.Wrong {
		switch {
		case f.Row == "" || f.Row == rowLog:
			fmt.Fprintf(w, "WRONG   %s: %q %s\n", f.Store, f.SKU, f.Is)
		case f.Is == "":
			fmt.Fprintf(w, "WRONG   %s: %q %s is missing; the events say %s\n", f.Store, f.SKU, f.Row, f.Should)
		case f.Should == "":
			fmt.Fprintf(w, "WRONG   %s: %q %s is %s, and no event says so\n", f.Store, f.SKU, f.Row, f.Is)
		default:
			fmt.Fprintf(w, "WRONG   %s: %q %s is %s; the events say %s\n", f.Store, f.SKU, f.Row, f.Is, f.Should)
		}
	}
	if r.WrongMore > 0 {
		fmt.Fprintf(w, "WRONG   and %d more\n", r.WrongMore)
	}
	switch {
	case r.OK() && len(r.Stores) == 2: // without ClickHouse
		fmt.Fprintln(w, "Postgres = fold of the events")
	case r.OK():
		fmt.Fprintln(w, "Postgres = fold of the events = ClickHouse")
	case len(r.Wrong) == 0:
		fmt.Fprintln(w, "Nothing is wrong, but not everything has caught up: look again, or wait longer with --wait.")
	}
}
