package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/telemetry"

	"github.com/lotline/lotline/services/projector/internal/projection"
)

// component is the writer's name in the readiness report.
const component = "clickhouse"

// insertSettings make an acknowledgement mean that the rows are in the table and its views, and leave rows that
// were written before to the tables' keys: the server's own memory of recent blocks would drop a block that it
// has seen, though a view may have missed it. A block of old events may touch any number of months.
var insertSettings = clickhouse.Settings{
	"async_insert":                    0,
	"insert_deduplicate":              0,
	"max_partitions_per_insert_block": 0,
}

// Writer writes blocks of rows. Insert must not be called concurrently.
type Writer struct {
	conn     driver.Conn
	database string
	health   *admin.Health
	metrics  *Metrics
	log      *slog.Logger
}

// NewWriter returns a writer. It connects when it is first used, so that a ClickHouse that is away at the start
// is an outage like any other.
func NewWriter(cfg clickhouseclient.Config, health *admin.Health, metrics *Metrics, log *slog.Logger) (*Writer, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	health.Set(component, errors.New("not reached yet"))
	return &Writer{conn: conn, database: cfg.Database, health: health, metrics: metrics, log: log}, nil
}

// Close releases the connections.
func (w *Writer) Close() error {
	if err := w.conn.Close(); err != nil {
		return fmt.Errorf("close the ClickHouse client: %w", err)
	}
	return nil
}

// Insert returns nil once ClickHouse has acknowledged every row of b. Whatever ClickHouse answers until then
// (away, overloaded with parts, a table missing), the same block is written again, for ever: a row is known by
// its key and version, so parts of a block that were already written do no harm. It returns an error only when
// ctx ends.
func (w *Writer) Insert(ctx context.Context, b *projection.Block) error {
	return fault.Retry(ctx, w.log, "write a block to ClickHouse", func(ctx context.Context) error {
		err := w.tryInsert(ctx, b)
		if err != nil && ctx.Err() == nil {
			w.metrics.retries.Inc()
		}
		w.health.Set(component, err)
		return err
	})
}

// Check waits until the tables are those of this build.
func (w *Writer) Check(ctx context.Context) error {
	return fault.Retry(ctx, w.log, "find the read model in ClickHouse", func(ctx context.Context) error {
		err := w.checkTables(ctx)
		w.health.Set(component, err)
		return err
	})
}

func (w *Writer) tryInsert(ctx context.Context, b *projection.Block) error {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	start := time.Now()
	// The outcome last: whoever finds a command's outcome finds what it did.
	if columns, rows := b.Events(); rows > 0 {
		if err := w.insertColumns(ctx, projection.TableEvents, columns, rows); err != nil {
			return err
		}
	}
	if columns, rows := b.Outcomes(); rows > 0 {
		if err := w.insertColumns(ctx, projection.TableOutcomes, columns, rows); err != nil {
			return err
		}
	}
	w.metrics.insertSeconds.Observe(time.Since(start).Seconds())
	return nil
}

func (w *Writer) insertColumns(ctx context.Context, table string, columns []projection.Column, rows int) (err error) {
	ctx, span := telemetry.Child(ctx, "INSERT "+table, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.DBSystemNameClickHouse, semconv.DBNamespace(w.database), semconv.DBOperationName("INSERT"),
		semconv.DBCollectionName(table), semconv.DBOperationBatchSize(rows)))
	defer func() { telemetry.End(span, err) }()
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	options := []clickhouse.QueryOption{clickhouse.WithSettings(insertSettings)}
	if span.IsRecording() { // then ClickHouse's own spans hang on it
		options = append(options, clickhouse.WithSpan(span.SpanContext()))
	}
	ctx = clickhouse.Context(ctx, options...)
	batch, err := w.conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("start an insert into %s: %w", table, err)
	}
	for i, c := range columns {
		if err := batch.Column(i).Append(c.Values); err != nil {
			return errors.Join(fmt.Errorf("fill column %s of %s: %w", c.Name, table, err), batch.Abort())
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

// checkTables refuses tables older than this build's: rows written before a view exists would never reach the
// view's table.
func (w *Writer) checkTables(ctx context.Context) error {
	newest, err := newestMigration()
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
