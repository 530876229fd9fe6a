// Command gateway runs Lotline's HTTP gateway; see --help.
package main

import (
	"context"

	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/services/gateway"
)

func main() {
	lifecycle.Main("gateway", "Turns HTTP requests into Lotline's commands, and answers questions from its read model.", func(ctx context.Context, cfg gateway.Config) error {
		cfg.LimitMemory()
		return gateway.Run(ctx, cfg)
	})
}
