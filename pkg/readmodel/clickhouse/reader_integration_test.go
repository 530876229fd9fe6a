//go:build integration

package clickhouse

import (
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
