package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// AuditedStore is a read model as an audit asks it: AuditedClickHouse and AuditedReader make one.
type AuditedStore interface {
	Name() string
	// strangeSKUs returns SKUs after one, and up to another if that is not "", that are not among some, at most max of them.
	strangeSKUs(ctx context.Context, after, upto string, ours []string, limit int) ([]string, error)
	// linesBetween hands over order lines that have a batch: after one and, unless that is the end, up to another, at most
	// limit of them, in order. orders are those that Postgres has there.
	linesBetween(ctx context.Context, after, upto walk, orders []string, limit int, each func(orderID, sku, batchRef string, qty int32, version uint64)) error
	// now returns what the store has of some keys; of references, whether it has those of the batches that should be there.
	now(ctx context.Context, keys auditKeys, should *auditRows) (*auditRows, error)
	// events returns those of some versions of SKUs, since a time, that the store keeps: none if it keeps none.
	events(ctx context.Context, skus []string, versions []uint64, since time.Time) (map[skuVersion]auditEvent, error)
}

// auditSettings keep a question small beside those of readers.
var auditSettings = clickhouse.Settings{"max_threads": 1}

// AuditedClickHouse is the read model in ClickHouse, asked by index scans. The connection is the caller's to close.
func AuditedClickHouse(conn driver.Conn) AuditedStore { return auditedClickHouse{conn} }

type auditedClickHouse struct{ conn driver.Conn }

func (auditedClickHouse) Name() string { return storeClickHouse }

func (s auditedClickHouse) each(ctx context.Context, sql string, args, fields []any, keep func()) error {
	return eachRow(clickhouse.Context(ctx, clickhouse.WithSettings(auditSettings)), s.conn, sql, args, fields, keep)
}

func (s auditedClickHouse) strangeSKUs(ctx context.Context, after, upto string, ours []string, limit int) ([]string, error) {
	where, args := `sku > {after:String}`, []any{clickhouse.Named("after", after), clickhouse.Named("max", limit), clickhouse.Named("ours", ours)}
	if upto != "" {
		where += ` AND sku <= {upto:String}`
		args = append(args, clickhouse.Named("upto", upto))
	}
	var sku string
	var strange []string
	for _, table := range []string{"skus", "stock"} {
		// What is strange beyond the limit is found once the first of it is mended.
		if err := s.each(ctx, `SELECT DISTINCT sku FROM `+table+` WHERE `+where+` AND sku NOT IN {ours:Array(String)} ORDER BY sku LIMIT {max:UInt32}`, args, []any{&sku}, func() {
			if !slices.Contains(strange, sku) {
				strange = append(strange, sku)
			}
		}); err != nil {
			return nil, err
		}
	}
	return strange, nil
}

func (s auditedClickHouse) linesBetween(ctx context.Context, after, upto walk, _ []string, limit int, each func(orderID, sku, batchRef string, qty int32, version uint64)) error {
	where := `orderid >= @orderid AND (orderid, sku) > (@orderid, @sku)`
	args := []any{clickhouse.Named("orderid", after.orderID), clickhouse.Named("sku", after.sku), clickhouse.Named("max", limit)}
	if !upto.ended {
		where += ` AND orderid <= @lastorder AND (orderid, sku) <= (@lastorder, @lastsku)`
		args = append(args, clickhouse.Named("lastorder", upto.orderID), clickhouse.Named("lastsku", upto.sku))
	}
	var sku, orderID, batchRef string
	var version uint64
	var qty int32
	return s.each(ctx, `SELECT orderid, sku, batchref, qty, version FROM order_lines FINAL WHERE `+where+` ORDER BY orderid, sku LIMIT @max`, args,
		[]any{&orderID, &sku, &batchRef, &qty, &version}, func() { each(orderID, sku, batchRef, qty, version) })
}

// now also answers, of references, whether it has those of the batches that should be there.
func (s auditedClickHouse) now(ctx context.Context, keys auditKeys, should *auditRows) (*auditRows, error) {
	is := newAuditRows()
	wanted := make(map[row]bool)
	refs := []string{}
	for _, rows := range should.ofSKU {
		for _, r := range rows {
			if ref, ok := strings.CutPrefix(r.name, refPrefix); ok {
				wanted[r], refs = true, append(refs, ref)
			}
		}
	}
	for i, orderID := range keys.orders {
		wanted[row{keys.ofs[i], linePrefix + orderID}] = true
	}
	var sku, name, ref, eta string
	var qty, left int32
	var version uint64
	var available int64
	skus := clickhouse.Named("skus", keys.skus)
	err := errors.Join(
		s.each(ctx, `SELECT sku, version, available FROM skus FINAL WHERE sku IN {skus:Array(String)}`, []any{skus},
			[]any{&sku, &version, &available}, func() { is.add(sku, rowSKU, version, skuSays(version, available)) }),
		s.each(ctx, `SELECT sku, ref, version, qty, available, ifNull(toString(eta), '') FROM stock FINAL WHERE sku IN {skus:Array(String)}`, []any{skus},
			[]any{&sku, &name, &version, &qty, &left, &eta}, func() { is.add(sku, batchPrefix+name, version, batchSays(qty, left, eta)) }),
		s.each(ctx, `SELECT sku, ref FROM batches_by_ref FINAL WHERE ref IN {refs:Array(String)} AND sku IN {skus:Array(String)}`, []any{clickhouse.Named("refs", refs), skus},
			[]any{&sku, &ref}, func() {
				if wanted[row{sku, "ref " + ref}] {
					is.add(sku, refPrefix+ref, 0, "there")
				}
			}),
		s.each(ctx, `SELECT orderid, sku, batchref, qty, version FROM order_lines FINAL WHERE orderid IN {orders:Array(String)} AND sku IN {ofs:Array(String)}`,
			[]any{clickhouse.Named("orders", keys.orders), clickhouse.Named("ofs", keys.ofs)},
			[]any{&name, &sku, &ref, &qty, &version}, func() {
				if wanted[row{sku, linePrefix + name}] {
					is.add(sku, linePrefix+name, version, lineAt(ref, qty, version))
				}
			}),
	)
	if err != nil {
		return nil, fmt.Errorf("read %d SKUs and %d order lines from ClickHouse: %w", len(keys.skus), len(keys.orders), err)
	}
	return is, nil
}

func (s auditedClickHouse) events(ctx context.Context, skus []string, versions []uint64, since time.Time) (map[skuVersion]auditEvent, error) {
	found := make(map[skuVersion]auditEvent)
	var sku, ref, eta string
	var version uint64
	var available int64
	var qty, left int32
	return found, s.each(ctx, `SELECT sku, version, available, batchref, batch_qty, batch_available, ifNull(toString(eta), '') FROM events
		WHERE event_time >= fromUnixTimestamp64Milli({since:Int64}) AND sku IN {skus:Array(String)} AND version IN {versions:Array(UInt64)}`,
		[]any{clickhouse.Named("since", since.UnixMilli()), clickhouse.Named("skus", skus), clickhouse.Named("versions", versions)},
		[]any{&sku, &version, &available, &ref, &qty, &left, &eta}, func() {
			found[skuVersion{sku, version}] = auditEvent{skuSays(version, available), "batch " + ref, batchSays(qty, left, eta)}
		})
}
