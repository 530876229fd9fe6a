package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// logTables have a row an event, with its place in the events topic.
var logTables = []string{"events", "outcomes"}

// Forget deletes the rows of some SKUs that the events topic can give again, and returns once none of them is read any
// more. It is for rows that are wrong and that a row of the right version could not replace: one with too high a
// version, or one that no event speaks of. Rows that are written meanwhile may be deleted or not: the caller writes all
// again after it. Every generation is rid of them.
//
// starts is where the topic begins, by partition: rows of older events exist nowhere else. They stay, and go through the
// views once more. What hours say of the SKUs for BI is empty then, until they are counted again, within a minute or two of
// the events' coming back.
func (w *Writer) Forget(ctx context.Context, skus []string, starts map[int32]int64) error {
	ofSKUs := clickhouse.Named("skus", skus)
	deleting := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"lightweight_deletes_sync": 2}))
	tables, err := tablesOf(ctx, w.conn)
	if err != nil {
		return err
	}
	for table := range tables {
		if m := ofGeneration.FindStringSubmatch(table); m == nil || m[1] == marks {
			continue
		}
		if err := w.conn.Exec(deleting, "DELETE FROM "+table+" WHERE sku IN (@skus)", ofSKUs); err != nil {
			return fmt.Errorf("delete the rows of %d SKUs from %s: %w", len(skus), table, err)
		}
	}
	older := "0"
	for _, p := range slices.Sorted(maps.Keys(starts)) {
		older += fmt.Sprintf(" OR kpartition = %d AND koffset < %d", p, starts[p])
	}
	for _, table := range logTables {
		if err := w.conn.Exec(deleting, "DELETE FROM "+table+" WHERE sku IN (@skus) AND NOT ("+older+")", ofSKUs); err != nil {
			return fmt.Errorf("delete the rows of %d SKUs from %s: %w", len(skus), table, err)
		}
	}
	// A count that began before the deletion may still be written after it, and loses against this one, which is newer.
	if err := w.conn.Exec(ctx, "INSERT INTO sku_hours (hour, sku, refreshed_at) SELECT hour, sku, now64(3) FROM sku_hours FINAL WHERE sku IN (@skus)", ofSKUs); err != nil {
		return fmt.Errorf("empty the hours of %d SKUs: %w", len(skus), err)
	}
	inserting := clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings))
	if err := w.conn.Exec(inserting, "INSERT INTO events SELECT * REPLACE (now() AS ingested_at) FROM events FINAL WHERE sku IN (@skus) AND ("+older+")", ofSKUs); err != nil {
		return fmt.Errorf("send the older events of %d SKUs through the views: %w", len(skus), err)
	}
	return nil
}
