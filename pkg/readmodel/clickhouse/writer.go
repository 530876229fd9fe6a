package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/migrate"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/telemetry"
)

// insertSettings make an acknowledgement mean that the rows are in the table and its views, and leave rows that
// were written before to the tables' keys: the server's own memory of recent blocks would drop a block that it
// has seen, though a view may have missed it. A block of old events may touch any number of months.
var insertSettings = clickhouse.Settings{
	"async_insert":                    0,
	"insert_deduplicate":              0,
	"deduplicate_insert":              "disable", // which overrides the one above, and is on unless it is said
	"deduplicate_insert_select":       "disable",
	"max_partitions_per_insert_block": 0,
	"distributed_foreground_insert":   1, // on a cluster: acknowledged by the shard that has it, not by a queue to it
	// The views beside each other: of a small block each takes a core for milliseconds, and a busy server lets them wait once
	// instead of one after the other. Most releases of ClickHouse from 25.10 to 26.6 did so whatever was said.
	"parallel_view_processing": 1,
}

// Writer keeps the read model in ClickHouse. It is a readmodel.Writer.
type Writer struct {
	conn     driver.Conn
	database string
	opts     *clickhouse.Options // of conn, for connections to the other hosts of a cluster
	block    block
}

var _ readmodel.Writer = (*Writer)(nil)

// NewWriter returns a writer. It connects when it is first used, so that a ClickHouse that is away at the start
// is an outage like any other.
func NewWriter(cfg clickhouseclient.Config) (*Writer, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	return &Writer{conn: conn, database: cfg.Database, opts: opts}, nil
}

// Name is clickhouse.
func (w *Writer) Name() string { return name }

// Close releases the connections.
func (w *Writer) Close() error {
	if err := w.conn.Close(); err != nil {
		return fmt.Errorf("close the ClickHouse client: %w", err)
	}
	return nil
}

// Apply returns nil once ClickHouse has acknowledged every row. A row is known by its key and version, so parts of a
// block that were already written do no harm when it is written again.
func (w *Writer) Apply(ctx context.Context, records []readmodel.Record) error {
	if err := w.block.fill(records); err != nil {
		return &readmodel.RefusedError{Err: fmt.Errorf("make rows of %d events: %w", len(records), err)}
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	// The outcome last: whoever finds a command's outcome finds what it did.
	if rows := len(w.block.events.sku); rows > 0 {
		if err := w.insertColumns(ctx, tableEvents, rows, w.block.events.columns()); err != nil {
			return err
		}
	}
	if rows := len(w.block.outcomes.commandID); rows > 0 {
		return w.insertColumns(ctx, tableOutcomes, rows, w.block.outcomes.columns())
	}
	return nil
}

func (w *Writer) insertColumns(ctx context.Context, table string, rows int, columns []column) (err error) {
	ctx, span := telemetry.Child(ctx, "INSERT "+table, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.DBSystemNameClickHouse, semconv.DBNamespace(w.database), semconv.DBOperationName("INSERT"),
		semconv.DBCollectionName(table), semconv.DBOperationBatchSize(rows)))
	defer func() { telemetry.End(span, err) }()
	options := []clickhouse.QueryOption{clickhouse.WithSettings(insertSettings)}
	if span.IsRecording() { // then ClickHouse's own spans hang on it
		options = append(options, clickhouse.WithSpan(span.SpanContext()))
	}
	into := &insert{writer: w, table: table}
	if err := into.add(clickhouse.Context(ctx, options...), columns); err != nil {
		return errors.Join(err, into.abort())
	}
	return into.send()
}

// insert is rows on their way into a table, in blocks that have the same columns. It begins with the first of them, and ends
// with send or abort.
type insert struct {
	writer *Writer
	table  string
	batch  driver.Batch // nil before it began and after it ended
}

// add adds a block; the one before it is sent first. The client copies what it is given, so the memory of columns may be used
// again. The first one's ctx is the insert's.
func (i *insert) add(ctx context.Context, columns []column) (err error) {
	if i.batch == nil {
		names := make([]string, len(columns))
		for n, c := range columns {
			names[n] = c.name
		}
		i.batch, err = i.writer.conn.PrepareBatch(ctx, "INSERT INTO "+i.table+" ("+strings.Join(names, ", ")+")")
	} else {
		err = i.batch.Flush()
	}
	if err != nil {
		return classify(fmt.Errorf("insert into %s: %w", i.table, err))
	}
	for n, c := range columns {
		if err := i.batch.Column(n).Append(c.values); err != nil {
			return &readmodel.RefusedError{Err: fmt.Errorf("fill column %s of %s: %w", c.name, i.table, err)}
		}
	}
	return nil
}

// send returns nil once ClickHouse has acknowledged every row.
func (i *insert) send() error {
	if i.batch == nil {
		return nil
	}
	batch := i.batch
	i.batch = nil
	if err := batch.Send(); err != nil {
		return classify(fmt.Errorf("insert into %s: %w", i.table, err))
	}
	return nil
}

// abort ends an insert that was not sent; some of its rows may be there.
func (i *insert) abort() error {
	if i.batch == nil {
		return nil
	}
	batch := i.batch
	i.batch = nil
	return batch.Abort()
}

// Check refuses tables older than this build's: rows written before a view exists would never reach the
// view's table.
func (w *Writer) Check(ctx context.Context) error {
	newest, err := migrate.Newest(embedded, "migrations")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	var applied int64
	if err := w.conn.QueryRow(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied = 1").Scan(&applied); err != nil {
		return fmt.Errorf("read the version of the tables in database %s (has it been migrated? lotline migrate): %w", w.database, err)
	}
	if applied < newest {
		return fmt.Errorf("the tables in database %s have version %d, and this build needs %d: run lotline migrate", w.database, applied, newest)
	}
	return nil
}
