// The allocator: commands from Kafka become stock allocations in Postgres and events on Kafka.
package main

import (
	"context"

	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/services/allocator"
)

func main() {
	lifecycle.Main("allocator", "Reads commands from Kafka, allocates stock in Postgres and publishes events, exactly once.", func(ctx context.Context, cfg allocator.Config) error {
		cfg.LimitMemory()
		return allocator.Run(ctx, cfg)
	})
}
