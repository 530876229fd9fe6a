package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/internal/pgreader"
)

// Names of a generation's tables, without their number.
const (
	tableLines   = "order_lines"
	tableBatches = "stock"
	tableSKUs    = "skus"
)

var (
	//go:embed generation.sql
	generationSQL string
	//go:embed views.sql
	viewsSQL string
)

const (
	loadConnectionsMax = 8
	// settlePause is between two looks at the blocks that are being applied.
	settlePause = 20 * time.Millisecond
	// switchLockWait is how long a switch waits for a question that is under way, and lets others wait behind it, before it
	// steps back and tries again. It is less than the second after which Postgres looks for circles of waiting: if
	// somebody's own SQL has the views in another order, it is not their question that is ended.
	switchLockWait = 500 * time.Millisecond
	switchPause    = 100 * time.Millisecond
	switchWithin   = 2 * time.Minute

	sqlstateLockNotAvailable = "55P03"
)

// Generations makes and switches generations of the read model in Postgres. It is a readmodel.Generations.
type Generations struct{ pool *pgxpool.Pool }

var _ readmodel.Generations = (*Generations)(nil)

// NewGenerations returns the generations of a schema. It connects when it is first used.
func NewGenerations(cfg Config) (*Generations, error) {
	pool, err := pgreader.Pool(cfg.ConnURL, loadConnectionsMax, func(c *pgx.ConnConfig) {
		c.RuntimeParams["application_name"] = "lotline-rebuild"
		c.RuntimeParams["search_path"] = cfg.Schema
		c.RuntimeParams["jit"] = "off"
		c.ConnectTimeout = dialTimeout
	})
	if err != nil {
		return nil, err
	}
	return &Generations{pool}, nil
}

// Name is postgres.
func (g *Generations) Name() string { return name }

// Close releases the connections.
func (g *Generations) Close() error {
	g.pool.Close()
	return nil
}

// of is the name of a table in a generation.
func of(table string, generation int) string { return table + "_g" + strconv.Itoa(generation) }

// List returns what the table of generations says.
func (g *Generations) List(ctx context.Context) (all []int, live int, err error) {
	rows, err := g.pool.Query(ctx, "SELECT generation, live FROM generations ORDER BY generation")
	if err == nil {
		var generation int
		var isLive bool
		_, err = pgx.ForEachRow(rows, []any{&generation, &isLive}, func() error {
			all = append(all, generation)
			if isLive {
				live = generation
			}
			return nil
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list the generations (has the schema been migrated? lotline migrate): %w", err)
	}
	return all, live, nil
}

// Begin makes a generation's tables and notes it, in one transaction. That has the list of generations locked, so it begins
// once no block is being applied, and whoever applies one after it knows the new generation.
func (g *Generations) Begin(ctx context.Context, generation int) error {
	return g.alone(ctx, func(tx pgx.Tx) error {
		if err := run(ctx, tx, generationSQL, generation); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, generationRolesSQL); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO generations VALUES ($1, false) ON CONFLICT DO NOTHING", generation)
		return err
	})
}

// alone does something in a transaction while no block is being applied.
func (g *Generations) alone(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, g.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE generations IN ACCESS EXCLUSIVE MODE"); err != nil {
			return fmt.Errorf("wait for the blocks that are being applied: %w", err)
		}
		return do(tx)
	})
}

// run runs statements in which {{.}} is the generation.
func run(ctx context.Context, tx pgx.Tx, statements string, generation int) error {
	_, err := tx.Exec(ctx, strings.ReplaceAll(statements, "{{.}}", strconv.Itoa(generation)))
	return err
}

// Settle waits for the transactions that have read the list of generations and not ended: those of the blocks that are
// being applied.
func (g *Generations) Settle(ctx context.Context) error {
	before, err := g.applying(ctx)
	for running := before; err == nil; running, err = g.applying(ctx) {
		if !slices.ContainsFunc(running, func(tx string) bool { return slices.Contains(before, tx) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d blocks to end: %w", len(running), context.Cause(ctx))
		case <-time.After(settlePause):
		}
	}
	return err
}

func (g *Generations) applying(ctx context.Context) ([]string, error) {
	rows, err := g.pool.Query(ctx, `SELECT virtualtransaction FROM pg_locks WHERE relation = 'generations'::regclass AND pid <> pg_backend_pid()
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if err != nil {
		return nil, fmt.Errorf("list the blocks that are being applied: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Load keeps rows a transaction a statement: a block that has rows of the same keys waits for one at the most.
func (g *Generations) Load(ctx context.Context, generation int, rows *readmodel.State) error {
	sorted := readmodel.State{SKUs: slices.Clone(rows.SKUs), Batches: slices.Clone(rows.Batches), Lines: slices.Clone(rows.Lines)}
	sorted.Sort() // the order in which blocks lock them
	b := &pgx.Batch{}
	queue(b, generation, &sorted)
	for _, q := range b.QueuedQueries {
		if _, err := g.pool.Exec(ctx, q.SQL, q.Arguments...); err != nil {
			return fmt.Errorf("load %d rows into generation %d: %w", rows.Len(), generation, err)
		}
	}
	return nil
}

// readRowsMax is how many rows Read hands over at once.
const readRowsMax = 50_000

// Read reads everything in one snapshot.
func (g *Generations) Read(ctx context.Context, generation int, skus []string, each func(*readmodel.State) error) error {
	where, args := "true", []any(nil)
	if skus != nil {
		where, args = "sku = ANY ($1::text[])", []any{skus}
	}
	part := new(readmodel.State)
	err := pgx.BeginTxFunc(ctx, g.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var version int64
		var eta string
		var at time.Time
		read := func(table, columns, and string, fields []any, keep func()) error {
			rows, err := tx.Query(ctx, "SELECT "+columns+", event_time FROM "+of(table, generation)+" WHERE "+and+where, args...)
			if err != nil {
				return err
			}
			_, err = pgx.ForEachRow(rows, append(fields, &at), func() error {
				at = at.UTC()
				keep()
				return part.HandOver(readRowsMax, each)
			})
			return err
		}
		const day = "coalesce(to_char(eta, 'YYYY-MM-DD'), '')"
		var s readmodel.SKURow
		if err := read(tableSKUs, "sku, version, available", "", []any{&s.SKU, &version, &s.Available}, func() {
			s.Version, s.EventTime = uint64(version), at
			part.SKUs = append(part.SKUs, s)
		}); err != nil {
			return err
		}
		var b readmodel.BatchRow
		if err := read(tableBatches, "sku, ref, version, qty, available, "+day, "", []any{&b.SKU, &b.Ref, &version, &b.Qty, &b.Available, &eta}, func() {
			b.Version, b.ETA, b.EventTime = uint64(version), eta, at
			part.Batches, part.Refs = append(part.Batches, b), append(part.Refs, readmodel.RefRow{Ref: b.Ref, SKU: b.SKU})
		}); err != nil {
			return err
		}
		var l readmodel.LineRow
		return read(tableLines, "orderid, sku, version, batchref, qty, commandid, "+day, "batchref IS NOT NULL AND ",
			[]any{&l.OrderID, &l.SKU, &version, &l.BatchRef, &l.Qty, &l.CommandID, &eta}, func() {
				l.Version, l.ETA, l.EventTime = uint64(version), eta, at
				part.Lines = append(part.Lines, l)
			})
	})
	if err == nil {
		err = part.HandOver(1, each)
	}
	if err != nil {
		return fmt.Errorf("read generation %d: %w", generation, err)
	}
	return nil
}

// Switch makes the views anew in one transaction. A question that is under way ends first, on the old tables.
func (g *Generations) Switch(ctx context.Context, generation int) error {
	for began := time.Now(); ; {
		err := g.switchOnce(ctx, generation)
		if pg := new(pgconn.PgError); err == nil || !errors.As(err, &pg) || pg.Code != sqlstateLockNotAvailable || time.Since(began) > switchWithin {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("switch to generation %d: %w", generation, context.Cause(ctx))
		case <-time.After(switchPause):
		}
	}
}

func (g *Generations) switchOnce(ctx context.Context, generation int) error {
	return pgx.BeginFunc(ctx, g.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", switchLockWait.Milliseconds())); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE generations SET live = false WHERE live"); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, "UPDATE generations SET live = true WHERE generation = $1", generation)
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return fmt.Errorf("there is no generation %d", generation)
		}
		return run(ctx, tx, viewsSQL, generation)
	})
}

// Drop ends a generation in one transaction, while no block is being applied.
func (g *Generations) Drop(ctx context.Context, generation int) error {
	return g.alone(ctx, func(tx pgx.Tx) error {
		var live bool
		err := tx.QueryRow(ctx, "DELETE FROM generations WHERE generation = $1 RETURNING live", generation).Scan(&live)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // it is gone
		case err != nil:
			return fmt.Errorf("end generation %d: %w", generation, err)
		case live:
			return fmt.Errorf("generation %d is the one that is asked", generation)
		}
		return run(ctx, tx, "DROP TABLE order_lines_g{{.}}, stock_g{{.}}, skus_g{{.}}", generation)
	})
}

// Mark keeps the newest value of each name.
func (g *Generations) Mark(ctx context.Context, generation int, name, value string) error {
	if _, err := g.pool.Exec(ctx, `INSERT INTO rebuild VALUES ($1, $2, $3)
		ON CONFLICT (generation, name) DO UPDATE SET value = excluded.value`, generation, name, value); err != nil {
		return fmt.Errorf("mark generation %d with %s: %w", generation, name, err)
	}
	return nil
}

// Marks returns what Mark kept.
func (g *Generations) Marks(ctx context.Context, generation int) (map[string]string, error) {
	kept := make(map[string]string)
	rows, err := g.pool.Query(ctx, "SELECT name, value FROM rebuild WHERE generation = $1", generation)
	if err == nil {
		var name, value string
		_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
			kept[name] = value
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the marks of generation %d: %w", generation, err)
	}
	return kept, nil
}
