package rebuild

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// totals is what the rows of each SKU come to.
type totals map[string]readmodel.Sum

// add adds rows of SKUs that may already have some.
func (t totals) add(sums map[string]readmodel.Sum) {
	for sku, s := range sums {
		sum := t[sku]
		t[sku] = readmodel.Sum{Version: max(sum.Version, s.Version), Rows: sum.Rows + s.Rows, Checksum: sum.Checksum ^ s.Checksum}
	}
}

// totalsOf adds up a generation, or has the store do it. Generation 0 has nothing.
func totalsOf(ctx context.Context, store readmodel.Generations, generation int) (totals, error) {
	if generation == 0 {
		return totals{}, nil
	}
	if summed, ok := store.(readmodel.Summed); ok {
		return summed.Sums(ctx, generation)
	}
	var all rowsum.Adder
	err := store.Read(ctx, generation, nil, func(rows *readmodel.State) error {
		all.Add(rows)
		return nil
	})
	return all.Sums, err
}

// totals adds up what the write side has, part by part, each in a snapshot of its own.
func (w *writeSide) totals(ctx context.Context, workers int) (totals, error) {
	chunks, _, err := w.chunks(ctx)
	if err != nil {
		return nil, err
	}
	left := make(chan chunk, len(chunks))
	for _, c := range chunks {
		left <- c
	}
	close(left)
	all := make(totals)
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			var own rowsum.Adder
			for c := range left {
				if err := w.readChunk(ctx, c, false, func(part *readmodel.State) error {
					own.Add(part)
					return nil
				}); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.add(own.Sums)
			return nil
		})
	}
	return all, group.Wait()
}
