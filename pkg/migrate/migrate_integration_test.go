//go:build integration

package migrate_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/migrate"
	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
)

// server returns an address that `make test` sets, for servers that it started.
func server(t *testing.T, variable string) string {
	t.Helper()
	address := os.Getenv(variable)
	require.NotEmpty(t, address, "set %s to the address of a running server, or run the tests with make test", variable)
	return address
}

func uniqueName() string { return fmt.Sprintf("migrate_test_%d", time.Now().UnixNano()) }

// concurrently runs f in several goroutines, as processes that start together.
func concurrently(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		group.Go(func() error { return f(ctx) })
	}
	require.NoError(t, group.Wait())
}

func file(sql string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(sql)} }

func TestPostgres(t *testing.T) {
	database := postgrestest.Database(t)

	// Not repeatable: a second CREATE TABLE would fail.
	files := fstest.MapFS{"00001_a.sql": file("-- +goose Up\nCREATE TABLE a (id int PRIMARY KEY);\nINSERT INTO a VALUES (1);")}
	concurrently(t, func(ctx context.Context) error {
		return migrate.Postgres(ctx, database, files, slog.New(slog.DiscardHandler))
	})
	files["00002_b.sql"] = file("-- +goose Up\nINSERT INTO a VALUES (2);")
	require.NoError(t, migrate.Postgres(t.Context(), database, files, slog.New(slog.DiscardHandler)))
	require.NoError(t, migrate.Postgres(t.Context(), database, files, slog.New(slog.DiscardHandler)), "nothing is pending")

	files["00003_c.sql"] = file("-- +goose Up\nINSERT INTO a VALUES (3);\nINSERT INTO a VALUES (1);")
	require.ErrorContains(t, migrate.Postgres(t.Context(), database, files, slog.New(slog.DiscardHandler)), "00003_c.sql")

	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var rows int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&rows))
	require.Equal(t, 2, rows, "a file that fails leaves nothing behind")
}

func TestPostgresErrorsHoldNoPassword(t *testing.T) {
	files := fstest.MapFS{"00001_a.sql": file("-- +goose Up\nSELECT 1;")}
	for _, dsn := range []string{"postgres://u:hunter2@127.0.0.1:1/x", "postgres://u:hunter2@127.0.0.1:port/x"} {
		err := migrate.Postgres(t.Context(), dsn, files, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "Postgres")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestClickHouse(t *testing.T) {
	address := server(t, "LOTLINE_TEST_CLICKHOUSE")
	name := uniqueName()
	options := func() *clickhouse.Options {
		return &clickhouse.Options{Addr: []string{address}, Auth: clickhouse.Auth{Database: name}}
	}
	files := fstest.MapFS{"00001_a.sql": file("-- +goose Up\nCREATE TABLE IF NOT EXISTS a (id Int64) ENGINE = MergeTree ORDER BY id;\n" +
		"CREATE MATERIALIZED VIEW IF NOT EXISTS v (id Int64) ENGINE = MergeTree ORDER BY id AS SELECT id FROM a;")}
	concurrently(t, func(ctx context.Context) error {
		return migrate.ClickHouse(ctx, options(), files, slog.New(slog.DiscardHandler))
	})
	files["00002_b.sql"] = file("-- +goose Up\nINSERT INTO a VALUES (7);")
	require.NoError(t, migrate.ClickHouse(t.Context(), options(), files, slog.New(slog.DiscardHandler)))
	require.NoError(t, migrate.ClickHouse(t.Context(), options(), files, slog.New(slog.DiscardHandler)), "nothing is pending")

	conn, err := clickhouse.Open(options())
	require.NoError(t, err)
	defer conn.Close()
	defer conn.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name)
	var rows uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count() FROM v").Scan(&rows))
	require.EqualValues(t, 1, rows)
}
