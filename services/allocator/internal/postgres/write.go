package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// write sends whole chunks, of a partition each, as one pipelined batch. On a connection the batch is one transaction: if a
// compare does not hold, refuse_unless raises an error, and nothing of the batch remains. held says that the transaction holds
// all of the SKUs that were there when it began.
func write(ctx context.Context, db batcher, writes []apply.Write, held bool) error {
	b := &pgx.Batch{}
	n := 0
	for _, w := range writes {
		n += len(w.Products)
	}
	products := make([]moved, 0, n)
	var changes []apply.Changed
	// A paused allocator that wakes has the rows of its old partitions to lock, and its successors the same ones, in the order
	// that each fetched them: in one order they wait, and are refused; in two, both are a deadlock.
	writes = slices.SortedFunc(slices.Values(writes), func(a, b apply.Write) int { return int(a.Partition) - int(b.Partition) })
	for _, w := range writes {
		queuePartition(b, w)
		queueOutbox(b, w)
		for _, p := range w.Products {
			products = append(products, moved{p, w.Partition})
		}
		changes = append(changes, w.Changes...)
	}
	// One write's are in key order, and locks must be taken in that order over all of them.
	if len(writes) > 1 {
		slices.SortFunc(products, func(a, b moved) int { return strings.Compare(a.SKU, b.SKU) })
	}
	queueProducts(b, products, held)
	for _, w := range writes {
		queuePresumed(b, w.Presumed)
	}
	queueBatches(b, changes)
	queueLines(b, changes)
	queueSeen(b, changes)
	if err := send(ctx, db, b); err != nil {
		if hasState(err, sqlstateKeyDoubled) && slices.ContainsFunc(writes, func(w apply.Write) bool { return w.Presumed != nil }) {
			return fmt.Errorf("%w (an order line is there)", apply.ErrRefused)
		}
		return fmt.Errorf("commit %d SKUs of %d partitions: %w", len(products), len(writes), err)
	}
	return nil
}

// moved is a SKU and the partition whose command moved it.
type moved struct {
	apply.Moved

	partition int32
}

func skuOf(m *moved) string      { return m.SKU }
func oldOf(m *moved) int64       { return int64(m.Old) }
func versionOf(m *moved) int64   { return int64(m.New) }
func availableOf(m *moved) int64 { return m.Available }
func offsetOf(m *moved) int64    { return m.Offset }
func partitionOf(m *moved) int32 { return m.partition }

// queuePartition moves a partition on, if it stands where it was seen, in the topic that the write is of. The sequence that needs
// the topic: A has a poll of commands 0..9 and freezes; the topic is created anew and adopted, so that the partition stands at 0
// again; A wakes, and would have commands of the old topic pass for those of the new one.
func queuePartition(b *pgx.Batch, w apply.Write) {
	b.Queue(`WITH moved AS (UPDATE partitions SET next_offset = $4 WHERE partition = $1 AND topic_id = $2 AND next_offset = $3 RETURNING 1)
		SELECT refuse_unless(EXISTS (SELECT FROM moved), 'the partition moved')`, w.Partition, w.TopicID, w.From, w.Next)
	queueDependencies(b, w.DependsOn)
}

// queueOutbox comes before all else that is large: what the client sends grows in memory by a quarter at a time, each time copied, but
// takes one that is most of the whole at once. Nobody else inserts for a partition that was moved here.
func queueOutbox(b *pgx.Batch, w apply.Write) {
	for _, s := range w.Segments {
		b.Queue(`INSERT INTO outbox (partition, first_offset, next_offset, segment, depends_on) VALUES ($1, $2, $3, $4, $5)`,
			w.Partition, s.First, s.Next, s.Data, jsonOrNull(w.DependsOn))
	}
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

// insertWaitMax bounds the wait for another who touches a SKU that is to be created: much shorter than Postgres's deadlock_timeout,
// a second, and longer than nearly all commits take.
const insertWaitMax = 100 * time.Millisecond

// queueProducts compares the SKUs' versions and sets the new ones, which locks them, also those only read. The nested loop
// that the connection's settings leave takes them as they come in the arrays: in key order. The rows that are there must be
// those that should be, each at its version: one that another changed is not found, and neither is one that is gone.
//
// Where SKUs are thought unknown, all that are there are locked first, in key order. The sequence that needs it: B thinks E and
// Y unknown, but Y was created since, and A, who knows it, has changed it and is about to create E. B inserts E and waits for A
// at Y, A waits for B at E. Who holds its SKUs already (held) only looks whether the others are there, and waits for none of them:
// A, who has changed Y, may be waiting for one that is held.
//
// Last come the SKUs to create, in key order. There B waits for A only where A has touched a row that B did not see just before.
// If A is creating it, A has all locks on what was there, and waits at the most for a key further on, as B does: no circle.
// If it was created in between, and A changes it, A may wait for what B holds: a circle, but it takes somebody to create the
// row, and A to read it, while B is between two statements, or waits there for another key. So that wait is short
// (insertWaitMax), and then refused: unless B has held what A wants for most of a second, Postgres has not looked for circles yet.
func queueProducts(b *pgx.Batch, products []moved, held bool) {
	known := make([]moved, 0, len(products)) // nearly all are
	var created []moved
	var unknown []string
	for _, p := range products {
		if p.Old != 0 {
			known = append(known, p)
			continue
		}
		unknown = append(unknown, p.SKU)
		if p.New != 0 {
			created = append(created, p)
		}
	}
	switch {
	case len(unknown) == 0:
	case held:
		b.Queue(`SELECT refuse_unless(NOT EXISTS (SELECT FROM products WHERE sku = ANY ($1)), 'a SKU was created')`, skuNames(unknown))
	default:
		b.Queue(`SELECT refuse_unless(coalesce(array_agg(sku), '{}') = coalesce($2::text[], '{}'), 'a SKU was created')
			FROM (SELECT sku FROM products WHERE sku = ANY ($1) ORDER BY sku FOR UPDATE) AS locked`, texts(products, skuOf), texts(known, skuOf))
	}
	if len(known) > 0 {
		b.Queue(`WITH moved AS (UPDATE products p SET version = k.version, available = k.available,
				command_partition = CASE WHEN k.version = k.old THEN p.command_partition ELSE k.command_partition END,
				command_offset = CASE WHEN k.version = k.old THEN p.command_offset ELSE k.command_offset END
				FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[])
					AS k (sku, old, version, available, command_offset, command_partition)
				WHERE p.sku = k.sku AND p.version = k.old RETURNING 1)
			SELECT refuse_unless((SELECT count(*) FROM moved) = cardinality($1::text[]), 'a SKU moved')`,
			arguments(texts(known, skuOf), bigints(known, oldOf), bigints(known, versionOf), bigints(known, availableOf),
				bigints(known, offsetOf), integers(known, partitionOf))...)
	}
	if len(created) > 0 {
		b.Queue(`SELECT set_config('lock_timeout', $1, true)`, strconv.FormatInt(insertWaitMax.Milliseconds(), 10))
		b.Queue(`WITH created AS (INSERT INTO products (sku, version, available, command_offset, command_partition)
				SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[]) ON CONFLICT DO NOTHING RETURNING 1)
			SELECT refuse_unless((SELECT count(*) FROM created) = cardinality($1::text[]), 'a SKU was created')`,
			arguments(texts(created, skuOf), bigints(created, versionOf), bigints(created, availableOf),
				bigints(created, offsetOf), integers(created, partitionOf))...)
	}
}

// queuePresumed refuses what was decided as if these were not there. It comes before the write's own rows. Nobody adds to them
// meanwhile: that would move the SKU's version, and the SKUs are held by now.
func queuePresumed(b *pgx.Batch, p *apply.Presumed) {
	if p == nil {
		return
	}
	if len(p.Lines) > 0 {
		b.Queue(`SELECT refuse_unless(NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS k (sku, orderid)
			JOIN order_lines l ON l.orderid = k.orderid AND l.sku = k.sku), 'an order line is there')`, lineKeys(p.Lines)...)
	}
	if len(p.Seen) > 0 {
		b.Queue(`SELECT refuse_unless(NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[], $3::text[]) AS k (sku, source, id)
			JOIN command_seen s ON s.sku = k.sku AND s.command_source = k.source AND s.command_id = k.id), 'a command was seen')`, seenKeys(p.Seen)...)
	}
}

// queueBatches inserts the batches that are new and updates the others: an INSERT that looks for conflicts first costs half
// as much again.
func queueBatches(b *pgx.Batch, changes []apply.Changed) {
	type row = keyed[allocation.Batch]
	sku, ref := func(r *row) string { return r.sku }, func(r *row) string { return r.row.Ref }
	qty, allocated := func(r *row) int32 { return r.row.Qty }, func(r *row) int32 { return r.row.Qty - r.row.Available }
	if rows := rowsOf(changes, func(c *apply.Changed) []allocation.Batch { return c.NewBatches }); len(rows) > 0 {
		b.Queue(`INSERT INTO batches (sku, ref, eta, created_version, created_qty, qty, allocated)
			SELECT sku, ref, nullif(eta, '')::date, created_version, created_qty, qty, allocated
			FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::integer[], $7::integer[])
				AS k (sku, ref, eta, created_version, created_qty, qty, allocated)`, arguments(
			texts(rows, sku),
			texts(rows, ref),
			texts(rows, func(r *row) string { return r.row.ETA }),
			bigints(rows, func(r *row) int64 { return int64(r.row.CreatedVersion) }),
			integers(rows, func(r *row) int32 { return r.row.CreatedQty }),
			integers(rows, qty),
			integers(rows, allocated),
		)...)
	}
	if rows := rowsOf(changes, func(c *apply.Changed) []allocation.Batch { return c.Batches }); len(rows) > 0 {
		b.Queue(`WITH changed AS (UPDATE batches b SET qty = k.qty, allocated = k.allocated
				FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[]) AS k (sku, ref, qty, allocated)
				WHERE b.sku = k.sku AND b.ref = k.ref RETURNING 1)
			SELECT contradict_unless((SELECT count(*) FROM changed) = cardinality($1::text[]), 'a batch is gone')`,
			arguments(texts(rows, sku), texts(rows, ref), integers(rows, qty), integers(rows, allocated))...)
	}
}

const linesGiven = `unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::bigint[],
		$6::text[], $7::text[], $8::integer[], $9::bigint[], $10::timestamptz[])
	AS k (orderid, sku, qty, ref, version, source, id, partition, "offset", time)`

// linesOf are the parameters of a statement that reads linesGiven.
func linesOf(rows []keyed[allocation.Line]) []any {
	type row = keyed[allocation.Line]
	return arguments(
		texts(rows, func(r *row) string { return r.row.OrderID }),
		texts(rows, func(r *row) string { return r.sku }),
		integers(rows, func(r *row) int32 { return r.row.Qty }),
		texts(rows, func(r *row) string { return r.row.BatchRef }),
		bigints(rows, func(r *row) int64 { return int64(r.row.AllocatedVersion) }),
		texts(rows, func(r *row) string { return r.row.Command.Source }),
		texts(rows, func(r *row) string { return r.row.Command.ID }),
		integers(rows, func(r *row) int32 { return r.row.Position.Partition }),
		bigints(rows, func(r *row) int64 { return r.row.Position.Offset }),
		timestamps(rows, func(r *row) time.Time { return r.row.CommandTime }),
	)
}

// queueLines inserts the lines that are new, which nearly all are, and updates the others.
func queueLines(b *pgx.Batch, changes []apply.Changed) {
	if rows := rowsOf(changes, func(c *apply.Changed) []allocation.Line { return c.NewLines }); len(rows) > 0 {
		b.Queue(`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version,
				command_source, command_id, command_partition, command_offset, command_time)
			SELECT orderid, sku, qty, nullif(ref, ''), version, source, id, partition, "offset", time FROM `+linesGiven, linesOf(rows)...)
	}
	if rows := rowsOf(changes, func(c *apply.Changed) []allocation.Line { return c.Lines }); len(rows) > 0 {
		b.Queue(`WITH changed AS (UPDATE order_lines l SET qty = k.qty, batchref = nullif(k.ref, ''), allocated_version = k.version,
				command_source = k.source, command_id = k.id, command_partition = k.partition, command_offset = k."offset", command_time = k.time
				FROM `+linesGiven+` WHERE l.orderid = k.orderid AND l.sku = k.sku RETURNING 1)
			SELECT contradict_unless((SELECT count(*) FROM changed) = cardinality($1::text[]), 'an order line is gone')`, linesOf(rows)...)
	}
}

func queueSeen(b *pgx.Batch, changes []apply.Changed) {
	type row = keyed[allocation.Seen]
	rows := rowsOf(changes, func(c *apply.Changed) []allocation.Seen { return c.Seen })
	if len(rows) == 0 {
		return
	}
	b.Queue(`INSERT INTO command_seen (sku, command_source, command_id, body, command_partition, command_offset, command_time)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::integer[], $6::bigint[], $7::timestamptz[])
		ON CONFLICT (sku, command_source, command_id) DO UPDATE SET (body, command_partition, command_offset, command_time)
			= (excluded.body, excluded.command_partition, excluded.command_offset, excluded.command_time)`, arguments(
		texts(rows, func(r *row) string { return r.sku }),
		texts(rows, func(r *row) string { return r.row.Command.Source }),
		texts(rows, func(r *row) string { return r.row.Command.ID }),
		texts(rows, func(r *row) []byte { return r.row.Body[:] }),
		integers(rows, func(r *row) int32 { return r.row.Position.Partition }),
		bigints(rows, func(r *row) int64 { return r.row.Position.Offset }),
		timestamps(rows, func(r *row) time.Time { return r.row.Time }),
	)...)
}

// keyed is a row and its SKU.
type keyed[R any] struct {
	sku string
	row *R
}

// rowsOf gathers rows of one kind.
func rowsOf[R any](changes []apply.Changed, kind func(*apply.Changed) []R) []keyed[R] {
	n := 0
	for i := range changes {
		n += len(kind(&changes[i]))
	}
	all := make([]keyed[R], 0, n)
	for i := range changes {
		rows := kind(&changes[i])
		for at := range rows {
			all = append(all, keyed[R]{changes[i].SKU, &rows[at]})
		}
	}
	return all
}
