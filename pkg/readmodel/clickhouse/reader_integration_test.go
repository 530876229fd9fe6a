//go:build integration

package clickhouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

func newReader(t *testing.T, cfg clickhouseclient.Config) *Reader {
	t.Helper()
	r, err := NewReader(cfg, 5*time.Second)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func TestConforms(t *testing.T) {
	readmodeltest.Conform(t, readmodeltest.Store{
		KeepsOutcomes: true, KeepsBatchVersions: true, HasGenerations: true, Lists: true, Ledger: true,
		Open: func(t *testing.T) readmodeltest.Place {
			cfg := migrated(t)
			return readmodeltest.Place{
				Reader:      newReader(t, cfg),
				Writer:      func(t *testing.T) readmodel.Writer { return newWriter(t, cfg) },
				Generations: func(t *testing.T) readmodel.Generations { return newGenerations(t, cfg) },
				Refuse: func(t *testing.T, sku string) func() {
					conn := connect(t, cfg)
					require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events ADD CONSTRAINT c CHECK sku != '"+sku+"'"))
					return func() { require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events DROP CONSTRAINT c")) }
				},
			}
		},
	})
}

func TestReaderCheckNamesWhatIsMissing(t *testing.T) {
	cfg := migrated(t)
	r, conn := newReader(t, cfg), connect(t, cfg)
	require.NoError(t, r.Check(t.Context()))
	require.NoError(t, conn.Exec(t.Context(), "DROP TABLE outcomes"))
	require.ErrorContains(t, r.Check(t.Context()), "outcomes")
	_, err := r.Orders(t.Context(), []string{"o1"})
	require.NoError(t, err, "other questions go on")
}

// A question of KeysMax keys is answered, however many rows the answer has: a SKU may have tens of thousands of batches, and whoever
// asks for another at the same moment must not be refused with it.
func TestManySKUsWithManyBatchesAreAnsweredTogether(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO skus_g1 SELECT 'SKU-' || toString(number), 1, 1, now64(3) FROM numbers(25)"))
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO stock_g1 (sku, ref, version, qty, available, event_time) SELECT 'SKU-' || toString(number % 25), 'b-' || toString(number), 1, 1, 1, now64(3) FROM numbers(1100000)"))
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO order_lines_g1 (orderid, sku, version, batchref, qty, event_time) SELECT 'o-' || toString(number % 101), 'SKU-' || toString(number), 1, 'b', 1, now64(3) FROM numbers(1010101)"))
	r, err := NewReader(cfg, 30*time.Second)
	require.NoError(t, err)
	defer r.Close()
	var skus, orders []string
	for i := range 25 {
		skus = append(skus, fmt.Sprint("SKU-", i))
	}
	for i := range 101 {
		orders = append(orders, fmt.Sprint("o-", i))
	}
	one, err := r.Availability(t.Context(), skus[:1])
	require.NoError(t, err)
	require.Len(t, one["SKU-0"].Batches, 44_000)
	found, err := r.Availability(t.Context(), skus)
	if err != nil {
		t.Error("availability:", err)
	} else {
		require.Len(t, found, 25)
	}
	lines, err := r.Orders(t.Context(), orders)
	if err != nil {
		t.Error("orders:", err)
	} else {
		require.Len(t, lines, 101)
	}
}
