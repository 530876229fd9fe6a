package gateway_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/lotline/lotline/services/gateway"
	"github.com/stretchr/testify/require"
)

// A connection over which nothing was asked, as browsers open them ahead, is nothing to be waited for.
func TestAConnectionWithoutARequestDoesNotSpoilTheStop(t *testing.T) {
	cfg := gateway.DefaultConfig()
	cfg.HTTPAddr, cfg.AdminAddr = freeAddr(t), ""
	cfg.Kafka.Brokers, cfg.ClickHouse.Addrs = []string{freeAddr(t)}, []string{freeAddr(t)}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- gateway.Run(ctx, cfg) }()
	healthy := func() bool {
		status, _ := ask(t, http.MethodGet, "http://"+cfg.HTTPAddr+"/healthz", "")
		return status == 200
	}
	require.Eventually(t, healthy, 10*time.Second, 20*time.Millisecond)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", cfg.HTTPAddr)
	require.NoError(t, err)
	defer conn.Close()
	http.DefaultClient.CloseIdleConnections()
	require.True(t, healthy(), "over a connection of its own, which is taken after the other")
	began := time.Now()
	stop()
	require.NoError(t, <-done)
	require.Less(t, time.Since(began), 3*time.Second)
}

// A signal while the process starts, and looks a name up, is no fault.
func TestStopWhileItStarts(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			cfg := gateway.DefaultConfig()
			cfg.HTTPAddr, cfg.AdminAddr = host+":0", host+":0"
			cfg.Kafka.Brokers, cfg.ClickHouse.Addrs = []string{freeAddr(t)}, []string{freeAddr(t)}
			ctx, stop := context.WithCancel(t.Context())
			stop()
			require.NoError(t, gateway.Run(ctx, cfg))
		})
	}
}
