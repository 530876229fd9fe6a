package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
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

// The SQL of canonical texts and their checksums: see hash.go.
func postgresText(kind string, fields ...string) string {
	text := "'" + kind + "'"
	for _, f := range fields {
		text += fmt.Sprintf(" || octet_length(%[1]s) || ':' || %[1]s", f)
	}
	return text
}

func clickHouseText(kind string, fields ...string) string {
	text := "concat('" + kind + "'"
	for _, f := range fields {
		text += fmt.Sprintf(", toString(length(%[1]s)), ':', %[1]s", f)
	}
	return text + ")"
}

const (
	postgresBucket   = "(get_byte(sha256(convert_to(sku, 'UTF8')), 0) * 4 + get_byte(sha256(convert_to(sku, 'UTF8')), 1) / 64)"
	clickHouseBucket = "toInt32(bitShiftRight(reinterpretAsUInt16(reverse(substring(SHA256(sku), 1, 2))), 6))"
)

var postgresRows = `SELECT sku, version, 1 AS skus, 0 AS batches, 0 AS lines, ` + postgresText(skuRow, "sku", "version::text", "available::text") + ` AS row FROM products WHERE true AND_SKU
	UNION ALL SELECT sku, 0, 0, 1, 0, ` + postgresText(batchRow, "sku", "ref", "qty::text", "(qty - allocated)::text", "coalesce(to_char(eta, 'YYYY-MM-DD'), '')") + ` FROM batches WHERE true AND_SKU
	UNION ALL SELECT sku, 0, 0, 0, 1, ` + postgresText(lineRow, "orderid", "sku", "batchref", "qty::text") + ` FROM order_lines WHERE batchref IS NOT NULL AND_SKU`

var postgresPerSKU = `SELECT sku, max(version) AS version, sum(skus)::bigint AS skus, sum(batches)::bigint AS batches, sum(lines)::bigint AS lines,
	bit_xor(('x' || encode(substr(sha256(convert_to(row, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint) AS state
	FROM (` + postgresRows + `) AS rows GROUP BY sku`

// postgresSums asks for sums in one snapshot. quiet: the outbox was empty in it, so that all of it is published.
func postgresSums(ctx context.Context, conn *pgx.Conn, s scope) (sums map[sumKey]sum, quiet bool, err error) {
	sql, args := strings.ReplaceAll(postgresPerSKU, "AND_SKU", ""), []any{}
	switch {
	case s.everything():
		sql = `SELECT '', ` + postgresBucket + `, sum(version)::bigint, sum(skus)::bigint, sum(batches)::bigint, sum(lines)::bigint, bit_xor(state) FROM (` + sql + `) AS skus GROUP BY 2`
	case s.skus != nil:
		sql, args = `SELECT sku, 0, version, skus, batches, lines, state FROM (`+strings.ReplaceAll(postgresPerSKU, "AND_SKU", "AND sku = ANY($1)")+`) AS skus`, []any{s.skus}
	default:
		sql, args = `SELECT sku, 0, version, skus, batches, lines, state FROM (`+sql+`) AS skus WHERE `+postgresBucket+` = ANY($1)`, []any{s.buckets}
	}
	sums = make(map[sumKey]sum)
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		var key sumKey
		var one sum
		var version, state int64
		if _, err := pgx.ForEachRow(rows, []any{&key.sku, &key.bucket, &version, &one.skus, &one.batches, &one.lines, &state}, func() error {
			one.version, one.state = uint64(version), uint64(state)
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

var clickHousePerSKU = `SELECT sku, max(v) AS version, toInt64(countIf(kind = 'S')) AS skus, toInt64(countIf(kind = 'B')) AS batches, toInt64(countIf(kind = 'L')) AS lines,
	groupBitXorIf(hash, kind IN ('S', 'B', 'L')) AS state, groupBitXorIf(hash, kind IN ('R', 'E', 'D')) AS read_model, countIf(kind = 'E') AS events
	FROM (SELECT sku, v, kind, reinterpretAsUInt64(reverse(substring(SHA256(row), 1, 8))) AS hash FROM (
		SELECT sku, version AS v, 'S' AS kind, ` + clickHouseText(skuRow, "sku", "toString(version)", "toString(available)") + ` AS row FROM skus FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'B' AS kind, ` + clickHouseText(batchRow, "sku", "ref", "toString(qty)", "toString(available)", "ifNull(toString(eta), '')") + ` AS row FROM stock FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'L' AS kind, ` + clickHouseText(lineRow, "orderid", "sku", "batchref", "toString(qty)") + ` AS row FROM order_lines FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'D' AS kind, ` + clickHouseText(changeRow, "sku", "orderid", "toString(version)", "ifNull(toString(eta), '')", "commandid", "toString(toUnixTimestamp64Milli(event_time))") + ` AS row FROM order_lines FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, toUInt64(0) AS v, 'R' AS kind, ` + clickHouseText(refRow, "sku", "ref") + ` AS row FROM batches_by_ref FINAL WHERE 1 AND_SKU
		UNION ALL SELECT sku, version AS v, 'E' AS kind, ` + clickHouseText(eventRow, "sku", "toString(version)", "toString(type)", "orderid", "toString(qty)", "batchref",
	"toString(batch_qty)", "toString(batch_available)", "ifNull(toString(eta), '')", "toString(available)", "commandid", "reason") + ` AS row FROM events FINAL WHERE 1 AND_SKU
	)) GROUP BY sku`

func clickHouseSums(ctx context.Context, conn driver.Conn, s scope) (map[sumKey]sum, error) {
	sql, args := strings.ReplaceAll(clickHousePerSKU, "AND_SKU", ""), []any{}
	switch {
	case s.everything():
		sql = `SELECT '' AS none, ` + clickHouseBucket + ` AS bucket, sum(version), sum(skus), sum(batches), sum(lines), groupBitXor(state), groupBitXor(read_model), sum(events) FROM (` + sql + `) GROUP BY bucket`
	case s.skus != nil:
		sql = `SELECT sku, toInt32(0), version, skus, batches, lines, state, read_model, events FROM (` + strings.ReplaceAll(clickHousePerSKU, "AND_SKU", "AND sku IN (@skus)") + `)`
		args = []any{clickhouse.Named("skus", s.skus)}
	default:
		sql, args = `SELECT sku, toInt32(0), version, skus, batches, lines, state, read_model, events FROM (`+sql+`) WHERE `+clickHouseBucket+` IN (@buckets)`, []any{clickhouse.Named("buckets", s.buckets)}
	}
	sums := make(map[sumKey]sum)
	var key sumKey
	var one sum
	err := eachRow(ctx, conn, sql, args, []any{&key.sku, &key.bucket, &one.version, &one.skus, &one.batches, &one.lines, &one.state, &one.readModel, &one.events},
		func() { sums[key] = one })
	if err != nil {
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
