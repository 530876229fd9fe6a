package main

import (
	"context"
	"fmt"
)

// kept are the read model's tables as queries of a row's text and SKU, which say the same of both stores if it is right: of Postgres,
// and of what readers find in ClickHouse. Of a batch's version, and of when a batch or a SKU changed last, Postgres knows nothing.
var kept = []struct{ what, postgres, clickHouse string }{
	{
		"order lines",
		`SELECT l.sku, concat_ws('|', l.orderid, l.sku, l.batchref, l.qty, coalesce(b.eta::text, '-'), l.allocated_version, l.command_id, floor(extract(epoch FROM l.command_time) * 1000)::bigint) AS line
			FROM order_lines l LEFT JOIN batches b ON b.sku = l.sku AND b.ref = l.batchref WHERE l.batchref IS NOT NULL`,
		`SELECT sku, concat_ws('|', orderid, sku, batchref, qty, ifNull(toString(eta), '-'), version, commandid, toUnixTimestamp64Milli(event_time)) AS line FROM order_lines FINAL`,
	},
	{
		"batches",
		`SELECT sku, concat_ws('|', sku, ref, qty, qty - allocated, coalesce(eta::text, '-')) AS line FROM batches`,
		`SELECT sku, concat_ws('|', sku, ref, qty, available, ifNull(toString(eta), '-')) AS line FROM stock FINAL`,
	},
	{
		"SKUs",
		`SELECT sku, concat_ws('|', sku, version, available) AS line FROM products`,
		`SELECT sku, concat_ws('|', sku, version, available) AS line FROM skus FINAL`,
	},
}

// check compares what readers find of SKUs that are like a pattern with what Postgres has, by means of its own: how many rows there are,
// and the sum of 32 bits of each one's MD5.
func (s *site) check(ctx context.Context, skus string) error {
	for _, table := range kept {
		var has, must struct{ rows, sum uint64 }
		if err := s.postgres.QueryRow(ctx, `SELECT count(*), coalesce(sum(('x' || left(md5(line), 8))::bit(32)::bigint), 0)::bigint FROM (`+
			table.postgres+`) r WHERE sku LIKE $1`, skus).Scan(&must.rows, &must.sum); err != nil {
			return fmt.Errorf("add up the %s of Postgres: %w", table.what, err)
		}
		if err := s.conn.QueryRow(ctx, `SELECT count(), sum(reinterpretAsUInt32(reverse(substring(MD5(line), 1, 4)))) FROM (`+
			table.clickHouse+`) WHERE sku LIKE ?`, skus).Scan(&has.rows, &has.sum); err != nil {
			return fmt.Errorf("add up the %s that readers find: %w", table.what, err)
		}
		if has != must {
			return fmt.Errorf("readers find %d %s that add up to %d, and Postgres has %d that add up to %d", has.rows, table.what, has.sum, must.rows, must.sum)
		}
	}
	return nil
}
