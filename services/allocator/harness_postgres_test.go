//go:build integration

package allocator_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// leastPrivileged returns the URL of a new user who is a member of the allocator's role and of nothing else.
func leastPrivileged(t *testing.T, owner string) string {
	t.Helper()
	user, password := "u"+strings.ToLower(rand.Text()[:12]), rand.Text()
	execute := func(ctx context.Context, sql string) {
		conn, err := pgx.Connect(ctx, owner)
		require.NoError(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	execute(t.Context(), "CREATE ROLE "+user+" LOGIN PASSWORD '"+password+"' IN ROLE lotline_allocator")
	t.Cleanup(func() { execute(context.Background(), "DROP ROLE "+user) })
	u, err := url.Parse(owner)
	require.NoError(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}

func (b *bench) postgres() *pgx.Conn {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.owner)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// backupOf is the URL of a database's backup, with the names of both.
func backupOf(t *testing.T, pgURL string) (backup, name, of string) {
	t.Helper()
	u, err := url.Parse(pgURL)
	require.NoError(t, err)
	of = u.Path[1:]
	name = of + "_backup"
	u.Path = "/" + name
	return u.String(), name, of
}

// lines are the order lines as stored, without what differs between two lives of a database.
func (b *bench) lines() []string {
	b.t.Helper()
	conn := b.postgres()
	defer conn.Close(b.t.Context())
	rows, err := conn.Query(b.t.Context(), `SELECT concat_ws(' ', orderid, sku, qty, batchref, allocated_version, command_id, command_offset) FROM order_lines ORDER BY 1`)
	require.NoError(b.t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err)
	return lines
}

// position is where a partition stands in Postgres.
type position struct{ NextOffset, OutboxFloor int64 }

func (b *bench) position(partition int32) (at position) {
	b.t.Helper()
	conn := b.postgres()
	defer conn.Close(b.t.Context())
	require.NoError(b.t, conn.QueryRow(b.t.Context(), `SELECT coalesce(max(next_offset), 0), coalesce(max(outbox_floor), 0)
		FROM partitions WHERE partition = $1`, partition).Scan(&at.NextOffset, &at.OutboxFloor))
	return at
}
