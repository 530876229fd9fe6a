package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	readDialTimeout    = time.Second
	readConnectionsMax = 16
	resultRowsMax      = 1_000_000 // of one query, for all its keys
)

// What is asked for by key is asked for by PREWHERE: rows with other keys are dropped before FINAL has looked at their other columns,
// which for 200 SKUs took two fifths of the time. ClickHouse does not do so by itself with FINAL, as of a column that is not of the
// sorting key the newest row might be dropped, and an older one answered; rows that replace each other have the same key.

// One line more than is answered shows that there are too many. Lines are put in order here: of the 2.8 ms that an order took when
// asked for alone, ClickHouse's sorting was 0.14, LIMIT BY 0.12 and IN 0.17.
var (
	orderSQL  = fmt.Sprintf(allocationsOf+"orderid = {key:String} LIMIT %d", readmodel.OrderLinesMax+1)
	ordersSQL = fmt.Sprintf(allocationsOf+"orderid IN {keys:Array(String)} LIMIT %d BY orderid", readmodel.OrderLinesMax+1)
)

const allocationsOf = "SELECT orderid, sku, batchref, version FROM order_lines FINAL PREWHERE "

// These are more lines than were asked for, if several orders and SKUs were: pairs are told apart by who reads them.
const linesSQL = `
SELECT orderid, sku, batchref, qty, eta, version FROM order_lines FINAL
PREWHERE orderid IN {keys:Array(String)} AND sku IN {skus:Array(String)}`

const skusSQL = `SELECT sku, version, available FROM skus FINAL PREWHERE sku IN {keys:Array(String)}`

const stockSQL = `
SELECT sku, ref, qty, available, eta, version FROM stock FINAL PREWHERE sku IN {keys:Array(String)}
ORDER BY sku, eta NULLS FIRST, ref`

// Without FINAL: a row that was written twice is the same row, and the first
// of an id must be the first of all that ever arrived.
const outcomesSQL = `
SELECT commandid, commandsource, type, sku, version, orderid, batchref, reason, message, event_time
FROM outcomes WHERE commandid IN {keys:Array(String)}
ORDER BY commandid, event_time, kpartition, koffset LIMIT 1 BY commandid`

// Without FINAL for the same reason: DISTINCT is all that is needed.
var refsSQL = fmt.Sprintf(`
SELECT DISTINCT ref, sku FROM batches_by_ref WHERE ref IN {keys:Array(String)}
ORDER BY ref, sku LIMIT %d BY ref`, readmodel.RefSKUsMax)

// Ranges of the tables' keys: a SKU costs a hundredth of one among keys from all over, each of which is in a granule of its own.
// With ties: the last SKU has all of its batches.
const (
	listSQL      = `SELECT sku, version, available FROM skus FINAL WHERE sku > {after:String} ORDER BY sku LIMIT {limit:UInt32}`
	listStockSQL = `
SELECT * FROM (
	SELECT sku, ref, qty, available, eta, version FROM stock FINAL WHERE sku >= {first:String} AND sku <= {last:String}
	ORDER BY sku LIMIT {batches:UInt32} WITH TIES
) ORDER BY sku, eta NULLS FIRST, ref`
)

// Reader asks the read model in ClickHouse. It is a readmodel.Reader and a readmodel.Lister.
type Reader struct{ conn driver.Conn }

var (
	_ readmodel.Reader = (*Reader)(nil)
	_ readmodel.Lister = (*Reader)(nil)
)

// NewReader returns a reader whose queries may each take as long as timeout. It connects when it is first asked.
func NewReader(cfg clickhouseclient.Config, timeout time.Duration) (*Reader, error) {
	opts, err := cfg.Options()
	if err != nil {
		return nil, err
	}
	opts.DialTimeout = readDialTimeout
	opts.ReadTimeout = timeout
	opts.MaxOpenConns, opts.MaxIdleConns = readConnectionsMax, readConnectionsMax
	opts.Settings = clickhouse.Settings{
		"max_threads":     1, // point reads: more threads only cost
		"max_result_rows": resultRowsMax,
		// Nobody reads them; a point read is some 3 % quicker without.
		"send_profile_events": 0,
		// On a cluster: ask the shards that may have the keys.
		"optimize_skip_unused_shards": 1,
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	return &Reader{conn: conn}, nil
}

// Name is clickhouse.
func (r *Reader) Name() string { return name }

// Close closes the connections.
func (r *Reader) Close() error { return r.conn.Close() }

// Check asks every question once, about nothing: it fails where they would, be it that ClickHouse is away or that a
// table is missing. The first that fails is named: mostly the others would fail for the same reason.
func (r *Reader) Check(ctx context.Context) error {
	for _, ask := range []func() error{
		func() error { _, err := r.Orders(ctx, []string{}); return err },
		func() error { _, err := r.Lines(ctx, []readmodel.LineKey{}); return err },
		func() error { _, err := r.Availability(ctx, []string{}); return err },
		func() error { _, err := r.Outcomes(ctx, []string{}); return err },
		func() error { _, err := r.SKUs(ctx, []string{}); return err },
	} {
		if err := ask(); err != nil {
			return err
		}
	}
	return nil
}

// Orders returns where the lines of orders are allocated.
func (r *Reader) Orders(ctx context.Context, orderIDs []string) (map[string][]readmodel.Allocation, error) {
	found := map[string][]readmodel.Allocation{}
	sql, arg := ordersQuery(orderIDs)
	err := eachRow(traced(ctx), r.conn, sql, []any{arg}, func(row driver.Rows) error {
		var orderID string
		var a readmodel.Allocation
		err := row.Scan(&orderID, &a.SKU, &a.BatchRef, &a.Version)
		found[orderID] = append(found[orderID], a)
		return err
	})
	for _, lines := range found {
		slices.SortFunc(lines, func(a, b readmodel.Allocation) int { return strings.Compare(a.SKU, b.SKU) })
	}
	return found, err
}

func ordersQuery(orderIDs []string) (sql string, arg driver.NamedValue) {
	if len(orderIDs) != 1 {
		return ordersSQL, clickhouse.Named("keys", orderIDs)
	}
	return orderSQL, clickhouse.Named("key", orderIDs[0])
}

// Lines returns single order lines.
func (r *Reader) Lines(ctx context.Context, keys []readmodel.LineKey) (map[readmodel.LineKey]readmodel.Line, error) {
	wanted := make(map[readmodel.LineKey]bool, len(keys))
	orders, skus := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		wanted[key] = true
		orders[i], skus[i] = key.OrderID, key.SKU
	}
	found := map[readmodel.LineKey]readmodel.Line{}
	err := r.each(ctx, linesSQL, orders, skus, func(row driver.Rows) error {
		var l readmodel.Line
		var eta *time.Time
		err := row.Scan(&l.OrderID, &l.SKU, &l.BatchRef, &l.Qty, &eta, &l.Version)
		l.ETA = day(eta)
		if key := (readmodel.LineKey{OrderID: l.OrderID, SKU: l.SKU}); wanted[key] {
			found[key] = l
		}
		return err
	})
	return found, err
}

func day(eta *time.Time) string {
	if eta == nil {
		return ""
	}
	return eta.Format(time.DateOnly)
}

// Availability returns what is left of SKUs and their batches. A block that is being written does not reach the SKU's row
// and its batches' at one moment: between the two they may differ by it.
func (r *Reader) Availability(ctx context.Context, skus []string) (map[string]readmodel.Availability, error) {
	found := map[string]readmodel.Availability{}
	if err := r.each(ctx, skusSQL, skus, nil, func(row driver.Rows) error {
		var a readmodel.Availability
		err := row.Scan(&a.SKU, &a.Version, &a.Available)
		found[a.SKU] = a
		return err
	}); err != nil {
		return nil, err
	}
	err := r.each(ctx, stockSQL, skus, nil, func(row driver.Rows) error {
		sku, b, err := scanBatch(row)
		if a, known := found[sku]; known {
			a.Batches = append(a.Batches, b)
			found[sku] = a
		}
		return err
	})
	return found, err
}

func scanBatch(row driver.Rows) (sku string, b readmodel.Batch, err error) {
	var eta *time.Time
	err = row.Scan(&sku, &b.Ref, &b.Qty, &b.Available, &eta, &b.Version)
	b.ETA = day(eta)
	return sku, b, err
}

// List returns what is left of the SKUs after one.
func (r *Reader) List(ctx context.Context, after string, limit, batches int) (found []readmodel.Availability, err error) {
	err = eachRow(ctx, r.conn, listSQL, []any{clickhouse.Named("after", after), clickhouse.Named("limit", limit)}, func(row driver.Rows) error {
		var a readmodel.Availability
		err := row.Scan(&a.SKU, &a.Version, &a.Available)
		found = append(found, a)
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	at, rows := 0, 0 // both come in the order of the SKUs
	err = eachRow(ctx, r.conn, listStockSQL, []any{
		clickhouse.Named("first", found[0].SKU), clickhouse.Named("last", found[len(found)-1].SKU), clickhouse.Named("batches", batches),
	}, func(row driver.Rows) error {
		sku, b, err := scanBatch(row)
		rows++
		for at < len(found) && found[at].SKU <= sku {
			at++
		}
		if of := &found[at-1]; of.SKU == sku {
			of.Batches = append(of.Batches, b)
		}
		return err
	})
	if rows >= batches { // those of the next SKUs are missing
		found = found[:at]
	}
	return found, err
}

// Outcomes returns what became of commands.
func (r *Reader) Outcomes(ctx context.Context, commandIDs []string) (map[string]readmodel.Outcome, error) {
	found := map[string]readmodel.Outcome{}
	err := r.each(ctx, outcomesSQL, commandIDs, nil, func(row driver.Rows) error {
		var o readmodel.Outcome
		err := row.Scan(&o.CommandID, &o.CommandSource, &o.Type, &o.SKU, &o.Version,
			&o.OrderID, &o.BatchRef, &o.Reason, &o.Message, &o.EventTime)
		found[o.CommandID] = o
		return err
	})
	return found, err
}

// SKUs returns which SKUs have a batch of a ref.
func (r *Reader) SKUs(ctx context.Context, refs []string) (map[string][]string, error) {
	found := map[string][]string{}
	err := r.each(ctx, refsSQL, refs, nil, func(row driver.Rows) error {
		var ref, sku string
		err := row.Scan(&ref, &sku)
		found[ref] = append(found[ref], sku)
		return err
	})
	return found, err
}

// each runs a query about keys, and SKUs if it wants them too, and calls fn for each of its rows.
func (r *Reader) each(ctx context.Context, sql string, keys, skus []string, fn func(driver.Rows) error) error {
	args := []any{clickhouse.Named("keys", keys)}
	if skus != nil {
		args = append(args, clickhouse.Named("skus", skus))
	}
	return eachRow(traced(ctx), r.conn, sql, args, fn)
}

// traced has ClickHouse's own spans hang on the one of ctx, if that is recorded.
func traced(ctx context.Context) context.Context {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return clickhouse.Context(ctx, clickhouse.WithSpan(span.SpanContext()))
	}
	return ctx
}

// eachRow calls fn for each row of a query.
func eachRow(ctx context.Context, conn driver.Conn, sql string, args []any, fn func(driver.Rows) error) error {
	rows, err := conn.Query(ctx, sql, args...)
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
