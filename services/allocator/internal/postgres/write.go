package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// write sends a whole chunk as one pipelined batch. On a connection the batch is one transaction: if a compare does
// not hold, refuse_unless raises an error, and nothing of the batch remains.
func write(ctx context.Context, db batcher, w apply.Write) error {
	b := &pgx.Batch{}
	b.Queue(`WITH moved AS (UPDATE partitions SET next_offset = $3 WHERE partition = $1 AND next_offset = $2 RETURNING 1)
		SELECT refuse_unless(EXISTS (SELECT FROM moved), 'the partition moved')`, w.Partition, w.From, w.Next)
	queueDependencies(b, w.DependsOn)
	queueProducts(b, w.Partition, w.Products)
	queueBatches(b, w.Changes)
	queueLines(b, w.Changes)
	queueSeen(b, w.Changes)
	for _, s := range w.Segments {
		b.Queue(`INSERT INTO outbox (partition, first_offset, next_offset, segment, depends_on) VALUES ($1, $2, $3, $4, $5)`,
			w.Partition, s.First, s.Next, s.Data, jsonOrNull(w.DependsOn))
	}
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("commit %d SKUs: %w", len(w.Products), err)
	}
	return nil
}

// queueDependencies refuses what a cached SKU says to depend on but is not there: its partition was moved back since, as
// after the topic was created anew. Waiting for it to be published could take for ever. The lock keeps Move away, and
// nobody else.
func queueDependencies(b *pgx.Batch, on map[int32]int64) {
	if len(on) == 0 {
		return
	}
	partitions, below := make([]int32, 0, len(on)), make([]int64, 0, len(on))
	for p, offset := range on {
		partitions, below = append(partitions, p), append(below, offset)
	}
	b.Queue(`SELECT refuse_unless(coalesce(bool_and(held), true), 'a partition moved back') FROM (
		SELECT p.next_offset >= k.below AS held FROM unnest($1::integer[], $2::bigint[]) AS k (partition, below)
		JOIN partitions p ON p.partition = k.partition FOR KEY SHARE OF p) AS locked`, partitions, below)
}

// jsonOrNull is the parameter for a map: null if it is empty.
func jsonOrNull(m map[int32]int64) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// queueProducts locks the SKUs in key order, compares their versions and sets the new ones. The rows that are there
// must be those that should be, each at its version: a SKU that was created meanwhile is one too many, one that is gone
// is missing.
func queueProducts(b *pgx.Batch, partition int32, products []apply.Moved) {
	skus := make([]string, len(products))
	known, versions := []string{}, []int64{}
	var changed, created struct {
		skus                          []string
		versions, availables, offsets []int64
	}
	for i, p := range products {
		skus[i] = p.SKU
		to := &created
		if p.Old > 0 {
			known, versions = append(known, p.SKU), append(versions, int64(p.Old))
			to = &changed
		}
		if p.New != p.Old {
			to.skus = append(to.skus, p.SKU)
			to.versions = append(to.versions, int64(p.New))
			to.availables = append(to.availables, p.Available)
			to.offsets = append(to.offsets, p.Offset)
		}
	}
	if len(skus) > 0 {
		b.Queue(`SELECT refuse_unless(coalesce(array_agg(sku), '{}') = $2::text[] AND coalesce(array_agg(version), '{}') = $3::bigint[], 'a SKU moved')
			FROM (SELECT sku, version FROM products WHERE sku = ANY ($1) ORDER BY sku FOR UPDATE) AS locked`, skus, known, versions)
	}
	if len(changed.skus) > 0 {
		b.Queue(`UPDATE products p SET version = k.version, available = k.available, command_partition = $5, command_offset = k.command_offset
			FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS k (sku, version, available, command_offset) WHERE p.sku = k.sku`,
			changed.skus, changed.versions, changed.availables, changed.offsets, partition)
	}
	if len(created.skus) > 0 {
		b.Queue(`WITH created AS (INSERT INTO products (sku, version, available, command_offset, command_partition)
				SELECT *, $5 FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING RETURNING 1)
			SELECT refuse_unless((SELECT count(*) FROM created) = cardinality($1::text[]), 'a SKU was created')`,
			created.skus, created.versions, created.availables, created.offsets, partition)
	}
}

func queueBatches(b *pgx.Batch, changes []apply.Changed) {
	var skus, refs, etas []string
	var createdVersions []int64
	var createdQtys, qtys, allocated []int32
	for _, c := range changes {
		for i := range c.Batches {
			r := &c.Batches[i]
			skus, refs, etas = append(skus, c.SKU), append(refs, r.Ref), append(etas, r.ETA)
			createdVersions, createdQtys = append(createdVersions, int64(r.CreatedVersion)), append(createdQtys, r.CreatedQty)
			qtys, allocated = append(qtys, r.Qty), append(allocated, r.Qty-r.Available)
		}
	}
	if len(skus) == 0 {
		return
	}
	b.Queue(`INSERT INTO batches (sku, ref, eta, created_version, created_qty, qty, allocated)
		SELECT sku, ref, nullif(eta, '')::date, created_version, created_qty, qty, allocated
		FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::integer[], $7::integer[])
			AS k (sku, ref, eta, created_version, created_qty, qty, allocated)
		ON CONFLICT (sku, ref) DO UPDATE SET qty = excluded.qty, allocated = excluded.allocated`,
		skus, refs, etas, createdVersions, createdQtys, qtys, allocated)
}

// commands are the columns that name the command behind a row.
type commands struct {
	sources, ids []string
	partitions   []int32
	offsets      []int64
	times        []time.Time
}

func (c *commands) add(id allocation.CommandID, at allocation.Position, when time.Time) {
	c.sources, c.ids = append(c.sources, id.Source), append(c.ids, id.ID)
	c.partitions, c.offsets = append(c.partitions, at.Partition), append(c.offsets, at.Offset)
	c.times = append(c.times, when)
}

func queueLines(b *pgx.Batch, changes []apply.Changed) {
	var orders, skus, refs []string
	var qtys []int32
	var versions []int64
	var by commands
	for _, c := range changes {
		for i := range c.Lines {
			l := &c.Lines[i]
			orders, skus, refs = append(orders, l.OrderID), append(skus, c.SKU), append(refs, l.BatchRef)
			qtys, versions = append(qtys, l.Qty), append(versions, int64(l.AllocatedVersion))
			by.add(l.Command, l.Position, l.CommandTime)
		}
	}
	if len(orders) == 0 {
		return
	}
	b.Queue(`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version,
			command_source, command_id, command_partition, command_offset, command_time)
		SELECT orderid, sku, qty, nullif(ref, ''), version, source, id, partition, "offset", time
		FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::bigint[],
				$6::text[], $7::text[], $8::integer[], $9::bigint[], $10::timestamptz[])
			AS k (orderid, sku, qty, ref, version, source, id, partition, "offset", time)
		ON CONFLICT (orderid, sku) DO UPDATE SET (qty, batchref, allocated_version,
			command_source, command_id, command_partition, command_offset, command_time)
			= (excluded.qty, excluded.batchref, excluded.allocated_version,
			excluded.command_source, excluded.command_id, excluded.command_partition, excluded.command_offset, excluded.command_time)`,
		orders, skus, qtys, refs, versions, by.sources, by.ids, by.partitions, by.offsets, by.times)
}

func queueSeen(b *pgx.Batch, changes []apply.Changed) {
	var skus []string
	var bodies [][]byte
	var by commands
	for _, c := range changes {
		for i := range c.Seen {
			s := &c.Seen[i]
			skus, bodies = append(skus, c.SKU), append(bodies, s.Body[:])
			by.add(s.Command, s.Position, s.Time)
		}
	}
	if len(skus) == 0 {
		return
	}
	b.Queue(`INSERT INTO command_seen (sku, command_source, command_id, body, command_partition, command_offset, command_time)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::integer[], $6::bigint[], $7::timestamptz[])
		ON CONFLICT (sku, command_source, command_id) DO UPDATE SET (body, command_partition, command_offset, command_time)
			= (excluded.body, excluded.command_partition, excluded.command_offset, excluded.command_time)`,
		skus, by.sources, by.ids, bodies, by.partitions, by.offsets, by.times)
}
