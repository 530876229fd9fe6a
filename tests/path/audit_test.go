//go:build integration

package path

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/pkg/readmodel/verify"
	"github.com/lotline/lotline/tests/stack"
)

// audit is the projector's audit of a pipeline, a step at a time, as a user who may read what people may.
type audit struct {
	*testing.T
	verify.Auditor
	postgres   *pgx.Conn
	clickHouse driver.Conn
	of         verify.AuditedStore
}

func (p *pipeline) audit(rowsMax int) *audit {
	p.Helper()
	reader, err := stack.Login(p.Context(), p.on.PostgresURL, p.on.Database+"_bi", "lotline_bi")
	require.NoError(p, err)
	postgres, err := pgx.Connect(p.Context(), reader)
	require.NoError(p, err)
	clickHouse, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
	require.NoError(p, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...))
	require.NoError(p, err)
	p.Cleanup(func() {
		client.Close()
		require.NoError(p, postgres.Close(context.Background()))
		require.NoError(p, clickHouse.Close())
	})
	admin := kadm.NewClient(client)
	a := &audit{T: p.T, postgres: postgres, clickHouse: clickHouse, of: verify.AuditedClickHouse(clickHouse)}
	if p.on.ReadModel != "" {
		config, err := stack.Configure(p.on)
		require.NoError(p, err)
		config.Projector.ReadPostgres.URL, err = stack.Login(p.Context(), p.on.PostgresURL, p.on.Database+"_audits", "lotline_projector")
		require.NoError(p, err)
		r, err := stores.ReaderConfig{Config: config.Projector.Config}.NewReader(answerWithin)
		require.NoError(p, err)
		p.Cleanup(func() { require.NoError(p, r.Close()) })
		a.of = verify.AuditedReader(r)
	}
	a.RowsMax = rowsMax
	a.Offsets = func(ctx context.Context) (ends, projected map[int32]int64, err error) {
		ends, projected = make(map[int32]int64), make(map[int32]int64)
		listed, err := admin.ListEndOffsets(ctx, p.topics.Events.Name)
		if err != nil {
			return nil, nil, err
		}
		committed, err := admin.FetchOffsets(ctx, p.topics.ProjectorGroupOf(cmp.Or(p.on.ReadModel, stores.ClickHouse)))
		listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
		committed.Each(func(o kadm.OffsetResponse) { projected[o.Partition] = o.At })
		return ends, projected, err
	}
	return a
}

// pass takes steps until every row was looked at once more, and returns what all of them did. It may take no more steps
// than there are rows for.
func (a *audit) pass(stepsMax int) verify.Audited {
	a.Helper()
	var all verify.Audited
	for range stepsMax {
		done, err := a.Step(a.Context(), a.postgres, a.of)
		require.NoError(a, err)
		all.SKUs, all.Lines, all.Unsettled, all.Drifting = all.SKUs+done.SKUs, all.Lines+done.Lines, all.Unsettled+done.Unsettled, done.Drifting
		all.Found, all.Mended = append(all.Found, done.Found...), append(all.Mended, done.Mended...)
		if done.PassEnded {
			return all
		}
	}
	require.Fail(a, "a pass took too many steps", "%d: %+v", stepsMax, all)
	return all
}

func (a *audit) plant(sql string) {
	a.Helper()
	require.NoError(a, a.clickHouse.Exec(a.Context(), sql), sql)
}

func TestTheAuditNamesEachKindOfDrift(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR", "SOFA", "STOOL", awkward)
		const steps = 16 // of 3 rows each, for 4 SKUs and 32 lines, 4 of which were given back
		a := p.audit(3)
		quiet := a.pass(steps)
		require.Empty(t, quiet.Found)
		require.Equal(t, 4, quiet.SKUs)
		require.Equal(t, 28, quiet.Lines)

		for _, sql := range []string{
			`DELETE FROM order_lines_g1 WHERE sku = 'CHAIR' AND orderid = 'o-0'`,
			`DELETE FROM stock_g1 WHERE sku = 'CHAIR' AND ref = 'b-2'`,
			`DELETE FROM skus_g1 WHERE sku = 'CHAIR'`,
			`DELETE FROM batches_by_ref_g1 WHERE sku = 'CHAIR' AND ref = 'b-2'`,
			`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES
				('o-1', 'CHAIR', 3000, 0, 'b-1', 2), ('o-2', 'CHAIR', 3000, 0, 'b-2', 2), ('o-7', 'CHAIR', 3000, 0, 'b-1', 2), ('o-ghost', 'CHAIR', 3, 0, 'b-1', 1)`,
			`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available) VALUES
				('CHAIR', 'b-1', 17, 0, 6, 5), ('CHAIR', 'b-9', 1, 0, 6, 5), ('SOFA', 'b-1', 99, 0, 6, 0)`,
			`INSERT INTO skus_g1 (sku, version, available) VALUES ('SOFA', 18, 92)`,
			`INSERT INTO skus_g1 (sku, version, available) VALUES ('STOOL', 17, 93)`,
		} {
			a.plant(sql)
		}
		seen := a.pass(steps)
		slices.SortFunc(seen.Found, func(a, b verify.Fault) int { return strings.Compare(a.SKU+a.Row, b.SKU+b.Row) })
		require.Equal(t, []verify.Fault{
			{Store: "clickhouse", SKU: "CHAIR", Row: "batch b-1", Is: "5 of 6 available, in stock", Should: "0 of 6 available, in stock"},
			{Store: "clickhouse", SKU: "CHAIR", Row: "batch b-2", Should: "92 of 100 available, 2031-01-02"},
			{Store: "clickhouse", SKU: "CHAIR", Row: "batch b-9", Is: "5 of 6 available, in stock"},
			{Store: "clickhouse", SKU: "CHAIR", Row: "line o-0", Should: `2 in batch "b-1" since version 3`},
			{ // nothing else differs, but the line's next change would be hidden
				Store: "clickhouse", SKU: "CHAIR", Row: "line o-1", Is: `2 in batch "b-1" since version 3000`, Should: `2 in batch "b-1" since version 4`,
			},
			{Store: "clickhouse", SKU: "CHAIR", Row: "line o-2", Is: `2 in batch "b-2" since version 3000`, Should: `2 in batch "b-1" since version 5`},
			{Store: "clickhouse", SKU: "CHAIR", Row: "line o-7", Is: `2 in batch "b-1" since version 3000`}, // it was given back
			{Store: "clickhouse", SKU: "CHAIR", Row: "line o-ghost", Is: `1 in batch "b-1" since version 3`},
			{Store: "clickhouse", SKU: "CHAIR", Row: "ref b-2", Should: "there"},
			{Store: "clickhouse", SKU: "CHAIR", Row: "sku", Should: "version 17, 92 available"},
			{
				Store: "clickhouse", SKU: "SOFA", Row: "batch b-1", Is: "0 of 6 available, in stock (version 99)",
				Should: "0 of 6 available, in stock (Postgres is at version 17)",
			},
			{Store: "clickhouse", SKU: "SOFA", Row: "sku", Is: "version 18, 92 available (version 18)", Should: "version 17, 92 available (Postgres is at version 17)"},
			{Store: "clickhouse", SKU: "STOOL", Row: "sku", Is: "version 17, 93 available", Should: "version 17, 92 available"},
		}, seen.Found)
		require.Equal(t, 3, seen.Drifting)
		require.Empty(t, a.pass(steps).Found, "what drifts is named once")
		code, printed := p.verify("--wait=1s", "--repair")
		require.Zero(t, code, printed)
		mended := a.pass(steps)
		require.Zero(t, mended.Drifting)
		require.Equal(t, []string{"CHAIR", "SOFA", "STOOL"}, slices.Sorted(slices.Values(mended.Mended)))

		// A SKU that Postgres does not have, at either end of the walk.
		a.plant(`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available) VALUES ('A-GHOST', 'b-1', 1, 0, 6, 5), ('Z-GHOST', 'b-1', 1, 0, 6, 5)`)
		a.plant(`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-ghost', 'M-GHOST', 1, 0, 'b-1', 1)`)
		ghosts := a.pass(steps)
		require.Len(t, ghosts.Found, 3, "%+v", ghosts)
		require.Equal(t, 3, ghosts.Drifting)
	})
}

// While commands come in nearly every SKU differs at first sight, and blocks are written again. None of it is drift; what
// is, is found.
func TestTheAuditRaisesNoFalseAlarm(t *testing.T) {
	onKfake(t, func(p *pipeline) {
		a := p.audit(1000)
		stop := p.busy()
		compared, unsettled := 0, 0
		for n := range 3 {
			if n%2 == 1 { // redelivery of all there is
				a.plant(`INSERT INTO events SELECT * FROM events`)
			}
			seen := a.pass(100)
			require.Empty(t, seen.Found)
			compared, unsettled = compared+seen.SKUs+seen.Lines, unsettled+seen.Unsettled
		}
		require.Greater(t, compared, 1000)
		require.Less(t, unsettled, compared/20, "hot SKUs are compared too")

		a.plant(`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-ghost', 'BUSY-3', 3, 0, 'b', 1)`)
		a.plant(`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available) VALUES ('BUSY-5', 'b', 1000000000, 0, 6, 5)`)
		a.plant(`DELETE FROM batches_by_ref_g1 WHERE sku = 'BUSY-7'`)
		seen := a.pass(100)
		require.Greater(t, stop(), 100)
		require.Len(t, seen.Found, 3, "%+v", seen)
		slices.SortFunc(seen.Found, func(a, b verify.Fault) int { return strings.Compare(a.SKU, b.SKU) })
		require.Equal(t, "BUSY-3 line o-ghost", seen.Found[0].SKU+" "+seen.Found[0].Row)
		require.Equal(t, "BUSY-5 batch b", seen.Found[1].SKU+" "+seen.Found[1].Row)
		require.Equal(t, "BUSY-7 ref b", seen.Found[2].SKU+" "+seen.Found[2].Row)
	})
}

// A read model that lags says nothing wrong.
func TestTheAuditWaitsForWhatIsBehind(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR")
		a := p.audit(100)
		ends, projected := a.Offsets, map[int32]int64{}
		a.Offsets = func(ctx context.Context) (map[int32]int64, map[int32]int64, error) { // a projector that is stuck
			now, _, err := ends(ctx)
			return now, projected, err
		}
		a.plant(`DELETE FROM skus_g1 WHERE sku = 'CHAIR'`)
		seen := a.pass(1)
		require.Empty(t, seen.Found)
		require.Equal(t, 1, seen.Unsettled)
		a.Offsets = ends
		require.Len(t, a.pass(1).Found, 1)
	})
}

// A step may not read tables whole, however large they are: Postgres counts it when one is.
func TestTheAuditReadsPostgresByItsIndexes(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		owner, err := pgx.Connect(t.Context(), p.on.PostgresURL)
		require.NoError(t, err)
		defer owner.Close(context.WithoutCancel(t.Context()))
		for _, sql := range []string{
			`INSERT INTO products SELECT 'SKU-' || n, 2, 9, 0, n FROM generate_series(1, 50000) n`,
			`INSERT INTO batches (sku, ref, created_version, created_qty, qty, allocated) SELECT 'SKU-' || n, 'b', 1, 10, 10, 1 FROM generate_series(1, 50000) n`,
			`INSERT INTO order_lines SELECT 'o-' || n, 'SKU-' || n, 1, 'b', 2, '', 'x', 0, 0, now() FROM generate_series(1, 50000) n`,
			`INSERT INTO outbox SELECT 99, n, n + 1, '' FROM generate_series(1, 20000) n`,
			`VACUUM ANALYZE`,
		} {
			_, err := owner.Exec(t.Context(), sql)
			require.NoError(t, err, sql)
		}
		scans := func() (whole, byIndex int64) {
			t.Helper()
			_, err := owner.Exec(t.Context(), `SELECT pg_stat_force_next_flush()`)
			require.NoError(t, err)
			require.NoError(t, owner.QueryRow(t.Context(), `SELECT sum(seq_scan), sum(idx_scan) FROM pg_stat_user_tables
				WHERE relname IN ('products', 'batches', 'order_lines', 'outbox')`).Scan(&whole, &byIndex))
			return whole, byIndex
		}
		a := p.audit(500)
		flush := func() {
			_, err := a.postgres.Exec(t.Context(), `SELECT pg_stat_force_next_flush()`)
			require.NoError(t, err)
		}
		flush()
		whole, byIndex := scans()
		for range 2 { // every row is missing in ClickHouse, so that all kinds of questions are asked
			done, err := a.Step(t.Context(), a.postgres, a.of)
			require.NoError(t, err)
			require.Equal(t, 500, done.SKUs)
			require.Len(t, done.Found, 4*500, "a sku, a batch, a ref and a line each")
		}
		flush()
		wholeAfter, byIndexAfter := scans()
		require.Greater(t, byIndexAfter, byIndex)
		require.Equal(t, whole, wholeAfter, "a table was read whole")
	})
}

// The projector that ships audits when it is told where Postgres is.
func TestTheProjectorAudits(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR")
		p.gauge("audit_last_pass_timestamp_seconds", func(value float64) bool { return value > float64(time.Now().Add(-time.Minute).Unix()) })
		conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.Exec(t.Context(), `DELETE FROM skus_g1 WHERE sku = 'CHAIR'`))
		p.gauge("audit_drifting_skus", func(value float64) bool { return value == 1 })
		code, printed := p.verify("--repair")
		require.Zero(t, code, printed)
		p.gauge("audit_drifting_skus", func(value float64) bool { return value == 0 })
	}, func(c *stack.Config) {
		require.NoError(t, stack.Prepare(t.Context(), c)) // makes the roles, if this is the first test on the server
		reader, err := stack.Login(t.Context(), c.Owner, "audit_"+c.Projector.ClickHouse.Database, "lotline_bi")
		require.NoError(t, err)
		c.Projector.Postgres.PostgresURL, c.Projector.AuditInterval = reader, time.Second
	})
}

// gauge waits until one of the projector's metrics is what it should be.
func (p *pipeline) gauge(name string, good func(float64) bool) {
	p.Helper()
	require.EventuallyWithT(p, func(c *assert.CollectT) {
		response, err := http.Get("http://" + p.admins[1] + "/metrics")
		require.NoError(c, err)
		defer response.Body.Close()
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(response.Body)
		require.NoError(c, err)
		family := families["lotline_projector_"+name]
		require.NotNil(c, family, name)
		require.True(c, good(family.Metric[0].GetGauge().GetValue()), "%s", strings.TrimSpace(fmt.Sprint(family)))
	}, answerWithin, lookEvery)
}
