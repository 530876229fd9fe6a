// Package memorylimit sets where a process's garbage collector begins to work harder, and keeps that where what is no garbage
// wants it. Who started the process has precedence, by GOMEMLIMIT or GOGC.
//
// It may import the standard library only. The roots of the allocator and the gateway call it: what they hold decides the limit.
package memorylimit

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// Given reports whether who started the process has said how the collector is to work.
func Given() bool { return os.Getenv("GOMEMLIMIT") != "" || os.Getenv("GOGC") != "" }

// gcPercent lets garbage pile up where there is room for it: what is below the limit is there to be used.
const gcPercent = 400

// Set sets the limit of this process, in bytes, and leaves it to that when the collector runs, unless little is in use. It does neither
// if one was given. It is for who ships a service as a process, before the service runs.
func Set(bytes int64) {
	if Given() {
		return
	}
	debug.SetMemoryLimit(bytes)
	debug.SetGCPercent(gcPercent)
}

// Follow keeps the limit at what wanted says, in bytes, until ctx ends: it asks once every interval. first is what Set was called
// with. If that is not the limit, it is somebody else's, and Follow returns at once.
func Follow(ctx context.Context, interval time.Duration, first int64, wanted func() int64) {
	set := first
	if Given() || debug.SetMemoryLimit(-1) != set {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if limit := wanted(); limit != set {
			set = limit
			debug.SetMemoryLimit(limit)
		}
	}
}
