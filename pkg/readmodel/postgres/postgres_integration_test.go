//go:build integration

package postgres

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

func TestConforms(t *testing.T) {
	readmodeltest.Conform(t, readmodeltest.Store{
		KeepsOutcomes: true, KeepsBatchVersions: true, HasGenerations: true, Lists: true, Ledger: true,
		Open: func(t *testing.T) readmodeltest.Place { return place(t, migrated(t)) },
	})
}

func BenchmarkApply(b *testing.B) {
	w := newWriter(b, migrated(b))
	records := readmodeltest.New(1, 10_000).Records
	for b.Loop() {
		require.NoError(b, w.Apply(b.Context(), records))
	}
	b.ReportMetric(float64(len(records)*b.N)/b.Elapsed().Seconds(), "events/s")
}

func TestMigrationsCanRunAtOnceAndAgain(t *testing.T) {
	cfg := newSchema(t)
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			_, err := Migrate(t.Context(), cfg, discard)
			return err
		})
	}
	require.NoError(t, g.Wait())
	_, err := Migrate(t.Context(), cfg, discard)
	require.NoError(t, err)
	require.NoError(t, newWriter(t, cfg).Check(t.Context()))
	require.NoError(t, newReader(t, cfg).Check(t.Context()))

	var undocumented []string
	require.NoError(t, connect(t, cfg).QueryRow(t.Context(), `
		SELECT array_agg(c.relname || '.' || coalesce(a.attname, '')) FROM pg_class c
		LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND c.relkind = 'r' AND col_description(c.oid, a.attnum) IS NULL
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> 'goose_db_version'
			AND (obj_description(c.oid) IS NULL OR a.attname IS NOT NULL)`).Scan(&undocumented))
	require.Empty(t, undocumented)
}

func TestCheckAsksForTheMigration(t *testing.T) {
	cfg := newSchema(t)
	w, r := newWriter(t, cfg), newReader(t, cfg)
	require.ErrorContains(t, w.Check(t.Context()), "lotline migrate")
	require.Error(t, r.Check(t.Context()))
	_, err := Migrate(t.Context(), cfg, discard)
	require.NoError(t, err)
	require.NoError(t, w.Check(t.Context()))
	require.NoError(t, r.Check(t.Context()))
	exec(t, cfg, "DELETE FROM goose_db_version WHERE version_id > 0")
	require.ErrorContains(t, w.Check(t.Context()), "version 0")
	exec(t, cfg, "DROP TABLE outcomes")
	require.ErrorContains(t, r.Check(t.Context()), "outcomes")
	_, err = r.Orders(t.Context(), []string{"o1"})
	require.NoError(t, err, "other questions go on")
}

// A block is in the tables whole or not at all.
func TestABlockIsOneTransaction(t *testing.T) {
	cfg := migrated(t)
	w, h := newWriter(t, cfg), readmodeltest.New(11, 500)
	exec(t, cfg, "ALTER TABLE outcomes RENAME TO away")
	require.ErrorContains(t, w.Apply(t.Context(), h.Records), "outcomes")
	var rows int
	require.NoError(t, connect(t, cfg).QueryRow(t.Context(), "SELECT count(*) FROM order_lines_g1").Scan(&rows))
	require.Zero(t, rows)
	exec(t, cfg, "ALTER TABLE away RENAME TO outcomes")
	require.NoError(t, w.Apply(t.Context(), h.Records), "the same writer goes on")
}

// A row that is written again changes nothing: no new version of it has to be vacuumed.
func TestARedeliveryWritesNoRow(t *testing.T) {
	cfg := migrated(t)
	w, h := newWriter(t, cfg), readmodeltest.New(12, 500)
	require.NoError(t, w.Apply(t.Context(), h.Records))
	places := func() (ctids []string) {
		require.NoError(t, connect(t, cfg).QueryRow(t.Context(), `SELECT array_agg(p ORDER BY p) FROM (
			SELECT ctid::text || orderid || sku AS p FROM order_lines_g1 UNION ALL SELECT ctid::text || sku || ref FROM stock_g1
			UNION ALL SELECT ctid::text || sku FROM skus_g1 UNION ALL SELECT ctid::text || commandid FROM outcomes) AS all_rows`).Scan(&ctids))
		return ctids
	}
	before := places()
	require.NotEmpty(t, before)
	require.NoError(t, w.Apply(t.Context(), h.Records))
	require.Equal(t, before, places())
}

func TestAQuestionToADeadServerEnds(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // accepts connections, and never answers
	r, err := NewReader(Config{URL: "postgres://lotline@" + listener.Addr().String() + "/lotline", Schema: "lotline_read"}, 500*time.Millisecond)
	require.NoError(t, err, "a gateway starts without Postgres")
	defer r.Close()
	start := time.Now()
	_, err = r.Orders(t.Context(), []string{"o1"})
	require.Error(t, err)
	require.Less(t, time.Since(start), 8*time.Second)
}

func TestValidate(t *testing.T) {
	require.NoError(t, Config{URL: "postgres://lotline@127.0.0.1/lotline", Schema: "lotline_read"}.Validate())
	err := Config{URLFile: "/no/such/file", Schema: `x"; DROP`}.Validate()
	require.ErrorContains(t, err, "--read-postgres-url-file")
	require.ErrorContains(t, err, "--read-postgres-schema")
	require.ErrorContains(t, Config{Schema: "s"}.Validate(), "--read-postgres-url")
}
