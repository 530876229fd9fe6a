package gateway

import (
	"context"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// memoryBesides is what the process takes besides its cache, in bytes: buffers, a little garbage, and so many connections.
	memoryBesides      = 24 << 20
	connectionsBesides = 1000
	// memoryLeast is the least limit, in bytes, that of the cache's default: also with a small cache, or none, thousands of
	// questions of hundreds of SKUs each may be under way. More is no gain that 100 MiB of resident memory has room for.
	memoryLeast = 72 << 20
	// connectionBytes is what each further one takes, with the goroutine that answers it.
	connectionBytes = 48 << 10
	// memoryInterval is how often the limit follows the connections: each time stops the process for a moment.
	memoryInterval = time.Second
	// gcPercent lets garbage pile up where there is room for it: what the cache keeps is looked through less often.
	gcPercent = 400
)

// connections counts those that are open. The zero value is ready to use.
type connections struct{ open atomic.Int64 }

// changed is for http.Server.ConnState.
func (c *connections) changed(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	}
}

// memoryLimit is where the collector begins to work harder, in bytes. What connections take is no garbage: a limit below it would
// have the collector do nothing but work.
func (c Config) memoryLimit(open int64) int64 {
	return max(memoryLeast, c.CacheBytesMax+memoryBesides) + max(0, open-connectionsBesides)*connectionBytes
}

// memoryIsSet reports whether who started the process has said how the collector is to work.
func memoryIsSet() bool { return os.Getenv("GOMEMLIMIT") != "" || os.Getenv("GOGC") != "" }

// LimitMemory has the collector of this process begin to work harder where the cache and what is besides it are filled, and work
// less before. The variables GOMEMLIMIT and GOGC have precedence. It is for who ships the gateway as a process, before Run.
func (c Config) LimitMemory() {
	if memoryIsSet() {
		return
	}
	debug.SetMemoryLimit(c.memoryLimit(0))
	debug.SetGCPercent(gcPercent)
}

// followConnections keeps the limit that LimitMemory has set where the open connections want it, until ctx ends.
func (c Config) followConnections(ctx context.Context, conns *connections) {
	set := c.memoryLimit(0)
	if memoryIsSet() || debug.SetMemoryLimit(-1) != set { // it is somebody else's
		return
	}
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if limit := c.memoryLimit(conns.open.Load()); limit != set {
			set = limit
			debug.SetMemoryLimit(limit)
		}
	}
}
