package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrMoved says that a partition does not stand where it was seen.
var ErrMoved = errors.New("the partition does not stand any more where it was seen")

// Stored is where a partition stands, and of which offsets the outbox has rows.
type Stored struct {
	Position
	First, Next []int64 // of each row, in order
}

// AllPositions reads where every partition that was ever seen stands, in one snapshot.
func AllPositions(ctx context.Context, url string) (map[int32]Stored, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	rows, err := conn.Query(ctx, `SELECT p.partition, topic_id, p.next_offset, outbox_floor,
			coalesce(array_agg(o.first_offset ORDER BY o.first_offset) FILTER (WHERE o.first_offset IS NOT NULL), '{}'),
			coalesce(array_agg(o.next_offset ORDER BY o.first_offset) FILTER (WHERE o.first_offset IS NOT NULL), '{}')
		FROM partitions p LEFT JOIN outbox o USING (partition) GROUP BY p.partition`)
	if hasState(err, tableUnknown) {
		return nil, errors.New("the database has no tables of the allocators: run `lotline migrate`, or check --postgres-url")
	}
	if err != nil {
		return nil, fmt.Errorf("read where the partitions stand: %w", err)
	}
	found := make(map[int32]Stored)
	var partition int32
	var p Stored
	if _, err := pgx.ForEachRow(rows, []any{&partition, &p.TopicID, &p.NextOffset, &p.OutboxFloor, &p.First, &p.Next}, func() error {
		found[partition] = p
		p.First, p.Next = nil, nil
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read where the partitions stand: %w", err)
	}
	return found, nil
}

const (
	moveTxMax     = 30 * time.Second // for each of Move's transactions
	moveTries     = 5
	moveProducts  = 10_000 // that one of them looks at
	deadlockFound = "40P01"
	tableUnknown  = "42P01"
)

// Move sets where a partition stands, if it still stands at from; else it changes nothing and returns ErrMoved. What the
// outbox has below the new floor is deleted, and all of it if the topic is another: the caller has seen to it that it is
// published, or given up.
//
// With another topic the offsets begin anew. Others must not wait for these offsets to come again, so the partition is
// taken out of what they depend on: first out of the SKUs, some at a time, since there may be millions, then out of the
// outbox, with the move itself. Cut off in between, it is done again: that the SKUs are not known any more to be of a
// partition all of whose events are published changes nothing.
//
// A transaction that Postgres ends because it and another wait for each other is tried again, a few times: the move locks a
// partition and then rows of the outbox of others, and a trim may come from the other side.
func Move(ctx context.Context, url string, partition int32, from, to Position) error {
	anew := to.TopicID != from.TopicID
	var err error
	if anew {
		err = disown(ctx, url, partition, from)
	}
	if err == nil {
		err = moveTx(ctx, url, func(ctx context.Context, tx pgx.Tx) error { return move(ctx, tx, partition, from, to, anew) })
	}
	if err != nil {
		return fmt.Errorf("move partition %d: %w", partition, err)
	}
	return nil
}

// moveTx runs fn in a transaction of its own connection.
func moveTx(ctx context.Context, url string, fn func(context.Context, pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, moveTxMax)
			defer cancel()
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				return fmt.Errorf("connect to Postgres: %w", err)
			}
			defer func() { _ = conn.Close(ctx) }() // nothing is open on it
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return fn(ctx, tx) })
		}()
		if !hasState(err, deadlockFound) || try == moveTries {
			return err
		}
	}
}

// hasState reports whether Postgres answered with an SQLSTATE.
func hasState(err error, state string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == state
}

// disown forgets which SKUs' versions a partition made, a bounded number of rows a transaction. Only commits of the
// partition itself could make it the maker of others meanwhile, and they move it.
//
// The lock keeps those away, and nobody else: not one who holds a SKU and is about to commit what depends on the
// partition. With a stronger one the two would wait for each other.
func disown(ctx context.Context, url string, partition int32, from Position) error {
	for after, more := "", true; more; {
		if err := moveTx(ctx, url, func(ctx context.Context, tx pgx.Tx) error {
			held, err := tx.Exec(ctx, `SELECT FROM partitions WHERE partition = $1 AND topic_id = $2 AND next_offset = $3 AND outbox_floor = $4 FOR SHARE`,
				partition, from.TopicID, from.NextOffset, from.OutboxFloor)
			if err != nil {
				return err
			}
			if held.RowsAffected() == 0 {
				return ErrMoved
			}
			var last *string
			if err := tx.QueryRow(ctx, `SELECT max(sku) FROM (SELECT sku FROM products WHERE sku > $1 ORDER BY sku LIMIT $2) AS page`,
				after, moveProducts).Scan(&last); err != nil {
				return err
			}
			if more = last != nil; !more {
				return nil
			}
			if _, err := tx.Exec(ctx, `UPDATE products p SET command_partition = NULL, command_offset = NULL
				FROM (SELECT sku FROM products WHERE sku > $1 AND sku <= $2 AND command_partition = $3 ORDER BY sku FOR UPDATE) AS k
				WHERE p.sku = k.sku`, after, *last, partition); err != nil {
				return err
			}
			after = *last
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func move(ctx context.Context, tx pgx.Tx, partition int32, from, to Position, anew bool) error {
	// FOR UPDATE also keeps out those who commit what depends on this partition.
	if _, err := tx.Exec(ctx, `SELECT FROM partitions WHERE partition = $1 FOR UPDATE`, partition); err != nil {
		return err
	}
	done, err := tx.Exec(ctx, `UPDATE partitions SET topic_id = $5, next_offset = $6, outbox_floor = $7
		WHERE partition = $1 AND topic_id = $2 AND next_offset = $3 AND outbox_floor = $4`,
		partition, from.TopicID, from.NextOffset, from.OutboxFloor, to.TopicID, to.NextOffset, to.OutboxFloor)
	if err == nil && done.RowsAffected() == 0 {
		err = ErrMoved
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM outbox WHERE partition = $1 AND (next_offset <= $2 OR $3)`, partition, to.OutboxFloor, anew); err != nil || !anew {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE outbox SET depends_on = nullif(depends_on - $1::text, '{}') WHERE depends_on ? $1::text`, strconv.Itoa(int(partition)))
	return err
}
