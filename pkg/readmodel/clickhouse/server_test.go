//go:build integration

package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
)

// newDatabase names a database of the test's own on the real server, and drops it at the end.
func newDatabase(t testing.TB) clickhouseclient.Config {
	t.Helper()
	addr := os.Getenv("LOTLINE_TEST_CLICKHOUSE")
	require.NotEmpty(t, addr, "LOTLINE_TEST_CLICKHOUSE must be the host:port of a ClickHouse server's native protocol: run `make test`")
	cfg := clickhouseclient.Config{Addrs: []string{addr}, Database: fmt.Sprintf("clickhouse_test_%016x", rand.Uint64()), User: "default"}
	t.Cleanup(func() {
		server := cfg
		server.Database = "default"
		require.NoError(t, connect(t, server).Exec(context.Background(), "DROP DATABASE IF EXISTS "+cfg.Database))
	})
	return cfg
}

func migrated(t testing.TB) clickhouseclient.Config {
	t.Helper()
	cfg := newDatabase(t)
	require.NoError(t, Migrate(t.Context(), cfg, Layout{}, slog.New(slog.DiscardHandler)))
	return cfg
}

func connect(t testing.TB, cfg clickhouseclient.Config) driver.Conn {
	t.Helper()
	opts, err := options(cfg)
	require.NoError(t, err)
	conn, err := clickhouse.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func newWriter(t testing.TB, cfg clickhouseclient.Config) *Writer {
	t.Helper()
	w, err := NewWriter(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

// lines returns the rows of a query with one string column.
func lines(t *testing.T, conn driver.Conn, query string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	require.NoError(t, err)
	found := []string{}
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		found = append(found, line)
	}
	require.NoError(t, rows.Err())
	return found
}
