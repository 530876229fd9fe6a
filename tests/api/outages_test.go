//go:build integration

package api

import (
	"fmt"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

// Each side goes on without the other's server: ClickHouse and Kafka are killed in turn, and come back.
func TestEachSideGoesOnWithoutTheOthersServer(t *testing.T) {
	dir := t.TempDir()
	kafka, err := servers.StartKfake(t.Context(), servers.Options{DataDir: filepath.Join(dir, "kfake")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Stop()) })
	clickHouse, err := servers.StartClickHouse(t.Context(), servers.Options{DataDir: filepath.Join(dir, "clickhouse")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, clickHouse.Stop()) })
	on := isolation.Databases(t)
	on.Kafka, on.TopicPrefix, on.Replication, on.ClickHouse = []string{kafka.Addr}, on.Database, 1, clickHouse.Addr
	config, err := stack.Configure(on)
	require.NoError(t, err)
	running, err := stack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	s := &site{T: t, config: config, gateway: "http://" + config.Gateway.HTTPAddr}

	require.Equal(t, 201, s.ask(s.gateway, "POST", "/batches", `{"ref":"b1","sku":"CHAIR","qty":100,"eta":null}`, "Prefer", "wait=10").status)
	allocate := func(order string, header ...string) answer {
		return s.ask(s.gateway, "POST", "/orders/"+order+"/lines", `{"sku":"CHAIR","qty":1}`, append(header, "Prefer", "wait=10")...)
	}
	sees := func(order, token string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			got := s.ask(s.gateway, "GET", "/allocations/"+order+"/CHAIR?after="+token, "")
			require.Equal(c, 200, got.status, got.body)
		}, within, look)
	}
	first := allocate("o-1")
	require.Equal(t, 201, first.status, first.body)
	sees("o-1", first.header.Get("Lotline-Token"))

	require.NoError(t, clickHouse.Kill())
	killed := time.Now().Add(-time.Second) // the message has whole seconds
	for _, question := range []string{"/allocations/o-1", "/allocations/o-1/CHAIR", "/commands/c", "/batches/CHAIR/other", "/availability?sku=NONE"} {
		began := time.Now()
		got := s.ask(s.gateway, "GET", question, "")
		require.Equal(t, 503, got.status, "%s: %s", question, got.body)
		require.Equal(t, "1", got.header.Get("Retry-After"))
		require.Less(t, time.Since(began), 4*time.Second)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		found := regexp.MustCompile(`has not answered since ([^;]*); try again`).FindStringSubmatch(s.ask(s.gateway, "GET", "/allocations/o-1", "").body)
		require.Len(c, found, 2)
		since, err := time.Parse(time.RFC3339, found[1])
		require.NoError(c, err)
		require.WithinRange(c, since, killed, time.Now())
	}, within, look)
	second := allocate("o-2", "Idempotency-Key", "k-2")
	require.Equal(t, 201, second.status, second.body)
	again := allocate("o-2", "Idempotency-Key", "k-2")
	require.Equal(t, second.body, again.body)
	require.NoError(t, clickHouse.Restart(t.Context()))
	sees("o-2", second.header.Get("Lotline-Token"))

	require.NoError(t, kafka.Kill())
	for i := range 3 {
		began := time.Now()
		got := allocate(fmt.Sprintf("o-3-%d", i))
		require.Equal(t, 503, got.status, got.body)
		require.Contains(t, got.body, "Kafka did not acknowledge the command in time")
		require.Less(t, time.Since(began), 1500*time.Millisecond, "a second, and a busy machine's answer")
		require.Equal(t, 200, s.ask(s.gateway, "GET", "/allocations/o-1/CHAIR", "").status)
		require.Equal(t, 200, s.ask(s.gateway, "GET", "/batches/CHAIR/b1", "").status)
	}
	got := s.ask(s.gateway, "GET", "/allocations/o-1/CHAIR?after="+second.header.Get("Lotline-Token"), "", "Prefer", "wait=1")
	require.Equal(t, 503, got.status, "how far the read model is cannot be known")
	require.NoError(t, kafka.Restart(t.Context()))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got := allocate("o-4", "Idempotency-Key", "k-4")
		require.Equal(c, 201, got.status, got.body)
	}, 60*time.Second, time.Second)
}
