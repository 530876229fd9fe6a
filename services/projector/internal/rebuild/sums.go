package rebuild

import (
	"context"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// totals is what the rows of each SKU come to.
type totals map[string]readmodel.Sum

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

// totals adds up what the write side has, part by part, each in a snapshot of its own. One after the other: nobody waits for a
// comparison, and who commands and asks meanwhile should not notice it.
func (w *writeSide) totals(ctx context.Context) (totals, error) {
	chunks, _, err := w.chunks(ctx)
	if err != nil {
		return nil, err
	}
	var all rowsum.Adder
	for _, c := range chunks {
		if err := w.readChunk(ctx, c, false, func(part *readmodel.State) error {
			all.Add(part)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return all.Sums, nil
}
