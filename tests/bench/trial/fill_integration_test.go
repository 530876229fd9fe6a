//go:build integration

package trial

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/tests/internal/isolation"
)

// Order lines that took long to make are there for the next run, and nothing that work has left between them.
func TestSeededLinesAreThereAgain(t *testing.T) {
	ctx := t.Context()
	g, err := NewGround(ctx, Servers{Postgres: postgrestest.Database(t), Kafka: []string{isolation.Kfake(t)}})
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	require.NoError(t, err)
	const lines = 317
	t.Cleanup(func() { require.NoError(t, g.Exec(context.Background(), "DROP DATABASE IF EXISTS "+seeded(lines))) })
	require.NoError(t, g.Seed(ctx, lines))
	require.NoError(t, g.Seed(ctx, lines), "one that is there stays")
	for range 2 {
		s, err := g.NewSite(ctx, 1)
		require.NoError(t, err)
		require.NoError(t, s.Fill(ctx, lines))
		require.Equal(t, g.database(seeded(lines)), s.PostgresURL)
		conn, err := pgx.Connect(ctx, s.PostgresURL)
		require.NoError(t, err)
		var before int
		require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) + (SELECT count(*) FROM products) + (SELECT count(*) FROM partitions) FROM order_lines").Scan(&before))
		require.Equal(t, lines, before)
		w := Base(20).New(100, 1)
		require.NoError(t, s.Stock(ctx, w))
		_, err = conn.Exec(ctx, `INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version, command_source, command_id, command_partition, command_offset, command_time)
			SELECT 'o-' || n, 'SKU-' || lpad((n % 20)::text, 6, '0'), 2, 'batch-0', 2, '/bench', n, 0, n, now() FROM generate_series(1, 100) n`)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "INSERT INTO partitions (partition, topic_id) VALUES (0, '')")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
		require.NoError(t, s.Close())
	}
}
