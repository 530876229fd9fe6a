//go:build integration

package stack_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

func TestAStackAllocatesAndStops(t *testing.T) {
	kafkas := map[string]func(*testing.T) string{
		"kfake": func(t *testing.T) string {
			s, err := servers.StartKfake(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "kfake")})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Stop()) })
			return s.Addr
		},
		"kafka": func(t *testing.T) string {
			return setting(t, "LOTLINE_TEST_KAFKA")
		},
	}
	for name, kafka := range kafkas {
		t.Run(name, func(t *testing.T) {
			config, err := stack.Configure(isolated(t, kafka(t)))
			require.NoError(t, err)
			s, err := stack.Start(t.Context(), config)
			require.NoError(t, err)
			base := "http://" + config.Gateway.HTTPAddr
			require.Equal(t, http.StatusCreated, post(t, base+"/add_batch", `{"ref":"b-1","sku":"RED-CHAIR","qty":10,"eta":null}`))
			require.Equal(t, http.StatusAccepted, post(t, base+"/allocate", `{"orderid":"o-1","sku":"RED-CHAIR","qty":3}`))
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				require.NoError(c, stack.Probe(t.Context(), base+"/allocations/o-1"))
			}, 20*time.Second, 50*time.Millisecond)
			require.NoError(t, s.Stop())

			// What is prepared already is left alone, and a second life goes on.
			s, err = stack.Start(t.Context(), config)
			require.NoError(t, err)
			require.NoError(t, stack.Probe(t.Context(), base+"/allocations/o-1"))
			require.NoError(t, s.Stop())
		})
	}
}

func TestAServiceThatFailsEndsTheStack(t *testing.T) {
	config, err := stack.Configure(stack.Servers{Kafka: []string{"127.0.0.1:1"}, TopicPrefix: "x", Replication: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = stack.Start(ctx, config)
	require.ErrorContains(t, err, "compare the topics")
}

// isolated returns servers with a name of the test's own in each, removed after it.
func isolated(t *testing.T, broker string) stack.Servers {
	t.Helper()
	name := "stack_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	pg := setting(t, "LOTLINE_TEST_POSTGRES")
	conn, err := pgx.Connect(t.Context(), pg)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	native := setting(t, "LOTLINE_TEST_CLICKHOUSE")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
		ch, err := clickhouse.Open(&clickhouse.Options{Addr: []string{native}})
		require.NoError(t, err)
		require.NoError(t, ch.Exec(ctx, "DROP DATABASE "+name))
		require.NoError(t, ch.Close())
		client, err := kgo.NewClient(kgo.SeedBrokers(broker))
		require.NoError(t, err)
		defer client.Close()
		set := topics.Declared(name)
		_, err = kadm.NewClient(client).DeleteTopics(ctx, set.Commands.Name, set.Events.Name, set.DeadLetters.Name)
		require.NoError(t, err)
	})
	database, err := url.Parse(pg)
	require.NoError(t, err)
	database.Path = "/" + name
	return stack.Servers{
		Kafka: []string{broker}, TopicPrefix: name, PostgresURL: database.String(), ClickHouse: native, Database: name,
		Replication: 1,
	}
}

func setting(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	require.NotEmpty(t, value, "%s is not set: run this through tests/cmd/servers, as `make test` does", variable)
	return value
}

func post(t *testing.T, address, body string) int {
	t.Helper()
	response, err := http.Post(address, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}
