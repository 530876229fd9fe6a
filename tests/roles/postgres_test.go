//go:build integration

package roles

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

func startPostgres(t *testing.T) *servers.Server {
	t.Helper()
	pg, err := servers.StartPostgres(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "postgres")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Stop()) })
	return pg
}

// execute runs statements as the superuser, one by one, in the database of that name.
func execute(t *testing.T, pg *servers.Server, database string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), inDatabase(t, pg.DSN, database))
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func inDatabase(t *testing.T, dsn, database string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Path = "/" + database
	return u.String()
}

// requireTLS gives the server a certificate for 127.0.0.1, and lets nobody but the superuser in without TLS. It returns
// the file of the authority that vouches for it.
func requireTLS(t *testing.T, pg *servers.Server) (authority string) {
	t.Helper()
	site := httptest.NewTLSServer(nil) // for its certificate
	defer site.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw})
	der, err := x509.MarshalPKCS8PrivateKey(site.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	// The server writes its files itself: it refuses a key that others own or can read.
	file := func(name string, content []byte) string {
		return fmt.Sprintf(`COPY (SELECT string_to_table('%s', E'\n')) TO PROGRAM 'umask 077; cat > %s'`, content, name)
	}
	execute(t, pg, "postgres",
		file("server.crt", certificate), file("server.key", key),
		file("pg_hba.conf", []byte("hostssl all /.* 127.0.0.1/32 scram-sha-256\nhostnossl all postgres 127.0.0.1/32 scram-sha-256")),
		"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
	authority = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(authority, certificate, 0o600))
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the server reads its settings in its own time
		conn, err := pgx.Connect(t.Context(), strings.Replace(pg.DSN, "sslmode=disable", "sslmode=require", 1))
		require.NoError(c, err)
		require.NoError(c, conn.Close(t.Context()))
	}, 20*time.Second, 20*time.Millisecond)
	return authority
}

// settings is how somebody logs in whom stack.Login has made: over TLS, with the password in a file.
func settings(t *testing.T, login, authority string) postgresclient.Settings {
	t.Helper()
	u, err := url.Parse(login)
	require.NoError(t, err)
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {authority}}.Encode()
	return postgresclient.Settings{PostgresURL: u.String(), PostgresPasswordFile: secretFile(t, password)}
}

func TestPostgresOverTLS(t *testing.T) {
	pg := startPostgres(t)
	authority := requireTLS(t, pg)
	execute(t, pg, "postgres", "CREATE ROLE reader")
	login, err := stack.Login(t.Context(), pg.DSN, "somebody", "reader")
	require.NoError(t, err)
	good := settings(t, login, authority)
	connect := func(s postgresclient.Settings) error {
		require.NoError(t, s.Validate())
		connURL, err := s.ConnURL()
		require.NoError(t, err)
		conn, err := pgx.Connect(t.Context(), connURL)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		var encrypted bool
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted))
		require.True(t, encrypted)
		return nil
	}
	change := func(from, to string) postgresclient.Settings {
		require.Contains(t, good.PostgresURL, from)
		return postgresclient.Settings{PostgresURL: strings.Replace(good.PostgresURL, from, to, 1), PostgresPasswordFile: good.PostgresPasswordFile}
	}
	require.NoError(t, connect(good))
	require.ErrorContains(t, connect(change("verify-full", "disable")), "no encryption", "without TLS nobody gets in")
	require.ErrorContains(t, connect(change("127.0.0.1:", "localhost:")), "not localhost", "a certificate for another name")

	stranger := httptest.NewTLSServer(nil)
	defer stranger.Close()
	require.ErrorContains(t, connect(change(url.QueryEscape(authority), "system")), "unknown authority")

	wrong := good
	wrong.PostgresPasswordFile = secretFile(t, "hunter2")
	err = connect(wrong)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "28P01", refused.Code)
	require.NotContains(t, err.Error(), "hunter2")
}

// On a server that has never seen a role of Lotline's.
func TestTheFirstMigrationOfAServer(t *testing.T) {
	pg := startPostgres(t)
	for _, c := range []struct {
		name string
		test func(t *testing.T, pg *servers.Server)
	}{
		{"of several databases side by side", sideBySide},
		{"by an owner who may create roles", func(t *testing.T, pg *servers.Server) { withoutASuperuser(t, pg, true) }},
		{"by an owner who may not", func(t *testing.T, pg *servers.Server) { withoutASuperuser(t, pg, false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, pg)
			execute(t, pg, "postgres", "DROP ROLE lotline_migrate, lotline_allocator, lotline_gateway, lotline_bi")
		})
	}
}

// The roles belong to the whole server: the first migrations of several databases, at the same moment, find them or make
// them.
func sideBySide(t *testing.T, pg *servers.Server) {
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		execute(t, pg, "postgres", "CREATE DATABASE "+name)
	}
	var group errgroup.Group
	for _, name := range append(names, names...) {
		group.Go(func() error {
			warning, err := allocator.Migrate(t.Context(), inDatabase(t, pg.DSN, name))
			if err == nil && warning != "" {
				err = errors.New(warning)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	for _, name := range names {
		login, err := stack.Login(t.Context(), inDatabase(t, pg.DSN, name), "allocator_"+name, "lotline_allocator")
		require.NoError(t, err)
		err = readPositions(t.Context(), login)
		require.NoError(t, err)
		execute(t, pg, "postgres", "DROP DATABASE "+name+" WITH (FORCE)", "DROP ROLE allocator_"+name)
	}
}

// A managed database has no superuser. Its owner can do everything if roles may be created; if not, migrate says what to
// do, works for the owner, and gives the rights once that was done.
func withoutASuperuser(t *testing.T, pg *servers.Server, mayCreateRoles bool) {
	password := rand.Text()
	execute(t, pg, "postgres", "CREATE ROLE owner LOGIN PASSWORD '"+password+"'", "CREATE DATABASE lotline OWNER owner")
	if mayCreateRoles {
		execute(t, pg, "postgres", "ALTER ROLE owner CREATEROLE")
	}
	u, err := url.Parse(inDatabase(t, pg.DSN, "lotline"))
	require.NoError(t, err)
	u.User = url.UserPassword("owner", password)
	warning, err := allocator.Migrate(t.Context(), u.String())
	require.NoError(t, err)
	err = readPositions(t.Context(), u.String())
	require.NoError(t, err)
	if !mayCreateRoles {
		require.Contains(t, warning, "user owner may not create them")
		_, advice, _ := strings.Cut(warning, `run "`)
		advice, _, _ = strings.Cut(advice, `", then`)
		execute(t, pg, "lotline", strings.Split(strings.ReplaceAll(advice, `\"`, `"`), ";")...)
		warning, err = allocator.Migrate(t.Context(), u.String())
		require.NoError(t, err)
	}
	require.Empty(t, warning)
	login, err := stack.Login(t.Context(), inDatabase(t, pg.DSN, "lotline"), "allocator_1", "lotline_allocator")
	require.NoError(t, err)
	err = readPositions(t.Context(), login)
	require.NoError(t, err)
	err = readPositions(t.Context(), u.String())
	require.NoError(t, err, "the owner goes on as before")
	warning, err = allocator.Migrate(t.Context(), u.String())
	require.NoError(t, err)
	require.Empty(t, warning)
	execute(t, pg, "postgres", "DROP DATABASE lotline WITH (FORCE)", "DROP ROLE allocator_1", "DROP OWNED BY owner", "DROP ROLE owner")
}

// readPositions is what every allocator begins with.
func readPositions(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SELECT partition, next_offset, outbox_floor FROM partitions")
	return err
}
