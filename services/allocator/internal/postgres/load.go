package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// load reads everything of a need in one round trip. The versions come first: whatever changes between them and the
// later statements moves a version, so the commit is refused.
func load(ctx context.Context, db batcher, need apply.Need) (apply.Loaded, error) {
	l := loader{facts: make(map[string]*allocation.Facts), rows: make(map[string]int)}
	b := &pgx.Batch{}
	if len(need.Products) > 0 {
		products := arguments(skuNames(need.Products))
		b.Queue(`SELECT sku, version, coalesce(command_partition, -1), coalesce(command_offset, -1) FROM products WHERE sku = ANY ($1)`, products...).Query(l.products)
		b.Queue(`SELECT sku, `+batchColumns+` FROM batches b WHERE open AND sku = ANY ($1)`, products...).Query(l.open)
	}
	if len(need.Lines) > 0 {
		keys := lineKeys(need.Lines)
		b.Queue(`SELECT l.sku, `+lineColumns+`, b.ref IS NOT NULL, `+batchColumnsOrNothing+`
			FROM unnest($1::text[], $2::text[]) AS k (sku, orderid)
			JOIN order_lines l ON l.orderid = k.orderid AND l.sku = k.sku
			LEFT JOIN batches b ON b.sku = l.sku AND b.ref = l.batchref`, keys...).Query(l.lines)
	}
	if len(need.Batches) > 0 {
		keys := arguments(
			texts(need.Batches, func(k *apply.BatchKey) string { return k.SKU }),
			texts(need.Batches, func(k *apply.BatchKey) string { return k.Ref }),
		)
		b.Queue(`SELECT b.sku, `+batchColumns+` FROM unnest($1::text[], $2::text[]) AS k (sku, ref)
			JOIN batches b ON b.sku = k.sku AND b.ref = k.ref`, keys...).Query(l.batches)
	}
	if len(need.Seen) > 0 {
		keys := seenKeys(need.Seen)
		b.Queue(`SELECT s.sku, s.command_source, s.command_id, s.body, s.command_partition, s.command_offset, s.command_time
			FROM unnest($1::text[], $2::text[], $3::text[]) AS k (sku, source, id)
			JOIN command_seen s ON s.sku = k.sku AND s.command_source = k.source AND s.command_id = k.id`, keys...).Query(l.seen)
	}
	if len(need.Cuts) > 0 {
		l.queueCuts(b, need.Cuts)
	}
	if b.Len() == 0 {
		return apply.Loaded{}, nil
	}
	if err := send(ctx, db, b); err != nil {
		return apply.Loaded{}, fmt.Errorf("load %d SKUs, %d lines, %d batches, %d ids, %d cuts: %w",
			len(need.Products), len(need.Lines), len(need.Batches), len(need.Seen), len(need.Cuts), err)
	}
	return l.loaded(), nil
}

// lineKeys are the columns of keys of order lines: SKU and order.
func lineKeys(keys []apply.LineKey) []any {
	return arguments(
		texts(keys, func(k *apply.LineKey) string { return k.SKU }),
		texts(keys, func(k *apply.LineKey) string { return k.OrderID }),
	)
}

// seenKeys are the columns of keys of commands that were seen: SKU, source and id.
func seenKeys(keys []apply.SeenKey) []any {
	return arguments(
		texts(keys, func(k *apply.SeenKey) string { return k.SKU }),
		texts(keys, func(k *apply.SeenKey) string { return k.Command.Source }),
		texts(keys, func(k *apply.SeenKey) string { return k.Command.ID }),
	)
}

const (
	batchColumns = `b.ref, coalesce(b.eta::text, ''), b.created_version, b.created_qty, b.qty, b.qty - b.allocated`
	// The same of a row that an outer join may not have found.
	batchColumnsOrNothing = `coalesce(b.ref, ''), coalesce(b.eta::text, ''), coalesce(b.created_version, 0),
		coalesce(b.created_qty, 0), coalesce(b.qty, 0), coalesce(b.qty - b.allocated, 0)`
	lineColumns = `l.orderid, l.qty, coalesce(l.batchref, ''), l.allocated_version,
		l.command_source, l.command_id, l.command_partition, l.command_offset, l.command_time`
)

// loader collects rows by SKU.
type loader struct {
	found []apply.Row
	rows  map[string]int // of found, by SKU
	facts map[string]*allocation.Facts
}

func (l *loader) loaded() apply.Loaded {
	facts := make(map[string]allocation.Facts, len(l.facts))
	for sku, f := range l.facts {
		facts[sku] = *f
	}
	return apply.Loaded{Products: l.found, Facts: facts}
}

func (l *loader) of(sku string) *allocation.Facts {
	f := l.facts[sku]
	if f == nil {
		f = &allocation.Facts{}
		l.facts[sku] = f
	}
	return f
}

func (l *loader) products(rows pgx.Rows) error {
	var row apply.Row
	_, err := pgx.ForEachRow(rows, []any{&row.SKU, &row.Version, &row.By.Partition, &row.By.Offset}, func() error {
		l.rows[row.SKU] = len(l.found)
		l.found = append(l.found, row)
		return nil
	})
	return err
}

func (l *loader) open(rows pgx.Rows) error {
	var sku string
	var b allocation.Batch
	_, err := pgx.ForEachRow(rows, append([]any{&sku}, batchFields(&b)...), func() error {
		// A batch whose product was not there a moment ago belongs to a SKU that is being created: the commit,
		// which expects no such SKU, will be refused.
		if at, ok := l.rows[sku]; ok {
			l.found[at].Open = append(l.found[at].Open, b)
		}
		return nil
	})
	return err
}

func (l *loader) lines(rows pgx.Rows) error {
	var sku string
	var line allocation.Line
	var inBatch bool
	var b allocation.Batch
	fields := append([]any{&sku}, lineFields(&line)...)
	fields = append(append(fields, &inBatch), batchFields(&b)...)
	_, err := pgx.ForEachRow(rows, fields, func() error {
		f := l.of(sku)
		f.Lines = append(f.Lines, line)
		if inBatch {
			f.Batches = append(f.Batches, b)
		}
		return nil
	})
	return err
}

func (l *loader) batches(rows pgx.Rows) error {
	var sku string
	var b allocation.Batch
	_, err := pgx.ForEachRow(rows, append([]any{&sku}, batchFields(&b)...), func() error {
		f := l.of(sku)
		f.Batches = append(f.Batches, b)
		return nil
	})
	return err
}

func (l *loader) seen(rows pgx.Rows) error {
	var sku string
	var s allocation.Seen
	var body []byte
	fields := []any{&sku, &s.Command.Source, &s.Command.ID, &body, &s.Position.Partition, &s.Position.Offset, &s.Time}
	_, err := pgx.ForEachRow(rows, fields, func() error {
		s.Body = [16]byte(body)
		f := l.of(sku)
		f.Seen = append(f.Seen, s)
		return nil
	})
	return err
}

// queueCuts reads the newest lines of batches that are cut. At least one unit leaves with each line, so as many
// lines as there are units too many always suffice.
func (l *loader) queueCuts(b *pgx.Batch, cuts []apply.Cut) {
	wanted := make(map[apply.BatchKey]apply.Cut, len(cuts))
	for _, c := range cuts {
		wanted[c.BatchKey] = c
	}
	keys := arguments(
		texts(cuts, func(c *apply.Cut) string { return c.SKU }),
		texts(cuts, func(c *apply.Cut) string { return c.Ref }),
		integers(cuts, func(c *apply.Cut) int32 { return c.Qty }),
		integers(cuts, func(c *apply.Cut) int32 { return int32(c.LinesMax) }),
	)
	// In bigint: qty is any number that a command may hold, and the domain refuses it only after this.
	b.Queue(`SELECT b.sku, b.allocated::bigint - k.qty, `+lineColumns+`
		FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[]) AS k (sku, ref, qty, most)
		JOIN batches b ON b.sku = k.sku AND b.ref = k.ref AND b.allocated > k.qty
		CROSS JOIN LATERAL (
			SELECT * FROM order_lines l WHERE l.sku = k.sku AND l.batchref = k.ref
			ORDER BY l.allocated_version DESC LIMIT least(k.most, b.allocated::bigint - k.qty)) l
		ORDER BY b.sku, b.ref, l.allocated_version DESC`, keys...).Query(func(rows pgx.Rows) error {
		sums := make(map[apply.BatchKey]int64)
		excess := make(map[apply.BatchKey]int64)
		var sku string
		var over int64
		var line allocation.Line
		_, err := pgx.ForEachRow(rows, append([]any{&sku, &over}, lineFields(&line)...), func() error {
			f := l.of(sku)
			if f.Newest == nil {
				f.Newest = make(map[string]allocation.NewestLines)
			}
			newest := f.Newest[line.BatchRef]
			newest.Lines = append(newest.Lines, line)
			f.Newest[line.BatchRef] = newest
			key := apply.BatchKey{SKU: sku, Ref: line.BatchRef}
			sums[key] += int64(line.Qty)
			excess[key] = over
			return nil
		})
		if err != nil {
			return err
		}
		for key, c := range wanted {
			f := l.of(key.SKU)
			if f.Newest == nil {
				f.Newest = make(map[string]allocation.NewestLines)
			}
			newest := f.Newest[key.Ref]
			newest.Complete = sums[key] >= excess[key] || len(newest.Lines) < c.LinesMax
			f.Newest[key.Ref] = newest
		}
		return nil
	})
}

func batchFields(b *allocation.Batch) []any {
	return []any{&b.Ref, &b.ETA, &b.CreatedVersion, &b.CreatedQty, &b.Qty, &b.Available}
}

func lineFields(l *allocation.Line) []any {
	return []any{
		&l.OrderID, &l.Qty, &l.BatchRef, &l.AllocatedVersion,
		&l.Command.Source, &l.Command.ID, &l.Position.Partition, &l.Position.Offset, &l.CommandTime,
	}
}
