package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotline/lotline/pkg/readmodel/internal/underway"
)

// Whoever applies a block has an advisory lock from before it reads the list of generations until its transaction ends. By it
// Settle knows blocks, and Begin and Drop keep them out. It is no lock on the table of generations, which others have too: with
// that one, Begin waited for as long as a dump took, and all blocks behind it. Its second key is the table, as schemas may share
// a database.
const (
	blocksKeys   = `1280267340, 'generations'::regclass::oid::integer`
	enterBlock   = `SELECT pg_advisory_xact_lock_shared(` + blocksKeys + `)`
	keepOut      = `SELECT pg_advisory_xact_lock(` + blocksKeys + `)`
	listOfBlocks = `SELECT virtualtransaction FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'
		AND (classid, objid, objsubid) = (1280267340, 'generations'::regclass::oid, 2)
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
)

const (
	// frozenMax is for how long a process may have others waiting for its locks and do nothing: then it was stopped, or the
	// network to it is cut, and Postgres ends its transaction.
	frozenMax = 10 * time.Second
	// switchLockWait is how long a switch waits for a question that is under way, and lets others wait behind it, before it
	// steps back and tries again. It is less than the second after which Postgres looks for circles of waiting: if
	// somebody's own SQL has the views in another order, it is not their question that is ended.
	switchLockWait = 500 * time.Millisecond
	// aloneLockWait is how long Begin and Drop, which keep blocks out meanwhile, wait for a table. It is more than that
	// second: after it Postgres ends a vacuum of its own that is in the way, and no other.
	aloneLockWait = 2 * time.Second
	// changeWithin is for how long all this is tried again.
	changeWithin = 2 * time.Minute

	sqlstateLockNotAvailable = "55P03"
)

// change does something in a transaction, which waits for no lock longer than lockWait after begin is done. If it has to, it
// is rolled back, lets others through for as long as they may have waited for it, and is tried again.
func (g *Generations) change(ctx context.Context, what, begin string, lockWait time.Duration, do func(pgx.Tx) error) error {
	begin = fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d; %s; SET LOCAL lock_timeout = %d",
		g.frozenMax.Milliseconds(), begin, lockWait.Milliseconds())
	for began := time.Now(); ; {
		err := pgx.BeginFunc(ctx, g.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, begin); err != nil {
				return err
			}
			return do(tx)
		})
		switch pg := new(pgconn.PgError); {
		case err == nil:
			return nil
		case !errors.As(err, &pg) || pg.Code != sqlstateLockNotAvailable:
			return fmt.Errorf("%s: %w", what, err)
		case time.Since(began) > changeWithin:
			return fmt.Errorf("%s: what it changes was in use all the time, for %v, by a dump or somebody's SQL (pg_stat_activity names them): try again after them: %w",
				what, changeWithin, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(lockWait):
		}
	}
}

// alone is change while no block is being applied. It waits for those that are, each of which Postgres ends after
// txTimeout.
func (g *Generations) alone(ctx context.Context, what string, do func(pgx.Tx) error) error {
	return g.change(ctx, what, keepOut, aloneLockWait, do)
}

// Settle waits for the transactions of the blocks that are being applied.
func (g *Generations) Settle(ctx context.Context) error {
	return underway.List(g.applying).Settle(ctx)
}

func (g *Generations) applying(ctx context.Context) ([]string, error) {
	rows, err := g.pool.Query(ctx, listOfBlocks)
	if err != nil {
		return nil, fmt.Errorf("list the blocks that are being applied: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
