package clickhouse

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

// A server that is frozen takes what fits into the sockets' buffers, and then nothing more.
func TestWritesToAFrozenServerEnd(t *testing.T) {
	frozen, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer frozen.Close()
	dial := boundWrites(&clickhouse.Options{DialTimeout: time.Minute}, 50*time.Millisecond)
	conn, err := dial(context.Background(), frozen.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	for range 1000 {
		if _, err = conn.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
