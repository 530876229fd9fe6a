package gateway

import (
	"os"
	"runtime/debug"
)

const (
	// memoryBesides is what the process takes besides its cache, in bytes: connections, buffers and a little garbage.
	memoryBesides = 40 << 20
	// gcPercent lets garbage pile up where there is room for it: what the cache keeps is looked through less often.
	gcPercent = 400
)

// LimitMemory has the collector of this process begin to work harder where the cache and what is besides it are filled, and
// work less before. The variables GOMEMLIMIT and GOGC have precedence. It is for who ships the gateway as a process.
func (c Config) LimitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" || os.Getenv("GOGC") != "" {
		return
	}
	debug.SetMemoryLimit(c.CacheBytesMax + memoryBesides)
	debug.SetGCPercent(gcPercent)
}
