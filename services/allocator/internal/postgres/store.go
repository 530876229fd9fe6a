// Package postgres keeps the allocator's state: what each partition has applied, the SKUs with their batches and
// order lines, the ids of commands whose repeats matter, and the outbox. All of it moves in one transaction.
//
// It fills the ports of apply. It may import apply, allocation and outbox for their types, pgx, and pkg. The
// service's root makes one Store for each lane of a worker.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotline/lotline/pkg/migrate"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the database's tables to this build's version, and roles to their rights. It is safe to run from
// several places at once. A warning is a sentence for the operator: the tables are there, but not all rights.
func Migrate(ctx context.Context, url string, log *slog.Logger) (warning string, err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return "", fmt.Errorf("open the embedded migrations: %w", err)
	}
	if err := migrate.Postgres(ctx, url, files, log); err != nil {
		return "", err
	}
	return migrate.PostgresRoles(ctx, url, roles, rolesSQL)
}

const (
	sqlstateRefused       = "LL001" // raised by the function refuse_unless of the migrations
	sqlstateWaitedTooLong = "55P03" // lock_not_available: see insertWaitMax
	sqlstateKeyDoubled    = "23505" // unique_violation
)

// Store is the connection of one lane of a worker. It connects when first used, and drops the connection after an error. It is not for
// concurrent use.
type Store struct {
	connURL   func() (string, error)
	timeout   time.Duration // of a transaction
	conn      *pgx.Conn
	made      time.Time     // when conn was
	answerMax time.Duration // for waiting for an answer
}

// New checks what connURL returns (a postgres:// URL or key=value string) without connecting. It is asked again for each
// connection, and files that the URL names are read again, so that passwords and certificates can be replaced while the
// process runs. txTimeout bounds a transaction on the server, so that an allocator that froze in the middle of one cannot
// block its successor for longer. An answer is waited for twice as long: what has not come by then was lost with the
// network, which may take a quarter of an hour to say so.
func New(connURL func() (string, error), txTimeout time.Duration) (*Store, error) {
	s := &Store{connURL: connURL, timeout: txTimeout, answerMax: 2 * txTimeout}
	if _, err := s.config(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) config() (*pgx.ConnConfig, error) {
	url, err := s.connURL()
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse the Postgres URL: %w", err)
	}
	if mode := config.DefaultQueryExecMode; mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol {
		return nil, errors.New("the Postgres URL has a default_query_exec_mode in which the server is not asked for the types of parameters: leave that setting out, and connect to Postgres directly")
	}
	ms := strconv.FormatInt(s.timeout.Milliseconds(), 10)
	params := config.RuntimeParams
	params["application_name"] = "lotline-allocator"
	params["transaction_timeout"] = ms
	params["idle_in_transaction_session_timeout"] = ms
	// Every statement finds its rows by a key, in sets of a size that the planner cannot see. One generic plan by
	// index is right for all of them; a plan made while a table was still small would scan it once it is large.
	params["plan_cache_mode"] = "force_generic_plan"
	params["enable_seqscan"] = "off"
	params["enable_hashjoin"] = "off" // a nested loop touches rows in the order in which they are named
	params["enable_mergejoin"] = "off"
	// Cost is the number of rows touched. Counted in pages, all of a table of one page is as cheap to read as a row of it, so that is
	// the plan once such a table was analyzed, and it is kept until that is done again, however large the table is by then.
	params["random_page_cost"] = "0"
	params["seq_page_cost"] = "0"
	params["cpu_operator_cost"] = "0"
	params["enable_material"] = "off" // reading all once, for all that are looked for, would be cheapest again
	params["jit"] = "off"
	params["datestyle"] = "ISO" // etas are read as text; the database's own style must not get into events
	config.ConnectTimeout = s.timeout
	return config, nil
}

// Close drops the connection, if there is one.
func (s *Store) Close() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // the server rolls back what is open, however the close went
	s.conn = nil
}

func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	takeColumns(conn.TypeMap())
	return conn, nil
}

// Connect implements apply.Store.
func (s *Store) Connect(ctx context.Context) (made time.Time, err error) {
	if s.conn == nil {
		ctx, cancel := context.WithTimeout(ctx, s.answerMax)
		defer cancel()
		conn, err := s.connect(ctx)
		if err != nil {
			return time.Time{}, err
		}
		s.conn, s.made = conn, time.Now()
	}
	return s.made, nil
}

// with runs fn on the connection and drops it on any error but a refusal.
func (s *Store) with(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.answerMax)
	defer cancel()
	if _, err := s.Connect(ctx); err != nil {
		return err
	}
	err := refusal(fn(ctx, s.conn))
	if err != nil && !errors.Is(err, apply.ErrRefused) {
		s.Close()
	}
	return err
}

// refusal turns the SQLSTATEs of refuse_unless and of a wait that was too long into apply.ErrRefused, and those of rows that cannot be (class 22, data
// exceptions, and 23, constraints) into apply.ErrBroken. All others are outages.
func refusal(err error) error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
		return err
	case pg.Code == sqlstateRefused, pg.Code == sqlstateWaitedTooLong:
		return fmt.Errorf("%w (%s)", apply.ErrRefused, pg.Message)
	case strings.HasPrefix(pg.Code, "22"), strings.HasPrefix(pg.Code, "23"):
		return fmt.Errorf("%w: %w", apply.ErrBroken, err)
	}
	return err
}

// NextOffset reads up to where the partition is applied. One without a row, as after a restore from before it was first seen, is
// at -1: below any position, so that its reader starts anew, which adds the row. So is one whose row is of another topic.
func (s *Store) NextOffset(ctx context.Context, topicID string, partition int32) (int64, error) {
	var next int64
	err := s.with(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT coalesce((SELECT next_offset FROM partitions WHERE partition = $1 AND topic_id = $2), -1)`, partition, topicID).Scan(&next)
	})
	if err != nil {
		return 0, fmt.Errorf("read the next offset of partition %d: %w", partition, err)
	}
	return next, nil
}

// Load implements apply.Session.
func (s *Store) Load(ctx context.Context, need apply.Need) (loaded apply.Loaded, err error) {
	err = traced(ctx, "load", func(ctx context.Context) error {
		return s.with(ctx, func(ctx context.Context, c *pgx.Conn) error {
			loaded, err = load(ctx, c, need)
			return err
		})
	})
	return loaded, err
}

// Commit implements apply.Session: one round trip, one transaction.
func (s *Store) Commit(ctx context.Context, writes ...apply.Write) error {
	decided(ctx, writes)
	return traced(ctx, transaction, func(ctx context.Context) error {
		return s.with(ctx, func(ctx context.Context, c *pgx.Conn) error { return write(ctx, c, writes, false) })
	})
}

// Locked implements apply.Store. The order of locks is the same everywhere: the partition's row, then SKUs by key.
func (s *Store) Locked(ctx context.Context, topicID string, partition int32, from int64, skus []string, fn func(context.Context, apply.Session) error) error {
	return traced(ctx, transaction+", locked", func(ctx context.Context) error {
		return s.locked(ctx, topicID, partition, from, skus, fn)
	})
}

func (s *Store) locked(ctx context.Context, topicID string, partition int32, from int64, skus []string, fn func(context.Context, apply.Session) error) error {
	return s.with(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			lock := &pgx.Batch{}
			lock.Queue(`SELECT refuse_unless(EXISTS (SELECT FROM partitions WHERE partition = $1 AND topic_id = $2 AND next_offset = $3 FOR NO KEY UPDATE), 'the partition moved')`,
				partition, topicID, from)
			held := make(map[string]bool, len(skus))
			lock.Queue(`SELECT sku FROM products WHERE sku = ANY ($1) ORDER BY sku FOR UPDATE`, skuNames(skus)).Query(func(rows pgx.Rows) error {
				var sku string
				_, err := pgx.ForEachRow(rows, []any{&sku}, func() error { held[sku] = true; return nil })
				return err
			})
			if err := tx.SendBatch(ctx, lock).Close(); err != nil {
				return fmt.Errorf("lock partition %d and %d SKUs: %w", partition, len(skus), err)
			}
			return fn(ctx, locked{tx, held})
		})
	})
}

// locked is a session inside a transaction that holds its rows.
type locked struct {
	tx   pgx.Tx
	held map[string]bool // SKUs that were there when it locked them
}

func (l locked) Load(ctx context.Context, need apply.Need) (loaded apply.Loaded, err error) {
	err = traced(ctx, "load", func(ctx context.Context) error {
		loaded, err = load(ctx, l.tx, need)
		return err
	})
	// A SKU that was created since is not held, and must not be waited for out of order: A, who created Y, changes it again and
	// goes on to Z, which is held here, and here Y would be waited for. It is refused, and locked with the others next time.
	for _, p := range loaded.Products {
		if !l.held[p.SKU] {
			return apply.Loaded{}, fmt.Errorf("%w (a SKU was created)", apply.ErrRefused)
		}
	}
	return loaded, err
}

func (l locked) Commit(ctx context.Context, writes ...apply.Write) error {
	decided(ctx, writes)
	return traced(ctx, "write", func(ctx context.Context) error { return refusal(write(ctx, l.tx, writes, true)) })
}

// batcher is what a connection and a transaction have in common. On a connection a batch is a transaction of its own.
type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}
