//go:build integration

package redis

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// Notes of one SKU that has very many batches are looked at once a minute, 10,000 at a time. That may not cost the batches once a note.
func TestManyNotesOfASKUWithManyBatchesHaveRoomInMemory(t *testing.T) {
	const batches, notes = 20_000, 500
	w := newWriter(t, newPrefix(t))
	for first := 0; first < batches; first += 5000 {
		var records []readmodel.Record
		for i := first; i < first+5000; i++ {
			records = append(records, readmodel.Record{
				Event: schemas.Event{
					Type: schemas.EventBatchCreated, SKU: "LAMP", Version: uint64(i + 1), CommandID: fmt.Sprint("c-", i), CommandSource: "/t", Last: true,
					BatchRef: fmt.Sprint("b-", i), BatchQty: 10, BatchAvailable: 10, Available: 10 * int64(i+1),
				},
				ID: fmt.Sprint("e-", i), Time: time.Unix(1_900_000_000, 0).UTC(), Offset: int64(i),
			})
		}
		require.NoError(t, w.Apply(t.Context(), records))
	}
	of := make([]readmodel.Aside, notes)
	for i := range of {
		of[i] = readmodel.Aside{What: readmodel.AsideMissing, SKU: "LAMP", Version: uint64(1_000_000 + i)}
	}
	of[7].Version = batches // which is there
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	missing, err := w.Missing(t.Context(), of, time.Time{})
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, missing, notes-1)
	allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("%d notes, %d batches: %d MiB in %s", notes, batches, allocated, took)
	require.Less(t, allocated, uint64(32), "MiB allocated")
	require.Less(t, took, 5*time.Second, "asidesTimeout, after which the notes are not taken back")
}
