package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// Position is how far a partition is.
type Position struct {
	TopicID     string // of the commands topic when the partition was first seen; offsets mean nothing in another
	NextOffset  int64  // applied below
	OutboxFloor int64  // published below, its outbox rows may be gone
}

// Positions reads the positions of partitions over a connection of its own, so that it may be called while a worker
// uses its Store. A partition that is not known yet is added, at 0 of the topic with that id.
func (s *Store) Positions(ctx context.Context, topicID string, partitions []int32) (map[int32]Position, error) {
	ctx, cancel := context.WithTimeout(ctx, s.answerMax)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	if _, err := conn.Exec(ctx, `INSERT INTO partitions (partition, topic_id) SELECT p, $2 FROM unnest($1::integer[]) AS p
		ON CONFLICT DO NOTHING`, partitions, topicID); err != nil {
		return nil, fmt.Errorf("add partitions %v: %w", partitions, err)
	}
	rows, err := conn.Query(ctx, `SELECT partition, topic_id, next_offset, outbox_floor FROM partitions WHERE partition = ANY ($1)`, partitions)
	if err != nil {
		return nil, fmt.Errorf("read the positions of partitions %v: %w", partitions, err)
	}
	found := make(map[int32]Position, len(partitions))
	var partition int32
	var p Position
	if _, err := pgx.ForEachRow(rows, []any{&partition, &p.TopicID, &p.NextOffset, &p.OutboxFloor}, func() error {
		found[partition] = p
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the positions of partitions %v: %w", partitions, err)
	}
	return found, nil
}

// Standing reads where each of the partitions stands. A partition without a row is at 0 of no topic.
func (s *Store) Standing(ctx context.Context, partitions []int32) (map[int32]Position, error) {
	found := make(map[int32]Position, len(partitions))
	err := s.with(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, `SELECT partition, topic_id, next_offset, outbox_floor FROM partitions WHERE partition = ANY ($1)`, partitions)
		if err != nil {
			return err
		}
		var partition int32
		var p Position
		_, err = pgx.ForEachRow(rows, []any{&partition, &p.TopicID, &p.NextOffset, &p.OutboxFloor}, func() error {
			found[partition] = p
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read where the partitions stand: %w", err)
	}
	return found, nil
}

// Waiting is the part of a partition's outbox that a recovery publishes, as of one moment.
type Waiting struct {
	Position
	Segments []outbox.Segment // those that overlap the range asked for, in order
	TooMuch  bool             // they have more bytes than were allowed; Segments is not to be used
}

// Outbox reads the segments of [from, next) together with the position, in one snapshot: read apart, a segment that
// was published and deleted in between would look as if it had been lost. Of more than bytesMax nothing is kept.
func (s *Store) Outbox(ctx context.Context, partition int32, from, next int64, bytesMax int) (Waiting, error) {
	var w Waiting
	bytes := 0
	err := s.with(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, `SELECT p.topic_id, p.next_offset, p.outbox_floor,
				coalesce(o.first_offset, 0), coalesce(o.next_offset, 0), o.segment, o.depends_on
			FROM partitions p LEFT JOIN outbox o ON o.partition = p.partition AND o.next_offset > $2 AND o.first_offset < $3
			WHERE p.partition = $1 ORDER BY o.first_offset`, partition, from, next)
		if err != nil {
			return err
		}
		var seg outbox.Segment
		_, err = pgx.ForEachRow(rows, []any{&w.TopicID, &w.NextOffset, &w.OutboxFloor, &seg.First, &seg.Next, &seg.Data, &seg.DependsOn}, func() error {
			bytes += len(seg.Data)
			switch {
			case bytes > bytesMax:
				w.TooMuch, w.Segments = true, nil
			case seg.Next > 0:
				w.Segments = append(w.Segments, seg)
			}
			seg.Data, seg.DependsOn = nil, nil
			return nil
		})
		return err
	})
	if err != nil {
		return Waiting{}, fmt.Errorf("read the outbox of %d@%d..%d: %w", partition, from, next, err)
	}
	return w, nil
}

// expiredMax is how many ids of a partition one Trim forgets at the most.
const expiredMax = 10_000

// Published says up to where a partition's events are published: a group offset that was seen to be committed, never
// a guess, for what is deleted cannot be published again.
type Published struct {
	TopicID    string // that the offset is of; of a partition whose row is of another nothing is deleted but expired ids
	Partition  int32
	Offset     int64
	IDsExpired time.Time // ids of commands that this partition brought before are forgotten; zero keeps all
}

// Trim deletes the segments whose events are all published, raises the outbox floor, and forgets expired ids. The
// floor never passes the next offset: after a restore, what was published can be ahead of what is applied. Of expired
// ids it deletes a bounded number: all that gathered during an outage could take longer than a transaction may.
//
// The sequence that needs the topic's id: A, idle, has published below 1000 and freezes; the topic is created anew and
// adopted; B applies commands 0..9 of it; A wakes and trims below 1000, before it hears that it is out of the group. B's
// events would be gone, and the next owner would take them for published.
//
// The sequence for which ids are kept that have expired: A is idle; Postgres goes away and comes back from a backup of this morning, which
// the trim is the first to meet. The commands since then are decided again, and are as old as they were: a repeat among them that was
// ignored, because its id was there, would be allocated now.
func (s *Store) Trim(ctx context.Context, done []Published) error {
	n := len(done)
	topicIDs, partitions, offsets, expired := make([]string, n), make([]int32, n), make([]int64, n), make([]time.Time, n)
	for i, d := range done {
		topicIDs[i], partitions[i], offsets[i], expired[i] = d.TopicID, d.Partition, d.Offset, d.IDsExpired
	}
	err := s.with(ctx, func(ctx context.Context, c *pgx.Conn) error {
		b := &pgx.Batch{}
		b.Queue(`DELETE FROM outbox o USING unnest($1::text[], $2::integer[], $3::bigint[]) AS k (topic_id, partition, published)
			JOIN partitions p ON p.partition = k.partition AND p.topic_id = k.topic_id
			WHERE o.partition = k.partition AND o.next_offset <= k.published`, topicIDs, partitions, offsets)
		b.Queue(`UPDATE partitions p SET outbox_floor = least(k.published, p.next_offset)
			FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS k (topic_id, partition, published)
			WHERE p.partition = k.partition AND p.topic_id = k.topic_id AND p.outbox_floor < least(k.published, p.next_offset)`, topicIDs, partitions, offsets)
		b.Queue(`DELETE FROM command_seen s USING unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[]) AS k (topic_id, partition, published, expired)
			CROSS JOIN LATERAL (SELECT ctid FROM command_seen e WHERE e.command_partition = k.partition AND e.command_time < k.expired
				ORDER BY e.command_time LIMIT $5) AS e
			WHERE s.ctid = e.ctid AND s.command_partition = k.partition AND s.command_time < k.expired
				AND NOT EXISTS (SELECT FROM partitions p WHERE p.partition = k.partition AND p.topic_id = k.topic_id AND p.next_offset < k.published)`, topicIDs, partitions, offsets, expired, expiredMax)
		return c.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("trim the outbox: %w", err)
	}
	return nil
}
