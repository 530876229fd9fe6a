package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
)

// compare holds a store's rows against the folded ones, both ways.
func compare[K comparable, V comparable](report *Report, what string, want, got map[K]V) {
	for key, row := range want {
		if other, ok := got[key]; !ok {
			report.fault("%s: %v is missing, the events say %v", what, key, row)
		} else if other != row {
			report.fault("%s: %v is %v, the events say %v", what, key, other, row)
		}
	}
	for key, row := range got {
		if _, ok := want[key]; !ok {
			report.fault("%s: %v is %v, and no event says so", what, key, row)
		}
	}
	report.compared(what+" = fold of the events", len(got))
}

func comparePostgres(ctx context.Context, report *Report, t Target, s *state) error {
	conn, err := pgx.Connect(ctx, t.PostgresURL)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	lines, qtys := map[lineKey]lineRow{}, map[lineKey]int32{}
	batches, skus := map[batchKey]batchRow{}, map[string]skuRow{}
	each := func(sql string, fields []any, keep func()) error {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			return fmt.Errorf("ask Postgres: %w", err)
		}
		if _, err = pgx.ForEachRow(rows, fields, func() error { keep(); return nil }); err != nil {
			return fmt.Errorf("read from Postgres: %w", err)
		}
		return nil
	}
	var l lineKey
	var line lineRow
	var qty int32
	var b batchKey
	var batch batchRow
	var sku string
	var product skuRow
	err = errors.Join(
		each(`SELECT orderid, sku, batchref, qty FROM order_lines WHERE batchref IS NOT NULL`, []any{&l.orderid, &l.sku, &line.batchref, &qty},
			func() { lines[l], qtys[l] = line, qty }),
		each(`SELECT sku, ref, qty, qty - allocated, coalesce(eta::text, '') FROM batches`, []any{&b.sku, &b.ref, &batch.qty, &batch.available, &batch.eta},
			func() { batches[b] = batch }),
		each(`SELECT sku, version, available FROM products`, []any{&sku, &product.version, &product.available},
			func() { skus[sku] = product }),
	)
	if err != nil {
		return err
	}
	compare(report, "Postgres order lines", s.lines, lines)
	compare(report, "Postgres quantities of order lines", s.qtys, qtys)
	compare(report, "Postgres batches", s.batches, batches)
	compare(report, "Postgres SKUs", s.skus, skus)
	return nil
}

func compareClickHouse(ctx context.Context, report *Report, t Target, s *state) error {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{t.ClickHouse}, Auth: clickhouse.Auth{Database: t.Database}})
	if err != nil {
		return fmt.Errorf("configure ClickHouse: %w", err)
	}
	defer conn.Close()
	lines, qtys := map[lineKey]lineRow{}, map[lineKey]int32{}
	batches, skus := map[batchKey]batchRow{}, map[string]skuRow{}
	refs, wantRefs := map[batchKey]bool{}, map[batchKey]bool{}
	for key := range s.batches {
		wantRefs[key] = true
	}
	var l lineKey
	var line lineRow
	var qty int32
	var b batchKey
	var batch batchRow
	var sku string
	var product skuRow
	err = errors.Join(
		eachRow(ctx, conn, `SELECT orderid, sku, batchref, toInt32(qty) FROM order_lines FINAL`, []any{&l.orderid, &l.sku, &line.batchref, &qty},
			func() { lines[l], qtys[l] = line, qty }),
		eachRow(ctx, conn, `SELECT sku, ref, toInt32(qty), toInt32(available), ifNull(toString(eta), '') FROM stock FINAL`, []any{&b.sku, &b.ref, &batch.qty, &batch.available, &batch.eta},
			func() { batches[b] = batch }),
		eachRow(ctx, conn, `SELECT sku, version, available FROM skus FINAL`, []any{&sku, &product.version, &product.available},
			func() { skus[sku] = product }),
		eachRow(ctx, conn, `SELECT DISTINCT sku, ref FROM batches_by_ref`, []any{&b.sku, &b.ref},
			func() { refs[b] = true }),
	)
	if err != nil {
		return err
	}
	compare(report, "ClickHouse order lines", s.lines, lines)
	compare(report, "ClickHouse quantities of order lines", s.qtys, qtys)
	compare(report, "ClickHouse stock", s.batches, batches)
	compare(report, "ClickHouse SKUs", s.skus, skus)
	compare(report, "ClickHouse batches by ref", wantRefs, refs)
	return compareHistory(ctx, report, conn, s)
}

// compareHistory holds the tables of what happened against the log. Physical duplicates do not count: FINAL.
func compareHistory(ctx context.Context, report *Report, conn driver.Conn, s *state) error {
	var events uint64
	if err := conn.QueryRow(ctx, `SELECT count() FROM events FINAL`).Scan(&events); err != nil {
		return fmt.Errorf("count the events in ClickHouse: %w", err)
	}
	if int(events) != s.changes {
		report.fault("ClickHouse has %d events, the topic %d", events, s.changes)
	}
	report.compared("ClickHouse events, each version once", int(events))

	outcomes := map[string]outcomeRow{}
	var id string
	var o outcomeRow
	err := eachRow(ctx, conn, `SELECT event_id, commandid, commandsource, toString(type), sku, version, orderid, batchref, reason, message FROM outcomes FINAL`,
		[]any{&id, &o.commandid, &o.commandsource, &o.kind, &o.sku, &o.version, &o.orderid, &o.batchref, &o.reason, &o.message},
		func() { outcomes[id] = o })
	if err != nil {
		return err
	}
	compare(report, "ClickHouse outcomes", s.last, outcomes)
	return nil
}

func eachRow(ctx context.Context, conn driver.Conn, query string, fields []any, keep func()) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return fmt.Errorf("ask ClickHouse (%s): %w", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(fields...); err != nil {
			return fmt.Errorf("read from ClickHouse (%s): %w", query, err)
		}
		keep()
	}
	return rows.Err()
}
