package reads

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	// passInterval is about how often all SKUs are gone through: with the time that this takes less than the lifetime of an
	// entry, so that what is kept is asked for again before somebody has to wait for it. It is a fifth more or less by chance:
	// gateways that were started together do not go through them together for ever.
	passInterval = lifetime / 2
	// listBatches is how many batches are listed at once, besides those of one SKU: a few MiB.
	listBatches = 20_000
	// retryPause is how long a pass waits after a list has failed, then twice that and so on, up to retryPauseMax.
	retryPause, retryPauseMax = time.Second, 8 * time.Second
	// triesMax is how often one list is tried before the pass begins again: more often than ListMax can be halved, which with
	// the time to answer takes about as long as passInterval.
	triesMax = 16
)

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
// among others, and takes at most half of one connection's time. What it learns is kept by the rules for what was asked for,
// and nothing of what was asked for meanwhile. If the store cannot list its SKUs it does nothing.
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
		case <-time.After(passInterval*4/5 + rand.N(passInterval*2/5)):
		}
	}
}

// pass goes through the SKUs until there are no more of them, or no more room. Where it stands still it begins again: what
// comes before must not get too old meanwhile.
func (r *Reader) pass(ctx context.Context) {
	limit, tries, retry := readmodel.ListMax, 0, retryPause
	for after := ""; ctx.Err() == nil && !r.cache.isFull(); {
		pause := sweepInterval
		if r.cache.admits() {
			start := time.Now()
			last, found, err := r.prefetch(ctx, after, limit)
			took := time.Since(start)
			switch {
			case err == nil && found == 0:
				return
			case err == nil:
				after, pause, tries, retry = last, took, 0, retryPause
				if took < r.timeout/2 { // so that twice as many are in time too
					limit = min(readmodel.ListMax, 2*found)
				}
			case ctx.Err() == nil:
				_ = r.failed(ctx, err)  // which logs it
				limit = max(1, limit/2) // they may have been too many
				pause, retry = retry, min(2*retry, retryPauseMax)
				if tries++; tries%triesMax == 0 {
					after = ""
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// prefetch takes in the next SKUs, and returns the last of them, and how many they are: 0 if there are no more.
func (r *Reader) prefetch(ctx context.Context, after string, limit int) (last string, n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	since := r.cache.listing()
	found, err := r.list(ctx, after, limit, listBatches)
	if err != nil || len(found) == 0 {
		return "", 0, err
	}
	for some := range slices.Chunk(found, readmodel.KeysMax) { // the tail waits meanwhile
		r.cache.listed(since, some)
	}
	return found[len(found)-1].SKU, len(found), nil
}
