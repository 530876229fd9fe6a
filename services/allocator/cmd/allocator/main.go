// The allocator: commands from Kafka become stock allocations in Postgres and events on Kafka.
package main

import (
	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/services/allocator"
)

func main() {
	lifecycle.Main("allocator", "Reads commands from Kafka, allocates stock in Postgres and publishes events, exactly once.", allocator.Run)
}
