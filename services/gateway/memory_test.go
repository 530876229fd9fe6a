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
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
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

// A gateway that keeps nothing may still have thousands of questions under way.
func TestTheLimitOfMemoryWithASmallCache(t *testing.T) {
	defaults := DefaultConfig().memoryLimit(0)
	require.Equal(t, defaults, Config{}.memoryLimit(0))
	require.Equal(t, defaults, Config{CacheBytesMax: 1 << 20}.memoryLimit(1000))
	require.Equal(t, defaults+connectionBytes, Config{}.memoryLimit(1001))
	require.EqualValues(t, 124<<20, Config{CacheBytesMax: 100 << 20}.memoryLimit(0))
}

func TestTheEnvironmentsLimitOfMemoryHasPrecedence(t *testing.T) {
	cfg := DefaultConfig()
	before := debug.SetMemoryLimit(cfg.memoryLimit(0)) // even where it is the same
	defer debug.SetMemoryLimit(before)
	for _, name := range []string{"GOMEMLIMIT", "GOGC"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "75497472")
			Config{CacheBytesMax: 200 << 20}.LimitMemory()
			require.Equal(t, cfg.memoryLimit(0), debug.SetMemoryLimit(-1))
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), 3*memoryInterval)
				defer stop()
				conns := new(connections)
				conns.open.Store(2 * connectionsBesides)
				cfg.followConnections(ctx, conns)
				require.Equal(t, cfg.memoryLimit(0), debug.SetMemoryLimit(-1))
			})
		})
	}
}
