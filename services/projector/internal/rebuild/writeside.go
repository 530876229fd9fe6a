package rebuild

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	// chunkPages is how much of a table is loaded at once, in pages: about 250,000 order lines, which ClickHouse makes one part of.
	// With half of it ClickHouse merges parts for half as long as it writes them.
	chunkPages = 4096
	// partRows is how many rows are handed over at once.
	partRows = 8192
)

// postgresEpoch is where Postgres begins to count, in its binary form.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// writeSide reads the tables of the allocator as rows of a read model. It is safe for concurrent use.
type writeSide struct {
	pool *pgxpool.Pool
	// topic is the commands', see Options.
	topic   string
	etas    etas
	buffers sync.Pool // of *lineBuffer
}

// openWriteSide connects so that as many chunks can be read at once as there are workers.
func openWriteSide(ctx context.Context, url, commandsTopic string, workers int) (*writeSide, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the Postgres URL %s: %w", postgresclient.Redacted(url), err)
	}
	cfg.MaxConns = int32(2 * workers) // lines are read over one, and over another the etas of batches that are not known
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err == nil {
		err = pool.Ping(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres at %s: %w", postgresclient.Redacted(url), err)
	}
	return &writeSide{pool: pool, topic: commandsTopic, buffers: sync.Pool{New: func() any { return new(lineBuffer) }}}, nil
}

func (w *writeSide) close() { w.pool.Close() }

// chunk is a range of a table's pages.
type chunk struct {
	table string
	// file is the table's on disk: another one after it was written anew, and then pages mean something else.
	file  int64
	index int64
	last  bool
}

// name tells chunks apart, also after the table was written anew.
func (c chunk) name() string { return fmt.Sprintf("%s/%d/%d", c.table, c.file, c.index) }

// where is the condition of the chunk's rows. The last one has no end.
func (c chunk) where(alias string) string {
	from := fmt.Sprintf("%s.ctid >= '(%d,0)'::tid", alias, c.index*chunkPages)
	if c.last {
		return from
	}
	return from + fmt.Sprintf(" AND %s.ctid < '(%d,0)'::tid", alias, (c.index+1)*chunkPages)
}

// chunks returns what the tables are made of now, order lines last, and about how many order lines there are.
func (w *writeSide) chunks(ctx context.Context) (all []chunk, lines int64, err error) {
	for _, table := range []string{"products", "batches", "order_lines"} {
		var file, pages int64
		if err := w.pool.QueryRow(ctx, `SELECT pg_relation_filenode($1::regclass)::bigint, pg_relation_size($1::regclass) / current_setting('block_size')::bigint`,
			table).Scan(&file, &pages); err != nil {
			return nil, 0, fmt.Errorf("look up how large the table %s is: %w", table, err)
		}
		count := max(1, (pages+chunkPages-1)/chunkPages)
		for i := range count {
			all = append(all, chunk{table: table, file: file, index: i, last: i == count-1})
		}
	}
	err = w.pool.QueryRow(ctx, `SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'order_lines'::regclass`).Scan(&lines)
	if err != nil {
		return nil, 0, fmt.Errorf("estimate how many order lines there are: %w", err)
	}
	return all, lines, nil
}

// SQL of the write side's rows, less their condition. What a row says and its version are of one snapshot. A line's eta is
// that of its batch: etas knows it for less than a join costs.
const (
	productsSQL = `SELECT p.sku, p.version, p.available FROM products p`
	batchesSQL  = `SELECT b.sku, b.ref, p.version, b.qty, b.qty - b.allocated, b.eta FROM batches b JOIN products p ON p.sku = b.sku`
	linesSQL    = `SELECT l.orderid, l.sku, coalesce(l.batchref, ''), COMMAND, l.allocated_version, l.qty, l.command_time FROM order_lines l`
	commandSQL  = `CASE WHEN l.command_id <> '' THEN l.command_id ELSE 'TOPIC/' || l.command_partition || '/' || l.command_offset END`
)

// readChunk hands over the rows of a chunk, in a snapshot of its own; of lines the commands only if they are wanted: they are
// not compared, and who only compares may not read them. add must not keep what it is given.
func (w *writeSide) readChunk(ctx context.Context, c chunk, commands bool, add func(*readmodel.State) error) error {
	err := w.snapshot(ctx, func(tx pgx.Tx, at time.Time) error {
		var err error
		switch c.table {
		case "products":
			err = w.products(ctx, tx, at, add, c.where("p"))
		case "batches":
			err = w.batches(ctx, tx, at, add, c.where("b"))
		default:
			err = w.lines(ctx, tx, commands, add, c.where("l"))
		}
		if err != nil {
			return err
		}
		// The rows that were read keep the table from being written anew until the transaction ends.
		var file int64
		if err := tx.QueryRow(ctx, `SELECT pg_relation_filenode($1::regclass)::bigint`, c.table).Scan(&file); err != nil {
			return err
		}
		if file != c.file {
			return errors.New("the table was written anew meanwhile (VACUUM FULL, CLUSTER): run it again")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read part %d of %s: %w", c.index, c.table, err)
	}
	return nil
}

// readSKUs returns the rows of some SKUs, in one snapshot. Of the lines that have no batch any more it returns those that
// are asked for by name: only lines with a batch are found by their SKU without reading the whole table.
func (w *writeSide) readSKUs(ctx context.Context, skus []string, asked []readmodel.LineKey) (*readmodel.State, error) {
	rows := new(readmodel.State)
	add := gather(rows)
	if err := w.snapshot(ctx, func(tx pgx.Tx, at time.Time) error {
		if err := errors.Join(w.products(ctx, tx, at, add, "p.sku = ANY ($1::text[])", skus),
			w.batches(ctx, tx, at, add, "b.sku = ANY ($1::text[])", skus),
			w.lines(ctx, tx, false, add, "l.batchref IS NOT NULL AND l.sku = ANY ($1::text[])", skus)); err != nil {
			return err
		}
		known := make(map[readmodel.LineKey]bool, len(rows.Lines))
		for _, l := range rows.Lines {
			known[readmodel.LineKey{OrderID: l.OrderID, SKU: l.SKU}] = true
		}
		var orders, of []string
		for _, key := range asked {
			if !known[key] {
				orders, of = append(orders, key.OrderID), append(of, key.SKU)
			}
		}
		if len(orders) == 0 {
			return nil
		}
		return w.lines(ctx, tx, false, add, "(l.orderid, l.sku) IN (SELECT * FROM unnest($1::text[], $2::text[]))", orders, of)
	}); err != nil {
		return nil, fmt.Errorf("read the rows of %d SKUs from Postgres: %w", len(skus), err)
	}
	return rows, nil
}

// gather returns what keeps the rows of all parts that it is given.
func gather(rows *readmodel.State) func(*readmodel.State) error {
	return func(part *readmodel.State) error {
		rows.SKUs, rows.Batches = append(rows.SKUs, part.SKUs...), append(rows.Batches, part.Batches...)
		rows.Refs, rows.Lines = append(rows.Refs, part.Refs...), append(rows.Lines, part.Lines...)
		return nil
	}
}

func (w *writeSide) snapshot(ctx context.Context, read func(tx pgx.Tx, at time.Time) error) error {
	return pgx.BeginTxFunc(ctx, w.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var at time.Time
		if err := tx.QueryRow(ctx, `SELECT date_trunc('milliseconds', now())`).Scan(&at); err != nil {
			return err
		}
		return read(tx, at.UTC())
	})
}

// querier is a transaction, or whoever else asks Postgres.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// scan hands over each row of a query in Postgres' binary form, only until keep returns; args are those of the condition.
func scan(ctx context.Context, from querier, sql string, args []any, keep func(row [][]byte) error) error {
	// Described anew each time: a chunk's condition is in the text, and would fill the cache of statements.
	rows, err := from.Query(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := keep(rows.RawValues()); err != nil {
			return err
		}
	}
	return rows.Err()
}

// query hands over each row of a query within a transaction, as scan does.
func query(ctx context.Context, tx pgx.Tx, sql string, args []any, keep func(row [][]byte) error) error {
	if len(args) > 0 {
		return scan(ctx, tx, sql, args, keep)
	}
	return copyOut(ctx, tx, sql, keep)
}

func int64Of(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
func int32Of(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) }

func (w *writeSide) products(ctx context.Context, tx pgx.Tx, at time.Time, add func(*readmodel.State) error, where string, args ...any) error {
	var part readmodel.State
	if err := query(ctx, tx, productsSQL+" WHERE "+where, args, func(v [][]byte) error {
		part.SKUs = append(part.SKUs, readmodel.SKURow{SKU: string(v[0]), Version: uint64(int64Of(v[1])), Available: int64Of(v[2]), EventTime: at})
		return part.HandOver(partRows, add)
	}); err != nil {
		return err
	}
	return part.HandOver(1, add)
}

// batches takes the SKU's version for a batch's: the write side keeps none for a batch, and its state is the one at the
// SKU's version as well.
func (w *writeSide) batches(ctx context.Context, tx pgx.Tx, at time.Time, add func(*readmodel.State) error, where string, args ...any) error {
	var part readmodel.State
	handOver := func(rows int) error {
		return part.HandOver(rows, func(part *readmodel.State) error {
			w.etas.learn(part.Batches)
			return add(part)
		})
	}
	days := make(days)
	if err := query(ctx, tx, batchesSQL+" WHERE "+where, args, func(v [][]byte) error {
		sku, ref := string(v[0]), string(v[1])
		part.Batches = append(part.Batches, readmodel.BatchRow{SKU: sku, EventTime: at, Batch: readmodel.Batch{
			Ref: ref, Version: uint64(int64Of(v[2])), Qty: int32Of(v[3]), Available: int32Of(v[4]), ETA: days.of(v[5]),
		}})
		part.Refs = append(part.Refs, readmodel.RefRow{Ref: ref, SKU: sku})
		return handOver(partRows)
	}); err != nil {
		return err
	}
	return handOver(1)
}
