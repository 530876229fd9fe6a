package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// ErrMoved says that a partition does not stand where it was seen, or has events that are not published.
var ErrMoved = errors.New("the partition does not stand where it was seen to")

// AllPositions reads where every partition that was ever seen stands.
func AllPositions(ctx context.Context, url string) (map[int32]Position, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	rows, err := conn.Query(ctx, `SELECT partition, topic_id, next_offset, outbox_floor FROM partitions`)
	if err != nil {
		return nil, fmt.Errorf("read where the partitions stand: %w", err)
	}
	found := make(map[int32]Position)
	var partition int32
	var p Position
	if _, err := pgx.ForEachRow(rows, []any{&partition, &p.TopicID, &p.NextOffset, &p.OutboxFloor}, func() error {
		found[partition] = p
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read where the partitions stand: %w", err)
	}
	return found, nil
}

// Move sets where a partition stands, if it still stands at from and every event that was decided for it is below
// published; else it changes nothing and returns ErrMoved. The outbox floor is to be the next offset: then nothing
// below is asked of the outbox, and nothing there is left to be asked for.
func Move(ctx context.Context, url string, partition int32, from, to Position, published int64) error {
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
			WHERE partition = $1 AND topic_id = $2 AND next_offset = $3 AND outbox_floor = $4
			AND NOT EXISTS (SELECT FROM outbox o WHERE o.partition = $1 AND o.next_offset > $8)`,
			partition, from.TopicID, from.NextOffset, from.OutboxFloor, to.TopicID, to.NextOffset, to.OutboxFloor, published)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrMoved
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM outbox WHERE partition = $1 AND next_offset <= $2`, partition, published); err != nil {
			return err
		}
		if to.TopicID == from.TopicID && to.NextOffset >= from.NextOffset {
			return nil
		}
		// Its offsets begin anew. What others depend on is published, and they must not wait for these offsets to come again.
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
