package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// auditRangeFactor bounds the rows of the read model in a range of lines in which Postgres has RowsMax.
const auditRangeFactor = 4

// Events between two questions to Postgres are looked for from this long before the first: a command may be older than
// its event. Of older ones no verdict is given.
const auditEventAgeMax = time.Hour

// nextSKUs compares the next SKUs after w, and suspects those that are not the same in both stores. It reads no more
// rows of SKUs than RowsMax, and their batches.
func (s *auditStep) nextSKUs(ctx context.Context, w *walk) (int, error) {
	if w.ended {
		return 0, nil
	}
	var skus []string
	rows, err := s.postgres.Query(ctx, `SELECT sku FROM products WHERE sku > $1 ORDER BY sku LIMIT $2`, w.sku, s.RowsMax)
	if err == nil {
		skus, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return 0, fmt.Errorf("list SKUs of Postgres: %w", err)
	}
	// The read model may have some that Postgres has not.
	upto := ""
	if len(skus) == s.RowsMax {
		upto = skus[len(skus)-1]
	}
	strange, err := s.store.strangeSKUs(ctx, w.sku, upto, skus, s.RowsMax)
	if err != nil {
		return 0, fmt.Errorf("list SKUs of %s: %w", s.store.Name(), err)
	}
	keys := newAuditKeys()
	keys.skus = append(skus, strange...)
	should, err := s.postgresNow(ctx, keys)
	if err != nil {
		return 0, err
	}
	is, err := s.store.now(ctx, keys, should)
	if err != nil {
		return 0, err
	}
	for r, verdict := range compare(keys, should, is, should, nil) {
		if verdict.unknown || len(verdict.faults) > 0 {
			s.suspect(r)
		}
	}
	if w.ended = len(skus) < s.RowsMax; !w.ended {
		w.sku = skus[len(skus)-1]
	}
	return len(keys.skus), nil
}

// nextLines compares the next order lines after w, and suspects those that are not the same in both stores.
func (s *auditStep) nextLines(ctx context.Context, w *walk) (int, error) {
	if w.ended {
		return 0, nil
	}
	should, is := newAuditRows(), newAuditRows()
	read, last := 0, *w
	var orders []string
	var sku, orderID, batchRef string
	var version uint64
	var qty int32
	// Lines that were given back keep their row: they count, so that the scan is bounded.
	rows, err := s.postgres.Query(ctx, `SELECT orderid, sku, coalesce(batchref, ''), qty, allocated_version FROM order_lines
		WHERE (orderid, sku) > ($1, $2) ORDER BY orderid, sku LIMIT $3`, w.orderID, w.sku, s.RowsMax)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&orderID, &sku, &batchRef, &qty, &version}, func() error {
			read++
			last.orderID, last.sku = orderID, sku
			if len(orders) == 0 || orders[len(orders)-1] != orderID {
				orders = append(orders, orderID)
			}
			if batchRef != "" {
				should.add(sku, linePrefix+orderID, version, lineAt(batchRef, qty, version))
			}
			return nil
		})
	}
	if err != nil {
		return 0, fmt.Errorf("list order lines of Postgres: %w", err)
	}
	last.ended = read < s.RowsMax
	found := 0
	if err := s.store.linesBetween(ctx, *w, last, orders, auditRangeFactor*s.RowsMax, func(orderID, sku, batchRef string, qty int32, version uint64) {
		if found++; found == auditRangeFactor*s.RowsMax { // it has many more: this far, and no further
			last = walk{orderID: orderID, sku: sku}
		}
		is.add(sku, linePrefix+orderID, version, lineAt(batchRef, qty, version))
	}); err != nil {
		return 0, fmt.Errorf("list order lines of %s: %w", s.store.Name(), err)
	}
	for _, rows := range []*auditRows{should, is} {
		for r := range rows.rows {
			beyond := !last.ended && (r.orderID() > last.orderID || r.orderID() == last.orderID && r.sku > last.sku)
			if !beyond && is.rows[r] != should.rows[r] {
				s.suspect(r)
			}
		}
	}
	*w = last
	return max(len(should.rows), len(is.rows)), nil
}

func lineAt(batchRef string, qty int32, version uint64) string {
	return fmt.Sprintf("%s since version %d", lineSays(batchRef, qty), version)
}

// postgresNow returns, of one moment, what Postgres has.
func (s *auditStep) postgresNow(ctx context.Context, keys auditKeys) (*auditRows, error) {
	said := newAuditRows()
	var sku, name, eta string
	var qty, left int32
	var version uint64
	var available int64
	var partition *int32
	var offset *int64
	var audited bool
	err := pgx.BeginTxFunc(ctx, s.postgres, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		each := func(sql string, args, fields []any, keep func()) error {
			rows, err := tx.Query(ctx, sql, args...)
			if err != nil {
				return err
			}
			_, err = pgx.ForEachRow(rows, fields, func() error { keep(); return nil })
			return err
		}
		return errors.Join(
			tx.QueryRow(ctx, `SELECT extract(epoch FROM now())::bigint`).Scan(&said.at),
			each(`SELECT sku, version, available, command_partition, command_offset, sku = ANY($1::text[]) FROM products WHERE sku = ANY($1::text[] || $2::text[])`, []any{keys.skus, keys.ofs},
				[]any{&sku, &version, &available, &partition, &offset, &audited}, func() {
					said.versions[sku] = version
					if audited {
						said.add(sku, rowSKU, version, skuSays(version, available))
					}
					if partition == nil || offset == nil {
						said.anyWaits = true
					} else {
						said.waiting = append(said.waiting, place{*partition, *offset})
					}
				}),
			each(`SELECT sku, ref, qty, qty - allocated, coalesce(to_char(eta, 'YYYY-MM-DD'), '') FROM batches WHERE sku = ANY($1)`, []any{keys.skus},
				[]any{&sku, &name, &qty, &left, &eta}, func() {
					said.add(sku, batchPrefix+name, 0, batchSays(qty, left, eta))
					said.add(sku, refPrefix+name, 0, "there")
				}),
			// LATERAL and LIMIT: a look-up a line, whatever the planner thinks of the table's size.
			each(`SELECT l.orderid, l.sku, l.batchref, l.qty, l.allocated_version FROM unnest($1::text[], $2::text[]) AS k (orderid, sku), LATERAL
				(SELECT orderid, sku, batchref, qty, allocated_version FROM order_lines o WHERE o.orderid = k.orderid AND o.sku = k.sku LIMIT 1) AS l WHERE l.batchref IS NOT NULL`, []any{keys.orders, keys.ofs},
				[]any{&name, &sku, &eta, &qty, &version}, func() { said.add(sku, linePrefix+name, version, lineAt(eta, qty, version)) }),
		)
	})
	if err != nil {
		return nil, fmt.Errorf("read %d SKUs and %d order lines from Postgres: %w", len(keys.skus), len(keys.orders), err)
	}
	return said, nil
}

// published reports whether no event of what was said waits in the outbox.
func (s *auditStep) published(ctx context.Context, of *auditRows) (yes bool, err error) {
	partitions, offsets := make([]int32, len(of.waiting)), make([]int64, len(of.waiting))
	for i, at := range of.waiting {
		partitions[i], offsets[i] = at.partition, at.offset
	}
	err = s.postgres.QueryRow(ctx, `SELECT NOT ($1 AND EXISTS (SELECT FROM outbox))
		AND NOT EXISTS (SELECT FROM unnest($2::int[], $3::bigint[]) AS c (partition, at) WHERE c.at <
			(SELECT o.next_offset FROM outbox o WHERE o.partition = c.partition AND o.first_offset <= c.at ORDER BY o.first_offset DESC LIMIT 1))`,
		of.anyWaits, partitions, offsets).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("ask Postgres what waits to be published: %w", err)
	}
	return yes, nil
}

// eventsBetween returns the events of rows that the read model has in versions which came between two answers of Postgres.
func (s *auditStep) eventsBetween(ctx context.Context, is, before, after *auditRows) (map[skuVersion]auditEvent, error) {
	var skus []string
	var versions []uint64
	for r, said := range is.rows {
		if !r.isLine() && said.version > before.versions[r.sku] && said.version <= after.versions[r.sku] {
			skus, versions = append(skus, r.sku), append(versions, said.version)
		}
	}
	if len(skus) == 0 {
		return nil, nil
	}
	since := time.Unix(before.at, 0).Add(-auditEventAgeMax)
	found, err := s.store.events(ctx, skus, versions, since)
	if err != nil {
		return nil, fmt.Errorf("read the events of %d changes from %s: %w", len(skus), s.store.Name(), err)
	}
	return found, nil
}
