package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// scope says which sums to ask a store for.
type scope struct {
	// buckets: a sum for each SKU in them. Of no use together with skus.
	buckets []int32
	// skus: a sum for each.
	skus []string
}

// everything asks for a sum for each bucket.
func (s scope) everything() bool { return s.buckets == nil && s.skus == nil }

// postgresText is the expression of a row's canonical text in Postgres: see rowsum.
func postgresText(kind string, fields ...string) string {
	text := "'" + kind + "'"
	for _, f := range fields {
		text += fmt.Sprintf(" || octet_length(%[1]s) || ':' || %[1]s", f)
	}
	return text
}

const (
	postgresBucket   = "(get_byte(sha256(convert_to(sku, 'UTF8')), 0) * 4 + get_byte(sha256(convert_to(sku, 'UTF8')), 1) / 64)"
	clickHouseBucket = "toInt32(bitShiftRight(reinterpretAsUInt16(reverse(substring(SHA256(sku), 1, 2))), 6))"
)

// kinds are the letters of the kinds of rows, in the order of a sum's parts.
var kinds = [parts]string{skuRow, batchRow, lineRow, refRow, changeRow, eventRow}

// columns makes two for each of the first n parts of a sum, each from a format that gets the kind's letter.
func columns(n int, rows, checksum string) string {
	var all strings.Builder
	for i, kind := range kinds[:n] {
		fmt.Fprintf(&all, ", "+rows+" AS rows%[2]d, "+checksum+" AS checksum%[2]d", kind, i)
	}
	return all.String()
}

// totals makes columns of those that columns made, each from a format that gets its name.
func totals(n int, rows, checksum string) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, ", "+rows+", "+checksum, fmt.Sprintf("rows%d", i), fmt.Sprintf("checksum%d", i))
	}
	return all.String()
}

var postgresRows = `SELECT sku, version, 'S' AS kind, ` + postgresText(skuRow, "sku", "version::text", "available::text") + ` AS row FROM products WHERE true AND_SKU
	UNION ALL SELECT sku, 0, 'B', ` + postgresText(batchRow, "sku", "ref", "qty::text", "(qty - allocated)::text", "coalesce(to_char(eta, 'YYYY-MM-DD'), '')") + ` FROM batches WHERE true AND_SKU
	UNION ALL SELECT sku, 0, 'L', ` + postgresText(lineRow, "orderid", "sku", "batchref", "qty::text") + ` FROM order_lines WHERE batchref IS NOT NULL AND_SKU`

var postgresPerSKU = `SELECT sku, max(version) AS version` +
	columns(sharedParts, "count(*) FILTER (WHERE kind = '%[1]s')", "coalesce(bit_xor(hash) FILTER (WHERE kind = '%[1]s'), 0)") + `
	FROM (SELECT sku, version, kind, ('x' || encode(substr(sha256(convert_to(row, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint AS hash FROM (` + postgresRows + `) AS texts) AS hashes GROUP BY sku`

// postgresSums asks for sums in one snapshot. quiet: the outbox was empty in it, so that all of it is published.
func postgresSums(ctx context.Context, conn *pgx.Conn, s scope) (sums map[sumKey]sum, quiet bool, err error) {
	perSKU, each, args := strings.ReplaceAll(postgresPerSKU, "AND_SKU", ""), `SELECT sku, 0, version`+totals(sharedParts, "%s", "%s"), []any{}
	var sql string
	switch {
	case s.everything():
		sql = `SELECT '', ` + postgresBucket + `, sum(version)::bigint` + totals(sharedParts, "sum(%s)::bigint", "bit_xor(%s)") + ` FROM (` + perSKU + `) AS skus GROUP BY 2`
	case s.skus != nil:
		sql, args = each+` FROM (`+strings.ReplaceAll(postgresPerSKU, "AND_SKU", "AND sku = ANY($1)")+`) AS skus`, []any{s.skus}
	default:
		sql, args = each+` FROM (`+perSKU+`) AS skus WHERE `+postgresBucket+` = ANY($1)`, []any{s.buckets}
	}
	sums = make(map[sumKey]sum)
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		var key sumKey
		var one sum
		var checksums [sharedParts]int64 // Postgres has no unsigned integers
		fields := []any{&key.sku, &key.bucket, &one.version}
		for i := range checksums {
			fields = append(fields, &one.parts[i].rows, &checksums[i])
		}
		if _, err := pgx.ForEachRow(rows, fields, func() error {
			for i, checksum := range checksums {
				one.parts[i].checksum = uint64(checksum)
			}
			sums[key] = one
			return nil
		}); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM outbox)`).Scan(&quiet)
	})
	if err != nil {
		return nil, false, fmt.Errorf("sum up what Postgres has: %w", err)
	}
	return sums, quiet, nil
}

var clickHousePerSKU = `SELECT sku, max(v) AS version` + columns(parts, "toInt64(countIf(kind = '%[1]s'))", "groupBitXorIf(hash, kind = '%[1]s')") + `
	FROM (
		SELECT sku, version AS v, 'S' AS kind, ` + rowsum.ClickHouse(skuRow, "sku", "toString(version)", "toString(available)") + ` AS hash FROM skus FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'B' AS kind, ` + rowsum.ClickHouse(batchRow, "sku", "ref", "toString(qty)", "toString(available)", "ifNull(toString(eta), '')") + ` AS hash FROM stock FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'L' AS kind, ` + rowsum.ClickHouse(lineRow, "orderid", "sku", "batchref", "toString(qty)") + ` AS hash FROM order_lines FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'D' AS kind, ` + rowsum.ClickHouse(changeRow, "sku", "orderid", "toString(version)", "ifNull(toString(eta), '')", "commandid", "toString(toUnixTimestamp64Milli(event_time))") + ` AS hash FROM order_lines FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, toUInt64(0) AS v, 'R' AS kind, ` + rowsum.ClickHouse(refRow, "sku", "ref") + ` AS hash FROM batches_by_ref FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'E' AS kind, ` + rowsum.ClickHouse(eventRow, "sku", "toString(version)", "toString(type)", "orderid", "toString(qty)", "batchref",
	"toString(batch_qty)", "toString(batch_available)", "ifNull(toString(eta), '')", "toString(available)", "commandid", "reason") + ` AS hash FROM events FINAL WHERE 1 AND_SKU
	) GROUP BY sku`

// clickHouseSums asks for sums, if there is anybody to ask. Each table is read at a moment of its own.
func (j *judge) clickHouseSums(ctx context.Context, s scope) (map[sumKey]sum, error) {
	if j.ClickHouse == nil {
		return nil, nil
	}
	return clickHouseSums(ctx, j.ClickHouse, s)
}

func clickHouseSums(ctx context.Context, conn driver.Conn, s scope) (map[sumKey]sum, error) {
	perSKU, each, args := strings.ReplaceAll(clickHousePerSKU, "AND_SKU", ""), `SELECT sku, toInt32(0), version`+totals(parts, "%s", "%s"), []any{}
	var sql string
	switch {
	case s.everything():
		sql = `SELECT '' AS none, ` + clickHouseBucket + ` AS bucket, sum(version)` + totals(parts, "sum(%s)", "groupBitXor(%s)") + ` FROM (` + perSKU + `) GROUP BY bucket`
	case s.skus != nil:
		sql = each + ` FROM (` + strings.ReplaceAll(clickHousePerSKU, "AND_SKU", "AND sku IN {skus:Array(String)}") + `)`
		args = []any{clickhouse.Named("skus", s.skus)}
	default:
		sql, args = each+` FROM (`+perSKU+`) WHERE `+clickHouseBucket+` IN (@buckets)`, []any{clickhouse.Named("buckets", s.buckets)}
	}
	sums := make(map[sumKey]sum)
	var key sumKey
	var one sum
	fields := []any{&key.sku, &key.bucket, &one.version}
	for i := range one.parts {
		fields = append(fields, &one.parts[i].rows, &one.parts[i].checksum)
	}
	if err := eachRow(ctx, conn, sql, args, fields, func() { sums[key] = one }); err != nil {
		return nil, fmt.Errorf("sum up what ClickHouse has: %w", err)
	}
	return sums, nil
}

func eachRow(ctx context.Context, conn driver.Conn, sql string, args, fields []any, keep func()) error {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(fields...); err != nil {
			return err
		}
		keep()
	}
	return rows.Err()
}
