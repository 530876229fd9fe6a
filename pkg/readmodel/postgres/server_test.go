//go:build integration

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

var discard = slog.New(slog.DiscardHandler)

// newSchema names a schema of the test's own on the real server, and drops it at the end.
func newSchema(t testing.TB) Config {
	t.Helper()
	url := os.Getenv("LOTLINE_TEST_POSTGRES")
	require.NotEmpty(t, url, "LOTLINE_TEST_POSTGRES must be the URL of a Postgres superuser: run `make test`")
	cfg := Config{URL: url, Schema: fmt.Sprintf("read_test_%016x", rand.Uint64())}
	t.Cleanup(func() { exec(t, cfg, "DROP SCHEMA IF EXISTS "+cfg.Schema+" CASCADE") })
	return cfg
}

func migrated(t testing.TB) Config {
	t.Helper()
	cfg := newSchema(t)
	warning, err := Migrate(t.Context(), cfg, discard)
	require.NoError(t, err)
	require.Empty(t, warning)
	return cfg
}

// connect returns a connection apart from the stores', to the test's schema.
func connect(t testing.TB, cfg Config) *pgx.Conn {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, cfg.URL)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(ctx) })
	_, err = conn.Exec(ctx, "SET search_path = "+cfg.Schema)
	require.NoError(t, err)
	return conn
}

func exec(t testing.TB, cfg Config, sql string) {
	t.Helper()
	_, err := connect(t, cfg).Exec(context.WithoutCancel(t.Context()), sql)
	require.NoError(t, err)
}

func newWriter(t testing.TB, cfg Config) *Writer {
	t.Helper()
	w, err := NewWriter(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

func newReader(t testing.TB, cfg Config) Reader {
	t.Helper()
	r, err := NewReader(cfg, 5*time.Second)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func newGenerations(t testing.TB, cfg Config) *Generations {
	t.Helper()
	g, err := NewGenerations(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g
}

func place(t testing.TB, cfg Config) readmodeltest.Place {
	return readmodeltest.Place{
		Reader:      newReader(t, cfg),
		Writer:      func(t *testing.T) readmodel.Writer { return newWriter(t, cfg) },
		Generations: func(t *testing.T) readmodel.Generations { return newGenerations(t, cfg) },
		Refuse: func(t *testing.T, sku string) func() {
			exec(t, cfg, "ALTER TABLE stock_g1 ADD CONSTRAINT c CHECK (sku <> '"+sku+"')")
			return func() { exec(t, cfg, "ALTER TABLE stock_g1 DROP CONSTRAINT c") }
		},
	}
}
