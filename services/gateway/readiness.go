package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/kafkaclient"
)

var errNotChecked = errors.New("not checked yet")

// readiness is what /readyz says, and a line in the log whenever that changes.
type readiness struct {
	admin.Health
	log *slog.Logger
}

func newReadiness(log *slog.Logger) *readiness { return &readiness{log: log} }

// reporter returns the function that tells how a component is; until it is
// called, the component is not ready.
func (r *readiness) reporter(component string) func(error) {
	r.Set(component, errNotChecked)
	var mu sync.Mutex
	known, ready := false, false
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		err = kafkaclient.Explain(err)
		r.Set(component, err)
		if known && ready == (err == nil) {
			return
		}
		known, ready = true, err == nil
		if ready {
			r.log.Info("ready", "component", component)
		} else {
			r.log.Warn("not ready", "component", component, "error", err)
		}
	}
}

// watch checks a component again and again, and reports, until ctx ends; then it
// returns nil.
func watch(ctx context.Context, check func(context.Context) error, report func(error)) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
		err := check(checkCtx)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		report(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
