package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotline/lotline/pkg/readmodel"
)

var _ readmodel.Ledger = (*Writer)(nil)

// refusals are classes of SQLSTATE, and one state, that say no to what is in a row; anything else is an outage, and is tried
// again as it is.
var refusals = []string{
	"22",    // data exception: a value that does not fit
	"23",    // integrity constraint violation
	"54",    // program limit exceeded: a key too long for its index
	"P0001", // raised by a trigger
}

// classify says of a block's error what it asks for.
func classify(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (slices.Contains(refusals, pg.Code[:2]) || slices.Contains(refusals, pg.Code)) {
		return &readmodel.RefusedError{Err: err}
	}
	return err
}

// SetAside notes what is lacking.
func (w *Writer) SetAside(ctx context.Context, what []readmodel.Aside) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	b := &pgx.Batch{}
	for _, a := range what {
		b.Queue(`INSERT INTO set_aside (sku, what, version, event_id, reason, event, event_time, kpartition, koffset)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			a.SKU, a.What, int64(a.Version), a.EventID, a.Reason, a.Event, a.Time, a.Partition, a.Offset)
	}
	if err := w.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("note %d events in set_aside: %w", len(what), err)
	}
	return nil
}

// Asides returns what is noted.
func (w *Writer) Asides(ctx context.Context, after readmodel.Aside, limit int) (noted []readmodel.Aside, all int, err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := w.pool.QueryRow(ctx, `SELECT count(*) FROM set_aside`).Scan(&all); err != nil {
		return nil, 0, fmt.Errorf("count the rows of set_aside: %w", err)
	}
	rows, err := w.pool.Query(ctx, `SELECT sku, what, version, event_id, reason, event, event_time, kpartition, koffset
		FROM set_aside WHERE (sku, version, event_id, what) > ($1, $2, $3, $4) ORDER BY sku, version, event_id, what LIMIT $5`,
		after.SKU, int64(after.Version), after.EventID, after.What, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("read set_aside: %w", err)
	}
	noted, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a readmodel.Aside, err error) {
		var version int64
		err = row.Scan(&a.SKU, &a.What, &version, &a.EventID, &a.Reason, &a.Event, &a.Time, &a.Partition, &a.Offset)
		a.Version, a.Time = uint64(version), a.Time.UTC()
		return a, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read set_aside: %w", err)
	}
	return noted, all, nil
}

// Returned takes back some notes.
func (w *Writer) Returned(ctx context.Context, what []readmodel.Aside) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	skus, versions, ids, kinds := make([]string, len(what)), make([]int64, len(what)), make([]string, len(what)), make([]string, len(what))
	for i, a := range what {
		skus[i], versions[i], ids[i], kinds[i] = a.SKU, int64(a.Version), a.EventID, a.What
	}
	if _, err := w.pool.Exec(ctx, `DELETE FROM set_aside WHERE (sku, version, event_id, what) IN
		(SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]))`, skus, versions, ids, kinds); err != nil {
		return fmt.Errorf("take %d notes out of set_aside: %w", len(what), err)
	}
	return nil
}

// Missing returns those versions at which neither the SKU nor one of its batches is. No event is kept, so one may have come
// and been followed by others since: the topic knows.
func (w *Writer) Missing(ctx context.Context, of []readmodel.Aside, _ time.Time) (missing []readmodel.Aside, err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	skus, versions := make([]string, len(of)), make([]int64, len(of))
	for i, a := range of {
		skus[i], versions[i] = a.SKU, int64(a.Version)
	}
	rows, err := w.pool.Query(ctx, `SELECT k.n FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS k (sku, version, n)
		WHERE NOT EXISTS (SELECT FROM skus s WHERE s.sku = k.sku AND s.version = k.version)
			AND NOT EXISTS (SELECT FROM stock b WHERE b.sku = k.sku AND b.version = k.version) ORDER BY k.n`, skus, versions)
	if err != nil {
		return nil, fmt.Errorf("look for %d events: %w", len(of), err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("look for %d events: %w", len(of), err)
	}
	for _, n := range found {
		missing = append(missing, of[n-1])
	}
	return missing, nil
}
