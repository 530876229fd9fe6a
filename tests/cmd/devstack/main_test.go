//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

// liveWithin is what a stack on Apache Kafka may take on a busy machine.
const liveWithin = 2 * time.Minute

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
				var err error
				*port, err = ports.Free()
				require.NoError(t, err)
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
	for began := time.Now(); ; {
		err := answers(t.Context(), filepath.Join(c.RunDir, "endpoints.json"))
		if err == nil {
			break
		}
		require.Less(t, time.Since(began), liveWithin, "not up: %v", err)
		select {
		case err := <-done:
			require.NoError(t, err)
			require.Fail(t, "it ended by itself", out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	require.ErrorContains(t, run(t.Context(), c, &bytes.Buffer{}), "another stack runs in")
	stop()
	require.NoError(t, <-done)
	return out.String()
}

// answers asks the stack of an endpoints.json for a seeded order.
func answers(ctx context.Context, endpointsFile string) error {
	text, err := os.ReadFile(endpointsFile)
	if err != nil {
		return err
	}
	var at endpoints
	if err := json.Unmarshal(text, &at); err != nil {
		return err
	}
	return stack.Probe(ctx, at.Gateway+"/allocations/order-cafe")
}

func TestTakenPortsAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", local(0))
	require.NoError(t, err)
	defer l.Close()
	c := config{Kafka: "kfake", GatewayPort: l.Addr().(*net.TCPAddr).Port}
	require.ErrorContains(t, c.portsFree(), "set LOTLINE_GATEWAY_PORT to another")
	c = config{Kafka: "kfake", GatewayPort: 1, GatewayAdminPort: 1, KafkaPort: 99999}
	require.ErrorContains(t, c.portsFree(), "LOTLINE_GATEWAY_ADMIN_PORT and LOTLINE_GATEWAY_PORT are both 1: set one to another")
	require.ErrorContains(t, c.portsFree(), "LOTLINE_KAFKA_PORT=99999 is no port")
}

// Whoever stops a stack that still waits for its first orders has not seen it fail.
func TestCtrlCWhileTheFirstOrdersAreAwaitedIsNoFailure(t *testing.T) {
	gateway := httptest.NewServer(http.NotFoundHandler())
	defer gateway.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	require.ErrorIs(t, awaitOutcome(ctx, gateway.URL), context.Canceled)
}
