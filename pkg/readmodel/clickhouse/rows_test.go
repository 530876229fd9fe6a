package clickhouse

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// The columns of a part of lines are in the memory of the part's before it, and have only their own rows.
func TestColumnsOfLinesAreUsedAgain(t *testing.T) {
	columns, days := new(lineColumns), new(block)
	for _, lines := range [][]readmodel.LineRow{
		{{Line: readmodel.Line{OrderID: "o1", SKU: "LAMP", BatchRef: "b1", Qty: 3, ETA: "2031-05-06", Version: 7}, CommandID: "c1", EventTime: noon}, {Line: readmodel.Line{OrderID: "o2"}}},
		{{Line: readmodel.Line{OrderID: "o3", SKU: "CHAIR", Version: 8}, EventTime: noon}},
	} {
		again, err := columns.of(lines, days)
		require.NoError(t, err)
		fresh, err := new(lineColumns).of(lines, days)
		require.NoError(t, err)
		require.Equal(t, fresh, again)
		require.Equal(t, lines[0].OrderID, row(again, 0)["orderid"])
		require.Panics(t, func() { row(again, len(lines)) }, "it is the last")
	}
}
