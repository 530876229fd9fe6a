package reads

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.opentelemetry.io/otel/trace"
)

// One line more than is answered shows that there are too many.
var allocationsSQL = fmt.Sprintf(`
SELECT orderid, sku, batchref FROM order_lines FINAL WHERE orderid IN {keys:Array(String)}
ORDER BY orderid, sku LIMIT %d BY orderid`, OrderLinesMax+1)

// Without FINAL: a row that was written twice is the same row, and the first
// of an id must be the first of all that ever arrived.
const outcomesSQL = `
SELECT commandid, commandsource, type, sku, version, orderid, batchref, reason, message, event_time
FROM outcomes WHERE commandid IN {keys:Array(String)}
ORDER BY commandid, event_time, kpartition, koffset LIMIT 1 BY commandid`

// Without FINAL for the same reason: DISTINCT is all that is needed.
var skusSQL = fmt.Sprintf(`
SELECT DISTINCT ref, sku FROM batches_by_ref WHERE ref IN {keys:Array(String)}
ORDER BY ref, sku LIMIT %d BY ref`, RefSKUsMax)

func (r *Reader) queryAllocations(ctx context.Context, orderIDs []string) (map[string][]Allocation, error) {
	found := map[string][]Allocation{}
	err := r.each(ctx, allocationsSQL, orderIDs, func(row driver.Rows) error {
		var orderID string
		var a Allocation
		if err := row.Scan(&orderID, &a.SKU, &a.BatchRef); err != nil {
			return err
		}
		found[orderID] = append(found[orderID], a)
		return nil
	})
	return found, err
}

func (r *Reader) queryOutcomes(ctx context.Context, commandIDs []string) (map[string]*Outcome, error) {
	found := map[string]*Outcome{}
	err := r.each(ctx, outcomesSQL, commandIDs, func(row driver.Rows) error {
		var o Outcome
		err := row.Scan(&o.CommandID, &o.CommandSource, &o.Type, &o.SKU, &o.Version,
			&o.OrderID, &o.BatchRef, &o.Reason, &o.Message, &o.EventTime)
		found[o.CommandID] = &o
		return err
	})
	return found, err
}

func (r *Reader) querySKUs(ctx context.Context, refs []string) (map[string][]string, error) {
	found := map[string][]string{}
	err := r.each(ctx, skusSQL, refs, func(row driver.Rows) error {
		var ref, sku string
		if err := row.Scan(&ref, &sku); err != nil {
			return err
		}
		found[ref] = append(found[ref], sku)
		return nil
	})
	return found, err
}

// each runs a query about keys and calls fn for each of its rows.
func (r *Reader) each(ctx context.Context, sql string, keys []string, fn func(driver.Rows) error) error {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		ctx = clickhouse.Context(ctx, clickhouse.WithSpan(span.SpanContext()))
	}
	rows, err := r.conn.Query(ctx, sql, clickhouse.Named("keys", keys))
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close() // its error, if any, is Err's
	for rows.Next() {
		if err := fn(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the rows: %w", err)
	}
	return nil
}
