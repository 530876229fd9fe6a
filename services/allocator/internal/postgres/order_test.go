//go:build integration

package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// chairBy is a commit that moves CHAIR on and depends on another partition's events.
func chairBy(partition int32, from int64, old uint64, dependsOn map[int32]int64) apply.Write {
	return apply.Write{
		TopicID: "topic", Partition: partition, From: from, Next: from + 5,
		Products:  []apply.Moved{{SKU: "CHAIR", Old: old, New: old + 1, Available: 1, Offset: from + 2}},
		Segments:  []outbox.Segment{{First: from, Next: from + 3, Data: []byte{1}}, {First: from + 3, Next: from + 5, Data: []byte{1}}},
		DependsOn: dependsOn,
	}
}

// by loads which command made CHAIR's version.
func by(t *testing.T, s *Store) allocation.Position {
	t.Helper()
	got, err := s.Load(t.Context(), apply.Need{Products: []string{"CHAIR"}})
	require.NoError(t, err)
	require.Len(t, got.Products, 1)
	return got.Products[0].By
}

// holder is a transaction of somebody else that has run statements and is open until the test ends it.
func (d database) holder(statements ...string) pgx.Tx {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.url)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(d.t.Context())
	require.NoError(d.t, err)
	for _, sql := range statements {
		_, err = tx.Exec(d.t.Context(), sql)
		require.NoError(d.t, err)
	}
	return tx
}

// moving begins a Move, and tells how it ended.
func (d database) moving(ctx context.Context, partition int32, from, to Position) <-chan error {
	moved := make(chan error, 1)
	go func() { moved <- Move(ctx, d.url, partition, from, to) }()
	return moved
}

// TestWhoMadeAVersion: it is stored with the version, and what a segment depends on is stored with the segment, so that
// whoever publishes it later waits as its maker would have.
func TestWhoMadeAVersion(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), chairBy(0, 0, 0, nil)))
	require.Equal(t, allocation.Position{Partition: 0, Offset: 2}, by(t, s))
	require.NoError(t, s.Commit(t.Context(), chairBy(1, 0, 1, map[int32]int64{0: 3})))
	require.Equal(t, allocation.Position{Partition: 1, Offset: 2}, by(t, s))
	got, err := s.Outbox(t.Context(), 1, 0, 5, 1<<30)
	require.NoError(t, err)
	for _, segment := range got.Segments {
		require.Equal(t, map[int32]int64{0: 3}, segment.DependsOn)
	}
	require.Len(t, got.Segments, 2)
	read := apply.Write{TopicID: "topic", From: 5, Next: 6, Products: []apply.Moved{{SKU: "CHAIR", Old: 2, New: 2, Offset: 5}}}
	require.NoError(t, s.Commit(t.Context(), read))
	require.Equal(t, allocation.Position{Partition: 1, Offset: 2}, by(t, s), "a SKU only read")

	d.exec(`UPDATE products SET command_partition = NULL, command_offset = NULL`)
	require.Equal(t, allocation.Position{Partition: -1, Offset: -1}, by(t, s), "a version of before this was kept")
}

// TestAPartitionMovedBack: its offsets begin anew, so nobody may go on to wait for the old ones: not the segments that are
// there, not the SKUs that it made, and not an allocator that has such a SKU cached.
func TestAPartitionMovedBack(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), chairBy(0, 0, 0, nil)))
	require.NoError(t, s.Commit(t.Context(), chairBy(1, 0, 1, map[int32]int64{0: 3})))
	require.NoError(t, s.Commit(t.Context(), chairBy(0, 5, 2, map[int32]int64{1: 3})))
	ahead := Position{TopicID: "topic", NextOffset: 20, OutboxFloor: 20}
	require.NoError(t, Move(t.Context(), d.url, 0, Position{TopicID: "topic", NextOffset: 10}, ahead))
	require.Equal(t, allocation.Position{Partition: 0, Offset: 7}, by(t, s), "moved ahead, what was published stays published")

	require.NoError(t, Move(t.Context(), d.url, 0, ahead, Position{TopicID: "new", NextOffset: 1}))
	require.Equal(t, allocation.Position{Partition: -1, Offset: -1}, by(t, s))
	got, err := s.Outbox(t.Context(), 1, 0, 5, 1<<30)
	require.NoError(t, err)
	for _, segment := range got.Segments {
		require.Nil(t, segment.DependsOn)
	}
	before := d.contents()
	require.ErrorIs(t, s.Commit(t.Context(), chairBy(1, 5, 3, map[int32]int64{0: 8})), apply.ErrRefused)
	require.Equal(t, before, d.contents())
	require.NoError(t, s.Commit(t.Context(), chairBy(1, 5, 3, nil)))
}

// TestDependenciesWaitForAMove: a move back and a commit that depends on the partition come one after the other, and do
// not wait for each other in a circle; commits that depend on each other's partitions do not wait at all.
func TestDependenciesWaitForAMove(t *testing.T) {
	d := newDatabase(t)
	a, b := d.store(time.Minute), d.store(time.Minute)
	require.NoError(t, a.Commit(t.Context(), chairBy(0, 0, 0, nil)))
	require.NoError(t, a.Commit(t.Context(), chairBy(1, 0, 1, nil)))
	other := func(partition int32, sku string, on int32) apply.Write {
		w := chairBy(partition, 5, 0, map[int32]int64{on: 3})
		w.Products[0].SKU = sku
		return w
	}
	var moved <-chan error
	require.NoError(t, a.Locked(t.Context(), "topic", 0, 5, nil, func(ctx context.Context, s apply.Session) error {
		require.NoError(t, b.Commit(ctx, other(1, "LAMP", 0)), "partition 0 is held, and depended on")
		require.NoError(t, s.Commit(ctx, other(0, "TABLE", 1)))
		moved = d.moving(context.Background(), 1, Position{TopicID: "topic", NextOffset: 10}, Position{TopicID: "new"})
		d.awaitWaiter("the move waits for a commit that depends on its partition")
		return nil
	}))
	require.NoError(t, <-moved)
	next, err := a.NextOffset(t.Context(), "new", 1)
	require.NoError(t, err)
	require.Zero(t, next)
	got, err := a.Outbox(t.Context(), 0, 5, 10, 1<<30)
	require.NoError(t, err)
	require.NotEmpty(t, got.Segments)
	require.Nil(t, got.Segments[0].DependsOn, "the move saw it")
}

// TestAMoveAndAHolderOfItsSKUs: an allocator holds CHAIR, which partition 0 made, and is about to commit what depends on
// that; partition 0 is moved back meanwhile and wants CHAIR. Neither waits for the other in a circle.
func TestAMoveAndAHolderOfItsSKUs(t *testing.T) {
	d := newDatabase(t)
	a := d.store(time.Minute)
	require.NoError(t, a.Commit(t.Context(), chairBy(0, 0, 0, nil)))
	var moved <-chan error
	require.NoError(t, a.Locked(t.Context(), "topic", 1, 0, []string{"CHAIR"}, func(ctx context.Context, s apply.Session) error {
		moved = d.moving(context.Background(), 0, Position{TopicID: "topic", NextOffset: 5}, Position{TopicID: "new"})
		d.awaitWaiter("the move waits for CHAIR")
		return s.Commit(ctx, chairBy(1, 0, 1, map[int32]int64{0: 3}))
	}))
	require.NoError(t, <-moved)
	require.Equal(t, allocation.Position{Partition: 1, Offset: 2}, by(t, a))
	got, err := a.Outbox(t.Context(), 1, 0, 5, 1<<30)
	require.NoError(t, err)
	require.Len(t, got.Segments, 2)
	require.Nil(t, got.Segments[0].DependsOn)
}

// TestAMoveThatPostgresEnds: a trim that comes from the other side makes Postgres end one of the two. If it is the move, that
// is done again.
func TestAMoveThatPostgresEnds(t *testing.T) {
	d := newDatabase(t)
	a := d.store(time.Minute)
	require.NoError(t, a.Commit(t.Context(), chairBy(0, 0, 0, nil)))
	require.NoError(t, a.Commit(t.Context(), chairBy(1, 0, 1, map[int32]int64{0: 3})))
	// Its patience is such that it is the move that looks for a circle.
	tx := d.holder(`SET LOCAL deadlock_timeout = '1h'`, `DELETE FROM outbox WHERE partition = 1`)
	moved := d.moving(context.Background(), 0, Position{TopicID: "topic", NextOffset: 5}, Position{TopicID: "new"})
	d.awaitWaiter("the move waits for the outbox")
	_, err := tx.Exec(t.Context(), `UPDATE partitions SET outbox_floor = 0 WHERE partition = 0`)
	require.NoError(t, err, "the move is the one that Postgres ended")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-moved)
}

// TestAMoveOfManySKUs: of more SKUs than one transaction should change, some at a time are taken out. One that cannot be had
// keeps the move from being done, and not what was done before it.
func TestAMoveOfManySKUs(t *testing.T) {
	d := newDatabase(t)
	d.store(time.Minute)
	d.exec(`INSERT INTO products (sku, version, available, command_partition, command_offset)
		SELECT 'S' || lpad(n::text, 6, '0'), 1, 0, n % 2, 7 FROM generate_series(1, 25000) AS n`)
	tx := d.holder(`SELECT FROM products WHERE sku = 'S024999' FOR UPDATE`)
	left := func() (of0, of1 int) {
		d.row(`SELECT count(*) FILTER (WHERE command_partition = 0), count(*) FILTER (WHERE command_partition = 1) FROM products`, &of0, &of1)
		return of0, of1
	}
	ctx, cancel := context.WithCancel(t.Context())
	from, to := Position{TopicID: "topic"}, Position{TopicID: "new"}
	moved := d.moving(ctx, 1, from, to)
	require.Eventually(t, func() bool { _, of1 := left(); return of1 == 2500 }, time.Minute, 10*time.Millisecond, "two pages are done")
	cancel()
	require.ErrorIs(t, <-moved, context.Canceled)
	require.NoError(t, tx.Rollback(t.Context()))
	require.ErrorIs(t, Move(t.Context(), d.url, 1, Position{TopicID: "topic", NextOffset: 1}, to), ErrMoved)
	_, of1 := left()
	require.Equal(t, 2500, of1, "a partition that is elsewhere is left alone")
	require.NoError(t, Move(t.Context(), d.url, 1, from, to))
	of0, of1 := left()
	require.Equal(t, []int{12500, 0}, []int{of0, of1})
}

// TestADatabaseWithoutTables says what to do.
func TestADatabaseWithoutTables(t *testing.T) {
	d := newDatabase(t)
	d.exec(`DROP TABLE outbox, partitions`)
	_, err := AllPositions(t.Context(), d.url)
	require.ErrorContains(t, err, "run `lotline migrate`")
}
