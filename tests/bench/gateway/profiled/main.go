// Command profiled is the gateway, with a profile of its CPU at LOTLINE_BENCH_PROFILE_ADDR (host:port). Only the gateway's benchmark
// runs it: what ships has no such door.
package main

import (
	"context"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/services/gateway"
)

func main() {
	lifecycle.Main("gateway", "Is the gateway, with profiles.", func(ctx context.Context, cfg gateway.Config) error {
		cfg.LimitMemory()
		server := &http.Server{Addr: os.Getenv("LOTLINE_BENCH_PROFILE_ADDR"), Handler: http.HandlerFunc(pprof.Profile), ReadHeaderTimeout: time.Second}
		var group errgroup.Group
		group.Go(server.ListenAndServe)
		defer server.Close() // nobody is left who asks
		return gateway.Run(ctx, cfg)
	})
}
