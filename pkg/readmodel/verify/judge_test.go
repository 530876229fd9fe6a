package verify

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
)

// A SKU that never stands still: while a block is inserted, some tables have it and others do not. However often it is
// found so, that is not wrong; what no version ever had is, on the same SKU in the same moment.
func TestTablesOfABusySKUMayBeAtDifferentVersions(t *testing.T) {
	f := newFold()
	next := func() {
		version := uint64(1)
		if p := f.products["CHAIR"]; p != nil {
			version = p.version + 1
		}
		e := logged{Event: schemas.Event{SKU: "CHAIR", Version: version, Type: schemas.EventAllocated, OrderID: fmt.Sprintf("o-%d", version), BatchRef: "b", Qty: 1, BatchQty: 100, BatchAvailable: 100 - int32(version), Available: 100 - int64(version)}}
		if version == 1 {
			e.Type, e.OrderID = schemas.EventBatchCreated, ""
		}
		f.add(&e)
	}
	for range 5 {
		next()
	}
	j := &judge{fold: f, open: map[string]*suspect{"CHAIR": {}}}
	var found finding
	for range 2 * looks {
		mark := j.marks(scope{skus: []string{"CHAIR"}})["CHAIR"]
		p := f.products["CHAIR"]
		for range 4 {
			next()
		}
		said := p.since[3] // the log of events is ahead of what is made of it
		said.parts[linePart], said.parts[changePart] = p.since[1].parts[linePart], p.since[0].parts[changePart]
		judgeClickHouse(&found, said, p, mark, true)
		require.Equal(t, finding{}, found)
	}

	for n := 1; n <= looks; n++ {
		mark := j.marks(scope{skus: []string{"CHAIR"}})["CHAIR"]
		p := f.products["CHAIR"]
		for range 4 {
			next()
		}
		said := p.since[3]
		said.parts[linePart] = p.since[1].parts[linePart]
		said.parts[linePart].put(f.hasher.line("o-ghost", "CHAIR", "b", 1), 1)
		var unsure finding
		judgeClickHouse(&unsure, said, p, mark, false)
		require.Zero(t, unsure.wrong, "what is not projected may be half there")
		require.NotEmpty(t, unsure.what)
		judgeClickHouse(&found, said, p, mark, true)
		require.Equal(t, n, found.wrong)

		said = p.since[3]
		said.parts[linePart] = part{} // at no version since the mark
		judgeClickHouse(&unsure, said, p, mark, true)
		require.Equal(t, 1, unsure.wrong)
	}
}
