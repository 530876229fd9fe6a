//go:build integration

package crash

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/servers"
)

// Two transactions lock two rows crosswise: one of them is ended by Postgres, and mixed-producers would say so.
func TestADeadlockIsFoundInPostgresLog(t *testing.T) {
	s, err := servers.StartPostgres(t.Context(), servers.Options{DataDir: t.TempDir() + "/postgres"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), s.DSN)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	a, b := connect(), connect()
	_, err = a.Exec(t.Context(), `CREATE TABLE rows AS SELECT generate_series(1, 2) AS n`)
	require.NoError(t, err)
	logged, err := os.Stat(s.LogFile)
	require.NoError(t, err)
	require.NoError(t, noDeadlocks(s.LogFile, logged.Size()))

	lock := func(conn *pgx.Conn, n int) error {
		_, err := conn.Exec(t.Context(), `SELECT FROM rows WHERE n = $1 FOR UPDATE`, n)
		return err
	}
	for _, conn := range []*pgx.Conn{a, b} {
		_, err := conn.Exec(t.Context(), `BEGIN`)
		require.NoError(t, err)
	}
	require.NoError(t, lock(a, 1))
	require.NoError(t, lock(b, 2))
	crossed := make(chan error, 1)
	go func() { crossed <- lock(a, 2) }()
	err = lock(b, 1)
	if err != nil { // the one that is ended lets the other have its row
		require.NoError(t, <-crossed)
	} else {
		err = <-crossed
	}
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "40P01", pg.Code)
	require.ErrorContains(t, noDeadlocks(s.LogFile, logged.Size()), "deadlock")
}
