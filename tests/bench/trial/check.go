package trial

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/tests/verify"
)

// Check holds everything against everything: the events against the commands (each exactly one outcome, no version left
// out, nothing twice), Postgres against a fold of the events, and against what the work must come to.
func (s *Site) Check(ctx context.Context, w *Work) error {
	report, err := verify.Run(ctx, verify.Target{Kafka: s.Config, PostgresURL: s.PostgresURL})
	if err != nil {
		return err
	}
	return errors.Join(report.Err(), s.CheckState(ctx, w))
}

// CheckState holds Postgres against what the work must come to: of each command its line, once, in the one batch that
// has room, and as many versions of each SKU as it has batches and lines.
func (s *Site) CheckState(ctx context.Context, w *Work) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	wrong, lines := 0, make(map[string]string, len(w.Commands))
	for _, c := range w.Commands {
		lines[c.OrderID] = c.SKU
	}
	var name, sku, batch string
	var qty int32
	var version, available int64
	full := fmt.Sprintf("batch-%d", w.Batches-1)
	rows, err := conn.Query(ctx, "SELECT orderid, sku, coalesce(batchref, ''), qty FROM order_lines")
	if err != nil {
		return err
	}
	if _, err := pgx.ForEachRow(rows, []any{&name, &sku, &batch, &qty}, func() error {
		if lines[name] != sku || batch != full || qty != lineQty {
			wrong++
		}
		delete(lines, name)
		return nil
	}); err != nil {
		return err
	}
	rows, err = conn.Query(ctx, "SELECT sku, version, available FROM products")
	if err != nil {
		return err
	}
	skus := 0
	if _, err := pgx.ForEachRow(rows, []any{&sku, &version, &available}, func() error {
		n := w.touched[sku]
		if skus++; version != int64(w.Batches+n) || available != int64(amplyQty+scarceQty*(w.Batches-1)-lineQty*n) {
			wrong++
		}
		return nil
	}); err != nil {
		return err
	}
	if wrong > 0 || len(lines) > 0 || skus != w.SKUs {
		return fmt.Errorf("%d rows in Postgres are wrong, %d of %d lines are missing, and %d of %d SKUs are there", wrong, len(lines), len(w.Commands), skus, w.SKUs)
	}
	return nil
}
