package clickhouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// tablesBySKU are all tables that have rows of state of a SKU.
var tablesBySKU = []string{"events", "order_lines_g1", "stock_g1", "skus_g1", "batches_by_ref_g1"}

// Forget deletes all rows of some SKUs, and returns once none of them is read any more. It is for rows that are wrong
// and that a row of the right version could not replace: one with too high a version, or one that no event speaks of.
// Rows that are written meanwhile may be deleted or not: the caller writes all again after it.
func (w *Writer) Forget(ctx context.Context, skus []string) error {
	for _, table := range tablesBySKU {
		ctx := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"lightweight_deletes_sync": 2}))
		if err := w.conn.Exec(ctx, "DELETE FROM "+table+" WHERE sku IN (@skus)", clickhouse.Named("skus", skus)); err != nil {
			return fmt.Errorf("delete the rows of %d SKUs from %s: %w", len(skus), table, err)
		}
	}
	return nil
}
