//go:build integration

// Package roles holds the tests of what every user of the servers may and may not do: on a Postgres with TLS and a
// ClickHouse with the users that deployments have, a pipeline runs whose services have no more rights than they need.
//
// It imports the test servers and stack, and the operator's command.
package roles

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/projector"
	"github.com/lotline/lotline/tests/servers"
)

// database is the name that the users' grants have.
const database = "lotline"

var clickHouseUsers = []string{"lotline_migrate", "lotline_writer", "lotline_reader", "lotline_operator", "lotline_bi"}

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	os.Exit(m.Run())
}

// clickHouse is a server with Lotline's users.
type clickHouse struct {
	*servers.Server
	passwords map[string]string // of each user, in a file
}

// startClickHouse starts a server on the file that deployments use, and migrates its database as they do.
func startClickHouse(t *testing.T, change ...func(users string) string) clickHouse {
	t.Helper()
	return startClickHouseWith(t, rand.Text, change...)
}

// startClickHouseWith is startClickHouse with passwords of the test's choice.
func startClickHouseWith(t *testing.T, newPassword func() string, change ...func(users string) string) clickHouse {
	t.Helper()
	ch := clickHouse{passwords: make(map[string]string)}
	for _, user := range clickHouseUsers {
		password := newPassword()
		ch.passwords[user] = secretFile(t, password)
		hash := sha256.Sum256([]byte(password))
		t.Setenv("LOTLINE_CLICKHOUSE_"+strings.ToUpper(strings.TrimPrefix(user, "lotline_"))+"_SHA256", hex.EncodeToString(hash[:]))
	}
	dir := filepath.Join(t.TempDir(), "clickhouse")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "users.d"), 0o755))
	users, err := os.ReadFile("../../services/projector/clickhouse-users.xml")
	require.NoError(t, err)
	for _, c := range change {
		users = []byte(c(string(users)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users.d", "lotline.xml"), users, 0o644))
	ch.Server, err = servers.StartClickHouse(t.Context(), servers.Options{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ch.Stop()) })
	require.NoError(t, ch.migrate(t, "lotline_migrate"))
	return ch
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	return file
}

// as is how a service reaches the server as a user.
func (ch clickHouse) as(user string) clickhouseclient.Config {
	return clickhouseclient.Config{Addrs: []string{ch.Addr}, Database: database, User: user, PasswordFile: ch.passwords[user]}
}

func (ch clickHouse) migrate(t *testing.T, user string) error {
	t.Helper()
	_, err := projector.Migrate(t.Context(), stores.MigrateConfig{Config: stores.Config{ReadModel: stores.ClickHouse, ClickHouse: stores.ClickHouseSettings(ch.as(user))}})
	return err
}

func (ch clickHouse) connect(t *testing.T, user string) driver.Conn {
	t.Helper()
	opts, err := ch.as(user).Options()
	require.NoError(t, err)
	conn, err := clickhouse.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// owner may do everything, as only a test's server lets somebody without a password.
func (ch clickHouse) owner(t *testing.T) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{ch.Addr}, Auth: clickhouse.Auth{Database: database}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.Ping(context.WithoutCancel(t.Context())))
	return conn
}
