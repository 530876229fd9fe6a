// Package postgrestest gives a test a database of its own on the Postgres that `make test` starts.
//
// Integration tests of every module call it. It imports the Postgres client and testify, and nothing of Lotline.
package postgrestest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Database makes an empty database, drops it after the test with whoever is still connected, and returns its URL for a superuser.
func Database(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	Exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { Exec(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	database, err := url.Parse(server(t))
	require.NoError(t, err)
	database.Path = "/" + name
	return database.String()
}

// Exec runs one statement on the server, outside of any database of a test, as a superuser. It may be called in a cleanup.
func Exec(t testing.TB, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, server(t))
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}

func server(t testing.TB) string {
	t.Helper()
	address := os.Getenv("LOTLINE_TEST_POSTGRES")
	require.NotEmpty(t, address, "LOTLINE_TEST_POSTGRES must hold the URL of a Postgres superuser: run this through make test")
	return address
}
