package rebuild

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lotline/lotline/pkg/readmodel"
)

// sides are the rows of some SKUs.
type sides map[string]*side

// side is a SKU's rows in one place, by name: "sku", "batch b-1", "ref b-1", "line o-1".
type side struct {
	version uint64
	rows    map[string]said
}

// said is what a row says: of a line that has no batch any more, nothing.
type said struct {
	what    string
	version uint64 // when the row last changed, or 0 where only one side knows
	at      uint64 // the version that the row itself has
}

// of returns a SKU's rows, none if there are none.
func (s sides) of(sku string) *side {
	if s[sku] == nil {
		s[sku] = &side{rows: make(map[string]said)}
	}
	return s[sku]
}

func (s sides) add(rows *readmodel.State) {
	for _, r := range rows.SKUs {
		one := s.of(r.SKU)
		one.version = r.Version
		one.rows["sku"] = said{fmt.Sprintf("version %d, %d available", r.Version, r.Available), r.Version, r.Version}
	}
	for _, r := range rows.Batches {
		s.of(r.SKU).rows["batch "+r.Ref] = said{fmt.Sprintf("%d of %d available, %s", r.Available, r.Qty, arrival(r.ETA)), 0, r.Version}
	}
	for _, r := range rows.Refs {
		s.of(r.SKU).rows["ref "+r.Ref] = said{"there", 0, 0}
	}
	for _, r := range rows.Lines {
		what := ""
		if r.BatchRef != "" {
			what = fmt.Sprintf("%d in batch %q, %s, since version %d", r.Qty, r.BatchRef, arrival(r.ETA), r.Version)
		}
		s.of(r.SKU).rows["line "+r.OrderID] = said{what, r.Version, r.Version}
	}
}

func arrival(eta string) string {
	if eta == "" {
		return "in stock"
	}
	return "eta " + eta
}

// undated reports whether the write side says at no version that a row is so: when a line lost its batch, or a batch changed.
func undated(name, what string) bool { return what == "" || !strings.HasPrefix(name, "line ") }

// unexplained returns the rows of a SKU that are not what they should be and that no version explains, and of those that may
// be of a version that has not come yet, but need not, what they should be. is was read before must, so whatever it says was
// so by then.
func unexplained(sku string, is, must *side) (faults []Fault, doubts map[string]string) {
	if is.version > must.version {
		return []Fault{{SKU: sku, Row: "sku", Is: fmt.Sprintf("version %d", is.version), Should: fmt.Sprintf("version %d: was Postgres restored from a backup?", must.version)}}, nil
	}
	behind := is.version < must.version
	doubts = make(map[string]string)
	names := maps.Clone(is.rows)
	maps.Copy(names, must.rows)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		has, there := is.rows[name]
		should, known := must.rows[name]
		switch {
		case has.what == should.what:
		case there && !known:
			faults = append(faults, Fault{SKU: sku, Row: name, at: has.at, Is: has.what})
		case has.version > should.version && should.version > 0: // and nothing later than must can be there
			faults = append(faults, Fault{SKU: sku, Row: name, at: has.at, Is: has.what, Should: should.what})
		case behind && should.version > is.version: // the change is of a version that has not come yet
		case behind && undated(name, should.what):
			doubts[name] = should.what
		default:
			faults = append(faults, Fault{SKU: sku, Row: name, at: has.at, Is: has.what, Should: should.what})
		}
	}
	return faults, doubts
}
