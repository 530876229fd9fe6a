package reads

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClickHouseAway(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // accepts connections, and never answers
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for name, addr := range map[string]string{"silent": listener.Addr().String(), "gone": closed.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(clickhouseclient.Config{Addrs: []string{addr}, Database: "lotline", User: "default"}, 500*time.Millisecond, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
			require.NoError(t, err, "a gateway starts without ClickHouse")
			defer func() { require.NoError(t, r.Close()) }()
			start := time.Now()
			_, err = r.Allocations(t.Context(), "o1")
			require.ErrorIs(t, err, ErrUnavailable)
			require.Error(t, r.Check(t.Context()))
			require.Less(t, time.Since(start), 5*time.Second)

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = r.SKUs(ctx, "b1")
			require.Equal(t, context.Canceled, err, "a client that left says nothing about ClickHouse")
		})
	}
}
