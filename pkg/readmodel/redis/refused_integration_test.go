//go:build integration

package redis

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// batchesOfMany are so many that they take several scripts.
func batchesOfMany() (records []readmodel.Record) {
	for i := range 1000 {
		sku := fmt.Sprintf("SKU-%03d", i)
		records = append(records, readmodel.Record{
			Event: schemas.Event{
				Type: schemas.EventBatchCreated, SKU: sku, Version: 1, CommandID: "c-" + sku, CommandSource: "/t", Last: true,
				BatchRef: "b", BatchQty: 10, BatchAvailable: 10, Available: 10,
			},
			ID: "e-" + sku, Time: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Offset: int64(i),
		})
	}
	return records
}

// refuse has one of the rows refused, until the end is called.
func refuse(t *testing.T, w *Writer, sku string) (end func()) {
	key := keys{prefix: w.keys.prefix, generation: firstGeneration}.sku(sku)
	require.NoError(t, w.client.Set(t.Context(), key, "somebody's own", 0).Err())
	return func() { require.NoError(t, w.client.Del(t.Context(), key).Err()) }
}

// A part of a block is refused. Scripts that were sent with it are run nevertheless, but no outcome of what is not there is
// written, and the block is one that Settle waits for.
func TestNothingIsSaidOfABlockOfWhichAPartIsRefused(t *testing.T) {
	cfg := newPrefix(t)
	w, r := newWriter(t, cfg), newReader(t, cfg)
	end := refuse(t, w, "SKU-005")
	records := batchesOfMany()
	require.ErrorAs(t, w.Apply(t.Context(), records), new(*readmodel.RefusedError))
	named, err := w.client.ZRange(t.Context(), w.keys.applying(), 0, -1).Result()
	require.NoError(t, err)
	require.Equal(t, []string{w.block}, named)
	outcomes, err := r.Outcomes(t.Context(), []string{"c-SKU-000", "c-SKU-005", "c-SKU-399"})
	require.NoError(t, err)
	require.Empty(t, outcomes)

	end()
	require.NoError(t, w.Apply(t.Context(), records))
	outcomes, err = r.Outcomes(t.Context(), []string{"c-SKU-000", "c-SKU-005", "c-SKU-399"})
	require.NoError(t, err)
	require.Len(t, outcomes, 3)
	named, err = w.client.ZRange(t.Context(), w.keys.applying(), 0, -1).Result()
	require.NoError(t, err)
	require.Empty(t, named)
}

// The projector halves a refused block until it knows which event it is, and notes that one: nobody is told that it was done.
func TestARefusedEventHasNoOutcome(t *testing.T) {
	cfg := newPrefix(t)
	w, r := newWriter(t, cfg), newReader(t, cfg)
	end := refuse(t, w, "SKU-005")
	var refused []string
	var sift func(block []readmodel.Record)
	sift = func(block []readmodel.Record) {
		err := w.Apply(t.Context(), block)
		switch {
		case err == nil:
		case len(block) == 1:
			require.ErrorAs(t, err, new(*readmodel.RefusedError))
			refused = append(refused, block[0].Event.CommandID)
		default:
			sift(block[:len(block)/2])
			sift(block[len(block)/2:])
		}
	}
	sift(batchesOfMany())
	require.Equal(t, []string{"c-SKU-005"}, refused)
	end()
	outcomes, err := r.Outcomes(t.Context(), []string{"c-SKU-004", "c-SKU-005"})
	require.NoError(t, err)
	require.Len(t, outcomes, 1)
	require.Contains(t, outcomes, "c-SKU-004")
}

// Notes are read while others are taken back. Of those that stay none is left out.
func TestNotesAreReadWhileOthersAreTakenBack(t *testing.T) {
	cfg := newPrefix(t)
	w, other := newWriter(t, cfg), newWriter(t, cfg)
	note := func(sku string) []readmodel.Aside {
		return []readmodel.Aside{{What: readmodel.AsideMissing, SKU: sku, Version: 1, Time: time.Unix(1e9, 0).UTC()}}
	}
	require.NoError(t, w.SetAside(t.Context(), append(note("A"), note("C")...)))
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var group errgroup.Group
	group.Go(func() error {
		for ctx.Err() == nil {
			if err := other.SetAside(t.Context(), note("B")); err != nil {
				return err
			}
			if err := other.Returned(t.Context(), note("B")); err != nil {
				return err
			}
		}
		return nil
	})
	for ctx.Err() == nil {
		noted, _, err := w.Asides(t.Context(), readmodel.Aside{}, 2)
		require.NoError(t, err)
		require.Len(t, noted, 2, "as many as there is room for")
		require.Equal(t, "A", noted[0].SKU)
	}
	require.NoError(t, group.Wait())
}
