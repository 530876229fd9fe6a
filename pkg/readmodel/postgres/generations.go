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

const loadConnectionsMax = 8

// Generations makes and switches generations of the read model in Postgres. It is a readmodel.Generations.
type Generations struct {
	pool      *pgxpool.Pool
	frozenMax time.Duration // less in a test
}

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
	return &Generations{pool, frozenMax}, nil
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

// Begin makes a generation's tables and notes it, in one transaction. That keeps blocks out, so it begins once no block is
// being applied, and whoever applies one after it knows the new generation.
func (g *Generations) Begin(ctx context.Context, generation int) error {
	return g.alone(ctx, fmt.Sprintf("begin generation %d", generation), func(tx pgx.Tx) error { return begin(ctx, tx, generation) })
}

func begin(ctx context.Context, tx pgx.Tx, generation int) error {
	if err := run(ctx, tx, generationSQL, generation); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, generationRolesSQL); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO generations VALUES ($1, false) ON CONFLICT DO NOTHING", generation)
	return err
}

// run runs statements in which {{.}} is the generation.
func run(ctx context.Context, tx pgx.Tx, statements string, generation int) error {
	_, err := tx.Exec(ctx, strings.ReplaceAll(statements, "{{.}}", strconv.Itoa(generation)))
	return err
}

// Load keeps rows a transaction a statement: a block that has rows of the same keys waits for one at the most.
func (g *Generations) Load(ctx context.Context, generation int, rows readmodel.Parts) error {
	return rows(func(part *readmodel.State) error {
		sorted := readmodel.State{SKUs: slices.Clone(part.SKUs), Batches: slices.Clone(part.Batches), Lines: slices.Clone(part.Lines)}
		sorted.Sort() // the order in which blocks lock them
		b := &pgx.Batch{}
		queue(b, generation, &sorted)
		for _, q := range b.QueuedQueries {
			if _, err := g.pool.Exec(ctx, q.SQL, q.Arguments...); err != nil {
				return fmt.Errorf("load %d rows into generation %d: %w", part.Len(), generation, err)
			}
		}
		return nil
	})
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
	return g.change(ctx, fmt.Sprintf("switch to generation %d", generation), "", switchLockWait, func(tx pgx.Tx) error {
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
	return g.alone(ctx, fmt.Sprintf("end generation %d", generation), func(tx pgx.Tx) error {
		var live bool
		err := tx.QueryRow(ctx, "DELETE FROM generations WHERE generation = $1 RETURNING live", generation).Scan(&live)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // it is gone
		case err != nil:
			return err
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
