package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	logInterval = 10 * time.Second
	// behindPause is how long the read model is given at first to have what is known to be published of a SKU, then twice
	// that and so on, in all less than a second.
	behindPause    = 25 * time.Millisecond
	behindPauseMax = 400 * time.Millisecond
)

// ErrUnavailable says that the read model could not answer; another time it may.
var ErrUnavailable = errors.New("the read model does not answer")

// ErrOverloaded says that more is asked than can be answered in time; it is an ErrUnavailable.
var ErrOverloaded = fmt.Errorf("%w: too many questions wait for it", ErrUnavailable)

// ErrBehind says that the read model has not yet what was answered before, or what is known to be published, and that the
// gateway could not complete it; it is an ErrUnavailable.
var ErrBehind = fmt.Errorf("%w: it is behind the events", ErrUnavailable)

// ErrTooLarge says that an order has more than readmodel.OrderLinesMax lines.
var ErrTooLarge = fmt.Errorf("the order has more than %d lines", readmodel.OrderLinesMax)

// Reader answers questions. Its methods may be called concurrently; callers
// share the slices that they return.
type Reader struct {
	store  string // its name
	log    *slog.Logger
	logged atomic.Int64 // when a failure was last logged, Unix ns

	orders       *loader[string, []readmodel.Allocation]
	lines        *loader[readmodel.LineKey, readmodel.Line]
	availability *loader[string, fill]
	outcomes     *loader[string, readmodel.Outcome]
	skus         *loader[string, []string]

	cache   *Cache                                                                                        // nil: none
	list    func(ctx context.Context, after string, limit, batches int) ([]readmodel.Availability, error) // nil: the store cannot
	timeout time.Duration                                                                                 // of a query
}

// New returns a Reader that asks store, in queries that may each take as long as timeout, and answers availability from
// cache, nil if there is none. The store is the caller's to close.
func New(store readmodel.Reader, cache *Cache, timeout time.Duration, metrics *Metrics, log *slog.Logger) *Reader {
	r := &Reader{store: store.Name(), log: log, cache: cache, timeout: timeout}
	if lister, ok := store.(readmodel.Lister); ok && cache != nil {
		r.list = lister.List
	}
	r.orders = newLoader(store.Name(), "allocations", timeout, metrics, store.Orders)
	r.lines = newLoader(store.Name(), "lines", timeout, metrics, store.Lines)
	r.outcomes = newLoader(store.Name(), "outcome", timeout, metrics, store.Outcomes)
	r.skus = newLoader(store.Name(), "skus", timeout, metrics, store.SKUs)
	r.availability = newLoader(store.Name(), "availability", timeout, metrics, r.filling(store.Availability))
	if cache != nil {
		// Of two at once about one SKU the first may come home last, with an older version than the second was answered and the
		// cache has dropped since; it would be kept, and the version go back for whoever asks next.
		r.availability.atOnce = 1
	}
	return r
}

// filling is ask, with the cache taking in what it answers.
func (r *Reader) filling(ask func(context.Context, []string) (map[string]readmodel.Availability, error)) func(context.Context, []string) (map[string]fill, error) {
	return func(ctx context.Context, skus []string) (map[string]fill, error) {
		var since coverage
		if r.cache != nil {
			since = r.cache.asking()
		}
		stored, err := ask(ctx, skus)
		if err != nil {
			return nil, err
		}
		if r.cache != nil {
			return r.cache.answered(since, skus, stored), nil
		}
		fills := make(map[string]fill, len(stored))
		for sku, a := range stored {
			fills[sku] = fill{Availability: a}
		}
		return fills, nil
	}
}

// Allocations returns where the lines of an order are allocated, by SKU; none is no
// error. The error wraps ErrUnavailable or ErrTooLarge, or is ctx's.
func (r *Reader) Allocations(ctx context.Context, orderID string) ([]readmodel.Allocation, error) {
	lines, err := r.orders.load(ctx, orderID)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	if len(lines) > readmodel.OrderLinesMax {
		return nil, ErrTooLarge
	}
	return lines, nil
}

// Lines returns those of the lines that are allocated, in the order of keys. However many are asked for, they queue as one query's
// worth after the other. The error wraps ErrUnavailable or is ctx's.
func (r *Reader) Lines(ctx context.Context, keys ...readmodel.LineKey) ([]readmodel.Line, error) {
	lines := make([]readmodel.Line, 0, len(keys))
	for some := range slices.Chunk(keys, readmodel.KeysMax) {
		found, err := r.lines.loadAll(ctx, some...)
		if err != nil {
			return nil, r.failed(ctx, err)
		}
		for _, key := range some {
			if l := found[key]; l.BatchRef != "" {
				lines = append(lines, l)
			}
		}
	}
	return lines, nil
}

type anewKey struct{}

// Anew returns a context whose questions are put to the read model after they were asked, and not answered from memory:
// that is no older than a second, but may be older than what the read model is known to have.
func Anew(ctx context.Context) context.Context { return context.WithValue(ctx, anewKey{}, true) }

// IsAnew reports whether ctx is of Anew.
func IsAnew(ctx context.Context) bool { return ctx.Value(anewKey{}) != nil }

// Availability returns what is left of SKUs, in their order; the Version of one that is not known is 0. It waits no longer
// than one query may take. The error wraps ErrUnavailable or is a context's.
func (r *Reader) Availability(ctx context.Context, skus ...string) ([]readmodel.Availability, error) {
	found := make([]readmodel.Availability, len(skus))
	var missing []int // places in skus
	fromMemory := r.cache != nil && !IsAnew(ctx)
	for i, sku := range skus {
		if fromMemory {
			var ok bool
			if found[i], ok = r.cache.get(sku); ok {
				continue
			}
		}
		missing = append(missing, i)
	}
	if len(missing) == 0 {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	for pause := behindPause; ; pause *= 2 {
		var err error
		if missing, err = r.load(ctx, skus, missing, found); err == nil && len(missing) > 0 && pause > behindPauseMax {
			err = ErrBehind
		}
		switch {
		case err != nil:
			return nil, r.failed(ctx, err)
		case len(missing) == 0:
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// load puts what the read model says of the missing ones of skus into found, and returns those of which it is behind.
func (r *Reader) load(ctx context.Context, skus []string, missing []int, found []readmodel.Availability) (behind []int, err error) {
	keys := make([]string, len(missing))
	for i, place := range missing {
		keys[i] = skus[place]
	}
	fills, err := r.availability.loadAll(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for _, place := range missing {
		if f := fills[skus[place]]; f.behind {
			behind = append(behind, place)
		} else {
			found[place] = f.Availability
		}
	}
	return behind, nil
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
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
