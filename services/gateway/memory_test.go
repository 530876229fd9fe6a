package gateway

import (
	"context"
	"net/http"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What connections take is no garbage: below it the collector would do nothing but work.
func TestTheLimitOfMemoryFollowsTheConnections(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{CacheBytesMax: 48 << 20}
		conns := new(connections)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cfg.followConnections(ctx, conns) // returns: nothing was limited
		debug.SetMemoryLimit(cfg.memoryLimit(0))
		go cfg.followConnections(ctx, conns)
		limit := func() int64 {
			time.Sleep(2 * memoryInterval)
			return debug.SetMemoryLimit(-1)
		}
		for range 1000 {
			conns.changed(nil, http.StateNew)
			conns.changed(nil, http.StateActive)
		}
		require.EqualValues(t, 72<<20, limit())
		for range 3000 {
			conns.changed(nil, http.StateNew)
		}
		require.EqualValues(t, 72<<20+3000*connectionBytes, limit())
		for range 3500 {
			conns.changed(nil, http.StateClosed)
		}
		require.EqualValues(t, 72<<20, limit())
	})
}
