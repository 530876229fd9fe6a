// Package isolation gives each black-box test names of its own on the servers that `make test` starts.
//
// The integration tests of this module call it. It imports the servers' client libraries, tests/servers, tests/stack
// and topics.
package isolation

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

// OnEachKafka runs a test on kfake and on Apache Kafka, in subtests of these names: "kfake" and "kafka". TestMain has
// to call servers.Init.
func OnEachKafka(t *testing.T, test func(t *testing.T, s stack.Servers)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) { OnKfake(t, test) })
	t.Run("kafka", func(t *testing.T) { test(t, OnApacheKafka(t)) })
}

// OnApacheKafka returns names on Apache Kafka, for a test that only that one answers. `make test` finds such a test by
// its name, which ends in OnApacheKafka.
func OnApacheKafka(t *testing.T) stack.Servers {
	t.Helper()
	return newServers(t, Setting(t, "LOTLINE_TEST_KAFKA"))
}

// OnKfake runs a test to which it does not matter which Kafka it has.
func OnKfake(t *testing.T, test func(t *testing.T, s stack.Servers)) {
	t.Helper()
	test(t, newServers(t, Kfake(t)))
}

// Kfake starts a kfake for a test alone, and returns its address.
func Kfake(t *testing.T) string {
	t.Helper()
	fake, err := servers.StartKfake(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "kfake")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fake.Stop()) })
	return fake.Addr
}

// Setting returns the value of a variable that tests/cmd/servers sets.
func Setting(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	require.NotEmpty(t, value, "%s is not set: run this through tests/cmd/servers, as `make test` does", variable)
	return value
}

// newServers makes a Postgres database and names for topics and a ClickHouse database, all removed after the test.
func newServers(t *testing.T, broker string) stack.Servers {
	t.Helper()
	s := Databases(t)
	s.Kafka, s.TopicPrefix, s.Replication = []string{broker}, s.Database, 1
	t.Cleanup(func() {
		client, err := kgo.NewClient(kgo.SeedBrokers(broker))
		require.NoError(t, err)
		defer client.Close()
		set := topics.Declared(s.TopicPrefix)
		_, err = kadm.NewClient(client).DeleteTopics(context.WithoutCancel(t.Context()), set.Commands.Name, set.Events.Name, set.DeadLetters.Name)
		require.NoError(t, err)
	})
	return s
}

// Databases makes a Postgres database and a name for one in ClickHouse, both removed after the test, for a test that
// brings its own Kafka.
func Databases(t *testing.T) stack.Servers {
	t.Helper()
	database, err := url.Parse(postgrestest.Database(t))
	require.NoError(t, err)
	name, native := database.Path[1:], Setting(t, "LOTLINE_TEST_CLICKHOUSE")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, user := range stack.Users(name) {
			postgrestest.Exec(t, "DROP ROLE IF EXISTS "+user)
		}
		ch, err := clickhouse.Open(&clickhouse.Options{Addr: []string{native}})
		require.NoError(t, err)
		require.NoError(t, ch.Exec(ctx, "DROP DATABASE IF EXISTS "+name))
		require.NoError(t, ch.Close())
	})
	return stack.Servers{PostgresURL: database.String(), ClickHouse: native, Database: name}
}
