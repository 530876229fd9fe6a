package allocator

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheLimitOfMemoryIsWhatTheSettingsTake(t *testing.T) {
	cfg := DefaultConfig()
	usual := cfg.memoryLimit(0)
	require.Less(t, usual, int64(132<<20), "with the code itself, 28 MiB, it is to be 160 in all")
	require.Equal(t, usual, cfg.memoryLimit(60<<20))
	require.Greater(t, cfg.memoryLimit(500<<20), int64(700<<20), "what is in use is no garbage")

	cfg.ProductsCachedMax = 1000
	require.Less(t, cfg.memoryLimit(0), int64(100<<20))
}

// SKUs may have so many batches that what is in use is more than expected. The limit makes room, and takes it back.
func TestTheLimitOfMemoryFollowsWhatIsInUse(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	cfg := DefaultConfig()
	cfg.LimitMemory()
	require.Equal(t, 400, debug.SetGCPercent(400))
	usual := debug.SetMemoryLimit(-1)
	require.Equal(t, cfg.memoryLimit(0), usual)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go cfg.followMemory(ctx)
		limit := func() int64 {
			runtime.GC()
			time.Sleep(2 * memoryInterval)
			return debug.SetMemoryLimit(-1)
		}
		batches := make([]byte, 300<<20)
		require.Greater(t, limit(), int64(400<<20))
		runtime.KeepAlive(batches)
		require.Equal(t, usual, limit())
	})
}

func TestTheEnvironmentsLimitOfMemoryHasPrecedence(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	for _, name := range []string{"GOMEMLIMIT", "GOGC"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "75497472")
			DefaultConfig().LimitMemory()
			DefaultConfig().followMemory(t.Context()) // returns: it is somebody else's
			require.Equal(t, before, debug.SetMemoryLimit(-1))
			require.Equal(t, 100, debug.SetGCPercent(100))
		})
	}
}
