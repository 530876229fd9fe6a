package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
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

// Move sets where a partition stands, if it still stands at from; else it changes nothing and returns ErrMoved. What the
// outbox has below the new floor is deleted, and all of it if the topic is another: the caller has seen to it that it is
// published, or given up.
func Move(ctx context.Context, url string, partition int32, from, to Position) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
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
		anew := to.TopicID != from.TopicID
		if _, err := tx.Exec(ctx, `DELETE FROM outbox WHERE partition = $1 AND (next_offset <= $2 OR $3)`, partition, to.OutboxFloor, anew); err != nil || !anew {
			return err
		}
		// Its offsets begin anew. What others depend on is published or given up, and they must not wait for these offsets
		// to come again.
		if _, err := tx.Exec(ctx, `UPDATE products p SET command_partition = NULL, command_offset = NULL
			FROM (SELECT sku FROM products WHERE command_partition = $1 ORDER BY sku FOR UPDATE) AS k WHERE p.sku = k.sku`, partition); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE outbox SET depends_on = nullif(depends_on - $1::text, '{}') WHERE depends_on ? $1::text`, strconv.Itoa(int(partition)))
		return err
	})
	if err != nil {
		return fmt.Errorf("move partition %d: %w", partition, err)
	}
	return nil
}
