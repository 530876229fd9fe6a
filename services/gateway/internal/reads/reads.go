// Package reads answers questions from the read model: where an order's lines are, what is left of a SKU, what became
// of a command, whose SKU a batch is. It gathers what is asked at the same time into few queries.
//
// The gateway's HTTP API calls it and the service's root wires it with the Reader of a store. It imports pkg
// (readmodel is the contract of that store) and knows no store itself.
package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

const logInterval = 10 * time.Second

// ErrUnavailable says that the read model could not answer; another time it may.
var ErrUnavailable = errors.New("the read model does not answer")

// ErrTooLarge says that an order has more than readmodel.OrderLinesMax lines.
var ErrTooLarge = fmt.Errorf("the order has more than %d lines", readmodel.OrderLinesMax)

// Reader answers questions. Its methods may be called concurrently; callers
// share the slices that they return.
type Reader struct {
	store  string // its name
	log    *slog.Logger
	logged atomic.Int64 // when a failure was last logged, Unix ns

	orders       *loader[[]readmodel.Line]
	availability *loader[readmodel.Availability]
	outcomes     *loader[readmodel.Outcome]
	skus         *loader[[]string]
}

// New returns a Reader that asks store, in queries that may each take as long as timeout. The store is the caller's to
// close.
func New(store readmodel.Reader, timeout time.Duration, metrics *Metrics, log *slog.Logger) *Reader {
	return &Reader{
		store: store.Name(), log: log,
		orders:       newLoader(store.Name(), "allocations", readmodel.KeysMax, timeout, measured(metrics, "allocations", store.Orders)),
		availability: newLoader(store.Name(), "availability", readmodel.KeysMax, timeout, measured(metrics, "availability", store.Availability)),
		outcomes:     newLoader(store.Name(), "outcome", readmodel.KeysMax, timeout, measured(metrics, "outcome", store.Outcomes)),
		skus:         newLoader(store.Name(), "skus", readmodel.KeysMax, timeout, measured(metrics, "skus", store.SKUs)),
	}
}

// Allocations returns the allocated lines of an order, by SKU; none is no
// error. The error wraps ErrUnavailable or ErrTooLarge, or is ctx's.
func (r *Reader) Allocations(ctx context.Context, orderID string) ([]readmodel.Line, error) {
	lines, err := r.orders.load(ctx, orderID)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	if len(lines) > readmodel.OrderLinesMax {
		return nil, ErrTooLarge
	}
	return lines, nil
}

// Availability returns what is left of SKUs, by SKU; the Version of one that is not known is 0. The error wraps
// ErrUnavailable or is ctx's.
func (r *Reader) Availability(ctx context.Context, skus ...string) (map[string]readmodel.Availability, error) {
	found, err := r.availability.loadAll(ctx, skus...)
	return found, r.failed(ctx, err)
}

// Outcome returns what became of the command of that id, or of the first one if
// several have it; its Type is empty if nothing is known. The error wraps
// ErrUnavailable or readmodel.ErrNotKept, or is ctx's.
func (r *Reader) Outcome(ctx context.Context, commandID string) (readmodel.Outcome, error) {
	outcome, err := r.outcomes.load(ctx, commandID)
	return outcome, r.failed(ctx, err)
}

// SKUs returns the SKUs that have a batch of that ref, at most readmodel.RefSKUsMax of
// them, in order; none is no error. The error wraps ErrUnavailable or is ctx's.
func (r *Reader) SKUs(ctx context.Context, ref string) ([]string, error) {
	skus, err := r.skus.load(ctx, ref)
	return skus, r.failed(ctx, err)
}

// failed says what err means to a caller, and logs it now and then: when
// the store is away, every question fails.
func (r *Reader) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, readmodel.ErrNotKept) {
		return err
	}
	now, last := time.Now().UnixNano(), r.logged.Load()
	if now-last > int64(logInterval) && r.logged.CompareAndSwap(last, now) {
		r.log.Warn("could not read from "+r.store, "error", err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
