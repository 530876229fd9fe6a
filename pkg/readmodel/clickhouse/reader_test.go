package clickhouse

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
)

func TestAQuestionToADeadServerEnds(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // accepts connections, and never answers
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for name, addr := range map[string]string{"silent": listener.Addr().String(), "gone": closed.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(clickhouseclient.Config{Addrs: []string{addr}, Database: "lotline", User: "default"}, 500*time.Millisecond)
			require.NoError(t, err, "a gateway starts without ClickHouse")
			defer func() { require.NoError(t, r.Close()) }()
			start := time.Now()
			_, err = r.Orders(t.Context(), []string{"o1"})
			require.Error(t, err)
			err = r.Check(t.Context())
			require.Error(t, err)
			require.NotContains(t, err.Error(), "\n", "one outage is said once, not once a question")
			require.Less(t, time.Since(start), 8*time.Second)
		})
	}
}
