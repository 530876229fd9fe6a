//go:build integration

package clickhouse

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// What ClickHouse adds up by SQL is what comes of the rows that it hands over, and each change of a row changes it.
func TestSumsAreThoseOfTheRows(t *testing.T) {
	cfg := migrated(t)
	g, w, conn := newGenerations(t, cfg), newWriter(t, cfg), connect(t, cfg)
	apply(t, w, readmodeltest.New(7, 3000).Records)
	rows := state()
	rows.SKUs[0].SKU, rows.Refs[0].SKU = "LÄMP, 'a':1", "LÄMP, 'a':1"
	require.NoError(t, g.Load(t.Context(), 1, rows.Whole))
	require.NoError(t, g.Load(t.Context(), 1, rows.Whole), "twice changes nothing")
	sums := func() map[string]readmodel.Sum {
		var read rowsum.Adder
		require.NoError(t, g.Read(t.Context(), 1, nil, func(part *readmodel.State) error {
			read.Add(part)
			return nil
		}))
		added, err := g.Sums(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, read.Sums, added)
		return added
	}
	before := sums()
	require.Greater(t, len(before), 5)
	require.Contains(t, before, "LAMP")
	const line = "INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty, eta) VALUES "
	for _, changed := range []string{
		line + "('o1', 'LAMP', 7, 0, 'b1', 4, '2031-05-06')",
		line + "('o1', 'LAMP', 7, 0, 'b2', 4, '2031-05-06')",
		line + "('o1', 'LAMP', 7, 0, 'b2', 4, '2031-05-07')",
		line + "('o1', 'LAMP', 7, 0, 'b2', 4, NULL)",
		line + "('o1', 'LAMP', 8, 0, 'b2', 4, NULL)",
		line + "('o1', 'LAMP', 9, 1, '', 4, NULL)",
		line + "('o9', 'LAMP', 9, 0, 'b1', 4, NULL)",
		"INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available, eta) VALUES ('LAMP', 'b1', 9, 0, 21, 12, '2031-05-06')",
		"INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available, eta) VALUES ('LAMP', 'b1', 9, 0, 21, 13, '2031-05-06')",
		"INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available, eta) VALUES ('LAMP', 'b1', 9, 0, 21, 13, NULL)",
		"DELETE FROM stock_g1 WHERE sku = 'LAMP'",
		"INSERT INTO batches_by_ref_g1 (ref, sku) VALUES ('b1', 'LAMP')",
		"INSERT INTO skus_g1 (sku, version, available) VALUES ('LAMP', 9, 11)",
		"INSERT INTO skus_g1 (sku, version, available) VALUES ('LAMP', 10, 11)",
	} {
		require.NoError(t, conn.Exec(t.Context(), changed))
		after := sums()
		require.NotEqual(t, before["LAMP"], after["LAMP"], changed)
		delete(before, "LAMP")
		for sku, sum := range before {
			require.Equal(t, sum, after[sku], sku)
		}
		before = after
	}
}

// state is some rows that a read model may have.
func state() *readmodel.State {
	at := time.Date(2026, 11, 30, 21, 30, 0, 7e6, time.UTC)
	return &readmodel.State{
		SKUs:    []readmodel.SKURow{{SKU: "LAMP", Version: 9, Available: 12, EventTime: at}},
		Batches: []readmodel.BatchRow{{SKU: "LAMP", Batch: readmodel.Batch{Ref: "b1", Qty: 20, Available: 12, ETA: "2031-05-06", Version: 9}, EventTime: at}},
		Refs:    []readmodel.RefRow{{Ref: "b1", SKU: "LAMP"}},
		Lines: []readmodel.LineRow{
			{Line: readmodel.Line{OrderID: "o1", SKU: "LAMP", BatchRef: "b1", Qty: 3, ETA: "2031-05-06", Version: 7}, CommandID: "c7", EventTime: at},
			{Line: readmodel.Line{OrderID: "o2", SKU: "LAMP", Qty: 3, Version: 6}, CommandID: "c5", EventTime: at}, // allocated at 5, deallocated later
		},
	}
}
