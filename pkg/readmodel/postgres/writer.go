package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/migrate"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/internal/pgreader"
	"github.com/lotline/lotline/pkg/telemetry"
)

const (
	dialTimeout = 5 * time.Second
	// applyTimeout bounds one attempt, which is then made again.
	applyTimeout = time.Minute
	// txTimeout bounds it on the server: the locks of a projector that froze in the middle must not hold up the one
	// that took its partitions over.
	txTimeout = 30 * time.Second
	// statementRowsMax bounds one statement's arrays.
	statementRowsMax = 10_000
)

// Writer keeps the read model in Postgres. It is a readmodel.Writer.
type Writer struct {
	pool   *pgxpool.Pool
	schema string
}

var _ readmodel.Writer = (*Writer)(nil)

// NewWriter returns a writer. It connects when it is first used, so that a Postgres that is away at the start is an
// outage like any other.
func NewWriter(cfg Config) (*Writer, error) {
	pool, err := pgreader.Pool(cfg.ConnURL, 1, func(c *pgx.ConnConfig) {
		ms := fmt.Sprint(txTimeout.Milliseconds())
		c.RuntimeParams["application_name"] = "lotline-projector"
		c.RuntimeParams["transaction_timeout"] = ms
		c.RuntimeParams["search_path"] = cfg.Schema
		c.RuntimeParams["jit"] = "off"
		c.ConnectTimeout = dialTimeout
	})
	if err != nil {
		return nil, err
	}
	return &Writer{pool: pool, schema: cfg.Schema}, nil
}

// Name is postgres.
func (w *Writer) Name() string { return name }

// Close releases the connection.
func (w *Writer) Close() error {
	w.pool.Close()
	return nil
}

// Check refuses tables older than this build's.
func (w *Writer) Check(ctx context.Context) error {
	newest, err := migrate.Newest(embedded, "migrations")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	var applied int64
	if err := w.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&applied); err != nil {
		return fmt.Errorf("read the version of the tables in schema %s (has it been migrated? lotline migrate): %w", w.schema, err)
	}
	if applied < newest {
		return fmt.Errorf("the tables in schema %s have version %d, and this build needs %d: run lotline migrate", w.schema, applied, newest)
	}
	return nil
}

// Apply keeps all rows of a block in one transaction, in every generation. Rows are locked in the order of their keys, and
// tables in one order, so that two writers wait for each other and never in a circle.
func (w *Writer) Apply(ctx context.Context, records []readmodel.Record) (err error) {
	rows := readmodel.Fold(records)
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	ctx, span := telemetry.Child(ctx, "UPSERT "+w.schema, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.DBSystemNamePostgreSQL, semconv.DBOperationName("INSERT"), semconv.DBOperationBatchSize(len(records))))
	defer func() { telemetry.End(span, err) }()
	// The list is read when the lock is there, which may be after a Begin or Drop: each statement has to have its own snapshot.
	if err := pgx.BeginTxFunc(ctx, w.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var generations []int
		b := &pgx.Batch{}
		b.Queue(enterBlock)
		b.Queue("SELECT generation FROM generations ORDER BY generation").Query(func(found pgx.Rows) (err error) {
			generations, err = pgx.CollectRows(found, pgx.RowTo[int])
			return err
		})
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		b = &pgx.Batch{}
		for _, generation := range generations {
			queue(b, generation, &rows.State)
		}
		inPieces(rows.Outcomes, func(piece []readmodel.OutcomeRow) { queueOutcomes(b, piece) })
		return tx.SendBatch(ctx, b).Close()
	}); err != nil {
		return classify(fmt.Errorf("write the rows of %d events: %w", len(records), err))
	}
	return nil
}

// queue queues what keeps rows in a generation.
func queue(b *pgx.Batch, generation int, rows *readmodel.State) {
	inPieces(rows.Lines, func(piece []readmodel.LineRow) { queueLines(b, generation, piece) })
	inPieces(rows.Batches, func(piece []readmodel.BatchRow) { queueBatches(b, generation, piece) })
	inPieces(rows.SKUs, func(piece []readmodel.SKURow) { queueSKUs(b, generation, piece) })
}

func inPieces[R any](rows []R, queue func(piece []R)) {
	for len(rows) > 0 {
		n := min(len(rows), statementRowsMax)
		queue(rows[:n])
		rows = rows[n:]
	}
}

func queueLines(b *pgx.Batch, generation int, rows []readmodel.LineRow) {
	var orders, skus, refs, etas, commands []string
	var versions []int64
	var qtys []int32
	var times []time.Time
	for i := range rows {
		r := &rows[i]
		orders, skus, refs, etas = append(orders, r.OrderID), append(skus, r.SKU), append(refs, r.BatchRef), append(etas, r.ETA)
		versions, qtys = append(versions, int64(r.Version)), append(qtys, r.Qty)
		commands, times = append(commands, r.CommandID), append(times, r.EventTime)
	}
	b.Queue(`INSERT INTO `+of(tableLines, generation)+` AS t (orderid, sku, version, batchref, qty, eta, commandid, event_time)
		SELECT orderid, sku, version, nullif(ref, ''), qty, nullif(eta, '')::date, commandid, event_time
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::timestamptz[])
			AS k (orderid, sku, version, ref, qty, eta, commandid, event_time)
		ON CONFLICT (orderid, sku) DO UPDATE SET (version, batchref, qty, eta, commandid, event_time)
			= (excluded.version, excluded.batchref, excluded.qty, excluded.eta, excluded.commandid, excluded.event_time)
		WHERE excluded.version > t.version`, orders, skus, versions, refs, qtys, etas, commands, times)
}

func queueBatches(b *pgx.Batch, generation int, rows []readmodel.BatchRow) {
	var skus, refs, etas []string
	var versions []int64
	var qtys, availables []int32
	var times []time.Time
	for i := range rows {
		r := &rows[i]
		skus, refs, etas = append(skus, r.SKU), append(refs, r.Ref), append(etas, r.ETA)
		versions, qtys, availables = append(versions, int64(r.Version)), append(qtys, r.Qty), append(availables, r.Available)
		times = append(times, r.EventTime)
	}
	b.Queue(`INSERT INTO `+of(tableBatches, generation)+` AS t (sku, ref, version, qty, available, eta, event_time)
		SELECT sku, ref, version, qty, available, nullif(eta, '')::date, event_time
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::integer[], $6::text[], $7::timestamptz[])
			AS k (sku, ref, version, qty, available, eta, event_time)
		ON CONFLICT (sku, ref) DO UPDATE SET (version, qty, available, eta, event_time)
			= (excluded.version, excluded.qty, excluded.available, excluded.eta, excluded.event_time)
		WHERE excluded.version > t.version`, skus, refs, versions, qtys, availables, etas, times)
}

func queueSKUs(b *pgx.Batch, generation int, rows []readmodel.SKURow) {
	var skus []string
	var versions, availables []int64
	var times []time.Time
	for _, r := range rows {
		skus, versions, availables = append(skus, r.SKU), append(versions, int64(r.Version)), append(availables, r.Available)
		times = append(times, r.EventTime)
	}
	b.Queue(`INSERT INTO `+of(tableSKUs, generation)+` AS t (sku, version, available, event_time)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[])
		ON CONFLICT (sku) DO UPDATE SET (version, available, event_time) = (excluded.version, excluded.available, excluded.event_time)
		WHERE excluded.version > t.version`, skus, versions, availables, times)
}

func queueOutcomes(b *pgx.Batch, rows []readmodel.OutcomeRow) {
	var ids, sources, types, skus, orders, refs, reasons, messages []string
	var versions, offsets []int64
	var times []time.Time
	var partitions []int32
	for i := range rows {
		r := &rows[i]
		ids, sources, types, skus = append(ids, r.CommandID), append(sources, r.CommandSource), append(types, r.Type), append(skus, r.SKU)
		orders, refs, reasons, messages = append(orders, r.OrderID), append(refs, r.BatchRef), append(reasons, r.Reason), append(messages, r.Message)
		versions, times = append(versions, int64(r.Version)), append(times, r.EventTime)
		partitions, offsets = append(partitions, r.Partition), append(offsets, r.Offset)
	}
	b.Queue(`INSERT INTO outcomes AS t (commandid, commandsource, type, sku, version, orderid, batchref, reason, message, event_time, kpartition, koffset)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
			$10::timestamptz[], $11::integer[], $12::bigint[])
		ON CONFLICT (commandid) DO UPDATE SET (commandsource, type, sku, version, orderid, batchref, reason, message, event_time, kpartition, koffset)
			= (excluded.commandsource, excluded.type, excluded.sku, excluded.version, excluded.orderid, excluded.batchref, excluded.reason,
			excluded.message, excluded.event_time, excluded.kpartition, excluded.koffset)
		WHERE (excluded.event_time, excluded.kpartition, excluded.koffset) < (t.event_time, t.kpartition, t.koffset)`,
		ids, sources, types, skus, versions, orders, refs, reasons, messages, times, partitions, offsets)
}
