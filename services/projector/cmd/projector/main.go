// Command projector keeps the read model up to date with the events topic.
package main

import (
	"os"
	"runtime/debug"

	"github.com/lotline/lotline/pkg/lifecycle"

	"github.com/lotline/lotline/services/projector"
)

// memoryLimit is where the collector begins to work harder, in bytes. Catching up makes garbage quickly, of which the
// process would otherwise keep as much again as it needs.
const memoryLimit = 120 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	lifecycle.Main("projector", "Writes events from Kafka to the read model.", projector.Run)
}
