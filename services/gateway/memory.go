package gateway

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lotline/lotline/pkg/memorylimit"
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
)

// connections counts those that are open, and knows those over which nothing was asked. The zero value is ready to use.
type connections struct {
	open   atomic.Int64
	unused sync.Map // of net.Conn, without locks: it is asked twice a request
}

// changed is for http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if state != http.StateNew {
		c.unused.Delete(conn)
	}
	switch state {
	case http.StateNew:
		c.open.Add(1)
		c.unused.Store(conn, nil)
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	}
}

// closeUnused closes connections over which nothing was asked, as browsers open them ahead: http.Server.Shutdown would wait for
// them as for requests.
func (c *connections) closeUnused() {
	c.unused.Range(func(conn, _ any) bool {
		_ = conn.(net.Conn).Close() // the server hears of it, and says what is to be said
		return true
	})
}

// memoryLimit is where the collector begins to work harder, in bytes. What connections take is no garbage: a limit below it would
// have the collector do nothing but work.
func (c Config) memoryLimit(open int64) int64 {
	return max(memoryLeast, c.CacheBytesMax+memoryBesides) + max(0, open-connectionsBesides)*connectionBytes
}

// LimitMemory has the collector of this process begin to work harder where the cache and what is besides it are filled, and work
// less before. The variables GOMEMLIMIT and GOGC have precedence. It is for who ships the gateway as a process, before Run.
func (c Config) LimitMemory() { memorylimit.Set(c.memoryLimit(0)) }

// followConnections keeps the limit that LimitMemory has set where the open connections want it, until ctx ends.
func (c Config) followConnections(ctx context.Context, conns *connections) {
	memorylimit.Follow(ctx, memoryInterval, c.memoryLimit(0), func() int64 { return c.memoryLimit(conns.open.Load()) })
}
