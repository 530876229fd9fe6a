//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

func TestADevStackFindsItsDataAgain(t *testing.T) {
	for name, kind := range map[string]string{"kfake": "kfake", "kafka": "apache"} {
		t.Run(name, func(t *testing.T) {
			c := config{Kafka: kind, RunDir: t.TempDir()}
			for _, port := range []*int{
				&c.KafkaPort, &c.KafkaQuorumPort, &c.PostgresPort, &c.ClickHousePort, &c.ClickHouseHTTPPort,
				&c.GatewayPort, &c.AllocatorAdminPort, &c.ProjectorAdminPort, &c.GatewayAdminPort,
			} {
				*port = freePort(t)
			}
			require.Contains(t, life(t, c), "all have their outcome")
			require.Contains(t, life(t, c), "The data of earlier runs is here.")
			require.NoFileExists(t, filepath.Join(c.RunDir, "endpoints.json"))
		})
	}
}

// life runs a stack until its gateway has answered for a seeded order, and returns what it printed.
func life(t *testing.T, c config) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, c, &out) }()
	require.EventuallyWithT(t, func(collect *assert.CollectT) {
		text, err := os.ReadFile(filepath.Join(c.RunDir, "endpoints.json"))
		require.NoError(collect, err)
		var at endpoints
		require.NoError(collect, json.Unmarshal(text, &at))
		require.NoError(collect, stack.Probe(t.Context(), at.Gateway+"/allocations/order-cafe"))
	}, time.Minute, 50*time.Millisecond)
	require.ErrorContains(t, run(t.Context(), c, &bytes.Buffer{}), "another stack runs in")
	stop()
	require.NoError(t, <-done)
	return out.String()
}

func TestTakenPortsAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", local(0))
	require.NoError(t, err)
	defer l.Close()
	c := config{Kafka: "kfake", GatewayPort: l.Addr().(*net.TCPAddr).Port}
	require.ErrorContains(t, c.portsFree(), "set LOTLINE_GATEWAY_PORT to another")
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", local(0))
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
