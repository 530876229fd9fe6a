package clickhouse

import (
	"context"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/lotline/lotline/pkg/readmodel"
)

// Versions have no gaps, so how many changes are wanted says from which version on. Without FINAL: whatever is stored of
// one (sku, version) says the same, and skip indexes work for any column.
const historySQL = `
SELECT toString(type), sku, version, commandid, commandsource, orderid, qty, batchref, batch_qty, batch_available, eta, available,
       reason, '' AS message, event_time
FROM events WHERE sku = {sku:String} AND version >= {from:UInt64} AND version < {before:UInt64}
ORDER BY version LIMIT 1 BY version`

// What an order asked for and was refused without a change is known from its outcomes.
const storySQL = `
SELECT toString(type), sku, version, commandid, commandsource, orderid, qty, batchref, batch_qty, batch_available, eta, available,
       reason, '' AS message, event_time
FROM events WHERE orderid = {order:String}
ORDER BY event_time, sku, version LIMIT 1 BY sku, version LIMIT {limit:UInt32}`

const refusalsSQL = `
SELECT toString(type), sku, version, commandid, commandsource, orderid, toInt32(0) AS qty, batchref, toInt32(0) AS batch_qty, toInt32(0) AS batch_available,
       CAST(NULL, 'Nullable(Date32)') AS eta, toInt64(0) AS available, reason, message, event_time
FROM outcomes WHERE orderid = {order:String} AND type IN ('CommandIgnored', 'CommandRejected')
ORDER BY event_time, kpartition, koffset LIMIT 1 BY event_id LIMIT {limit:UInt32}`

var _ readmodel.Historian = (*Reader)(nil)

// History returns what happened to a SKU.
func (r *Reader) History(ctx context.Context, sku string, before uint64, limit int) ([]readmodel.Change, error) {
	if before == 0 {
		newest, err := r.Availability(ctx, []string{sku})
		if err != nil {
			return nil, err
		}
		before = newest[sku].Version + 1
	}
	from := before - min(before, uint64(limit))
	return r.changes(ctx, historySQL, clickhouse.Named("sku", sku), clickhouse.Named("from", from), clickhouse.Named("before", before))
}

// Story returns what happened to an order's lines.
func (r *Reader) Story(ctx context.Context, orderID string, limit int) ([]readmodel.Change, error) {
	args := []any{clickhouse.Named("order", orderID), clickhouse.Named("limit", uint32(limit))}
	story, err := r.changes(ctx, storySQL, args...)
	if err != nil {
		return nil, err
	}
	refusals, err := r.changes(ctx, refusalsSQL, args...)
	if err != nil {
		return nil, err
	}
	story = append(story, refusals...)
	slices.SortStableFunc(story, func(a, b readmodel.Change) int { return a.EventTime.Compare(b.EventTime) })
	return story[:min(len(story), limit)], nil
}

func (r *Reader) changes(ctx context.Context, sql string, args ...any) ([]readmodel.Change, error) {
	var found []readmodel.Change
	err := eachRow(ctx, r.conn, sql, args, func(row driver.Rows) error {
		var c readmodel.Change
		var eta *time.Time
		err := row.Scan(&c.Type, &c.SKU, &c.Version, &c.CommandID, &c.CommandSource, &c.OrderID, &c.Qty, &c.BatchRef, &c.BatchQty,
			&c.BatchAvailable, &eta, &c.Available, &c.Reason, &c.Message, &c.EventTime)
		c.ETA = day(eta)
		found = append(found, c)
		return err
	})
	return found, err
}
