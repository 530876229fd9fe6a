package reads

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
)

// passInterval is how often all SKUs are gone through: with the time that this takes less than the lifetime of an entry, so that
// what is kept is asked for again before somebody has to wait for it.
const passInterval = lifetime / 2

// Run keeps the cache full, and up to date with how far the read model is (see Cache.Follow), until ctx ends; then it returns
// nil. Without a cache it does nothing.
func (r *Reader) Run(ctx context.Context, projected func(context.Context) (map[int32]int64, error)) error {
	if r.cache == nil {
		return nil
	}
	var group errgroup.Group
	group.Go(func() error { return r.cache.Follow(ctx, projected, r.log) })
	group.Go(func() error { return r.prefetchAll(ctx) })
	return group.Wait()
}

// prefetchAll keeps in memory what nobody has asked for yet, as far as there is room, until ctx ends; then it returns nil. It goes
// through all SKUs of the store again and again, thousands in one query, of which each costs a hundredth of one that is asked for
// among others, and takes at most half of one connection's time. What it learns is kept by the rules for what was asked for.
// If the store cannot list its SKUs it does nothing.
func (r *Reader) prefetchAll(ctx context.Context) error {
	if r.list == nil {
		return nil
	}
	for {
		select {
		case <-r.cache.emptied: // before this pass
		default:
		}
		r.pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-r.cache.emptied:
		case <-time.After(passInterval):
		}
	}
}

// pass goes through the SKUs until there are no more of them, or no more room.
func (r *Reader) pass(ctx context.Context) {
	limit := readmodel.ListMax
	for after := ""; ctx.Err() == nil && !r.cache.isFull(); {
		pause := sweepInterval
		if r.cache.admits() {
			start := time.Now()
			last, err := r.prefetch(ctx, after, limit)
			switch {
			case err == nil && last == "":
				return
			case err == nil:
				after, pause = last, time.Since(start)
			case ctx.Err() == nil:
				_ = r.failed(ctx, err)  // which logs it
				limit = max(1, limit/2) // SKUs with very many batches are too much for one answer
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// prefetch takes in the next SKUs, and returns the last of them, "" if there are none.
func (r *Reader) prefetch(ctx context.Context, after string, limit int) (last string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	since := r.cache.asking()
	found, err := r.list(ctx, after, limit)
	if err != nil || len(found) == 0 {
		return "", err
	}
	skus, stored := make([]string, len(found)), make(map[string]readmodel.Availability, len(found))
	for i := range found {
		skus[i] = found[i].SKU
		stored[found[i].SKU] = found[i]
	}
	for some := range slices.Chunk(skus, readmodel.KeysMax) { // the tail waits meanwhile
		r.cache.answered(since, some, stored)
	}
	return skus[len(skus)-1], nil
}
