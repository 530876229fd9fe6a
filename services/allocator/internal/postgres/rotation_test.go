//go:build integration

package postgres

import (
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/postgresclient"
)

// A password that is replaced while the process runs counts for the next connection, without a restart.
func TestAReplacedPassword(t *testing.T) {
	d := newDatabase(t)
	user, file := "u"+strings.ToLower(rand.Text()[:12]), filepath.Join(t.TempDir(), "password")
	replace := func(password string) { require.NoError(t, os.WriteFile(file, []byte(password+"\n"), 0o600)) }
	d.exec("CREATE ROLE " + user + " LOGIN PASSWORD 'old' IN ROLE lotline_allocator")
	t.Cleanup(func() { d.exec("DROP ROLE " + user) })
	replace("old")
	u, err := url.Parse(d.url)
	require.NoError(t, err)
	u.User = url.User(user)
	s, err := New(postgresclient.Settings{PostgresURL: u.String(), PostgresPasswordFile: file}.ConnURL, time.Minute)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	ask := func() error {
		_, err := s.NextOffset(t.Context(), "topic", 0)
		return err
	}
	require.NoError(t, ask())

	d.exec("ALTER ROLE " + user + " PASSWORD 'new'")
	require.NoError(t, ask(), "a connection lives longer than the password it was made with")
	s.Close()
	var refused *pgconn.PgError
	require.ErrorAs(t, ask(), &refused)
	require.Equal(t, "28P01", refused.Code)
	require.NoError(t, os.Remove(file))
	require.ErrorContains(t, ask(), "--postgres-password-file")
	replace("new")
	require.NoError(t, ask())
}
