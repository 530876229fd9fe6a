//go:build integration

package path

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/pkg/readmodel/verify"
	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/stack"
)

// planter changes rows of the read model behind everybody's back.
type planter interface {
	// plant has an order line that was never there, stock of a version that nobody will write, and no line of order o-0.
	plant(generation int)
	// refuse has the read model take nothing about a SKU that it does not know, until it is undone.
	refuse(sku string) (undo func())
	// marks counts the parts that are marked as loaded.
	marks(generation int) int
}

// onEachKept runs a test on pipelines whose read model is Postgres and Redis: what is tested of ClickHouse has its own tests.
func onEachKept(t *testing.T, test func(p *pipeline, in planter), changes ...func(*stack.Config)) {
	t.Helper()
	for _, store := range []string{stores.Postgres, stores.Redis} {
		t.Run(store, func(t *testing.T) {
			isolation.OnKfake(t, func(t *testing.T, on stack.Servers) {
				on.ReadModel, on.Redis = store, isolation.Setting(t, "LOTLINE_TEST_REDIS")
				onServers(t, on, func(p *pipeline) {
					if store == stores.Redis {
						client := goredis.NewClient(&goredis.Options{Addr: on.Redis})
						t.Cleanup(func() { client.Close() })
						test(p, inRedis{p, client})
						return
					}
					conn, err := pgx.Connect(t.Context(), on.PostgresURL)
					require.NoError(t, err)
					t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
					test(p, inPostgres{p, conn})
				}, changes...)
			})
		})
	}
}

type inPostgres struct {
	*pipeline
	conn *pgx.Conn
}

func (in inPostgres) plant(generation int) {
	in.Helper()
	for _, sql := range []string{
		`INSERT INTO lotline_read.order_lines_g%d VALUES ('o-ghost', 'CHAIR', 3, 'b-1', 1, NULL, 'nobody', now())`,
		`UPDATE lotline_read.stock_g%d SET version = 1000, available = 5 WHERE sku = 'CHAIR' AND ref = 'b-1'`,
		`DELETE FROM lotline_read.order_lines_g%d WHERE orderid = 'o-0' AND sku = 'CHAIR'`,
	} {
		done, err := in.conn.Exec(in.Context(), fmt.Sprintf(sql, generation))
		require.NoError(in, err)
		require.EqualValues(in, 1, done.RowsAffected(), sql)
	}
}

func (in inPostgres) refuse(sku string) (undo func()) {
	in.Helper()
	alter := func(change string) {
		_, err := in.conn.Exec(in.Context(), "ALTER TABLE lotline_read.stock_g1 "+change)
		require.NoError(in, err)
	}
	alter("ADD CONSTRAINT c CHECK (sku <> '" + sku + "')")
	return func() { alter("DROP CONSTRAINT c") }
}

func (in inPostgres) marks(generation int) (n int) {
	in.Helper()
	require.NoError(in, in.conn.QueryRow(in.Context(), `SELECT count(*) FROM lotline_read.rebuild WHERE generation = $1 AND (name LIKE 'batches%' OR name = 'position' AND value <> '{}')`, generation).Scan(&n))
	return n
}

type inRedis struct {
	*pipeline
	*goredis.Client
}

func (in inRedis) plant(generation int) {
	in.Helper()
	rows := fmt.Sprintf("%s:g%d:", in.on.Database, generation)
	require.NoError(in, in.HSet(in.Context(), rows+"order:o-ghost", "CHAIR", "3 1 - b-1").Err())
	require.NoError(in, in.HSet(in.Context(), rows+"sku:CHAIR", "b-1", "1000 6 5 -").Err())
	require.EqualValues(in, 1, in.HDel(in.Context(), rows+"order:o-0", "CHAIR").Val())
}

func (in inRedis) refuse(sku string) (undo func()) {
	in.Helper()
	key := in.on.Database + ":g1:sku:" + sku
	require.NoError(in, in.Set(in.Context(), key, "somebody's own", 0).Err())
	return func() { require.NoError(in, in.Del(in.Context(), key).Err()) }
}

func (in inRedis) marks(generation int) (n int) {
	in.Helper()
	marks, err := in.HGetAll(in.Context(), fmt.Sprintf("%s:rebuild:%d", in.on.Database, generation)).Result()
	require.NoError(in, err)
	for name, value := range marks {
		if strings.HasPrefix(name, "batches") || name == "position" && value != "{}" {
			n++
		}
	}
	return n
}

// planted is what plant comes to, as reports say it.
func planted(where, says string) []string {
	return []string{
		where + `: "CHAIR" line o-ghost is 1 in batch "b-1", in stock, since version 3; the write side has none`,
		where + `: "CHAIR" batch b-1 is 5 of 6 available, in stock; the write side says 0 of 6 available, in stock`,
		where + `: "CHAIR" line o-0 is missing; the write side says 2 in batch "b-1", in stock, since version 3` + says,
	}
}

func (p *pipeline) contains(printed string, texts ...string) {
	p.Helper()
	for _, text := range texts {
		require.Contains(p, printed, text)
	}
}

func TestEachReadModelIsRebuiltUnderLoad(t *testing.T) {
	onEachKept(t, func(p *pipeline, in planter) {
		p.history("CHAIR", awkward)
		stopCommands := p.busy()
		in.plant(1)
		code, printed := p.verify("--wait=1s")
		require.Equal(p, 1, code, printed)
		p.contains(printed, planted("WRONG   "+p.on.ReadModel, "")...)

		stopAsking := p.asked()
		printed = p.rebuilds("--from=state")
		stopAsking()
		p.contains(printed, append(planted("live 1", ""), "Switched: readers are answered from generation 2.")...)
		require.NotContains(p, printed, "\nnew ")
		p.answers("/allocations/o-0", `"batchref":"b-1"`)
		require.Contains(p, p.rebuilds("--rollback"), "readers are answered from generation 1")
		p.answers("/allocations/o-ghost", `"batchref":"b-1"`)
		require.Contains(p, p.rebuilds("--rollback"), "readers are answered from generation 2")
		require.Contains(p, p.rebuilds("--drop"), "generation 1 is gone")
		p.agrees()

		require.Contains(p, p.rebuilds("--from=events"), "Switched: readers are answered from generation 3.")
		require.Greater(p, stopCommands(), 100)
		require.Contains(p, p.rebuilds("--drop"), "generation 2 is gone")
		p.agrees()
	})
}

// A read model refuses what comes of one SKU. All others are projected, the SKU is named by whoever projects, and once the cause is
// mended a rebuild brings it back and takes the notes away.
func TestWhatEachReadModelRefusesIsSetAside(t *testing.T) {
	onEachKept(t, func(p *pipeline, in planter) {
		undo := in.refuse("BED")
		p.produce([]*kgo.Record{
			record("c-1", createBatch, "BED", `{"ref":"b-1","sku":"BED","qty":5,"eta":null}`),
			record("c-2", createBatch, "CHAIR", `{"ref":"b-1","sku":"CHAIR","qty":7,"eta":null}`),
		})
		p.answers("/availability/CHAIR", `"available":7`)
		readiness := func(status int, says string) {
			require.EventuallyWithT(p, func(c *assert.CollectT) {
				is, body := get(c, "http://"+p.admins[1]+"/readyz")
				require.Equal(c, status, is, body)
				require.Contains(c, body, says)
			}, answerWithin, lookEvery)
		}
		readiness(http.StatusServiceUnavailable, p.on.ReadModel+` lacks 1 events, the first of SKU \"BED\": refused is version 1`)
		undo()
		p.rebuilds("--from=state")
		readiness(http.StatusOK, "")
		p.answers("/availability/BED", `"available":5`)
		p.agrees()
	})
}

func TestAKilledRebuildOfEachReadModelGoesOn(t *testing.T) {
	onEachKept(t, func(p *pipeline, in planter) {
		p.history("CHAIR")
		stop := p.busy()
		p.answers("/commands/busy-400", `"outcome"`)
		stop()
		for generation, from := range []string{2: "state", 3: "events"} {
			if from == "" {
				continue
			}
			running := p.started("--from="+from, "--workers=1", "--rows-per-second-max=60")
			require.Eventually(p, func() bool { return in.marks(generation) > 0 }, answerWithin, lookEvery)
			require.NoError(p, running.Process.Kill())
			require.EqualError(p, running.Wait(), "signal: killed", "it was still loading")
			require.Contains(p, p.rebuilds("--from="+from), fmt.Sprintf("Switched: readers are answered from generation %d.", generation))
			p.rebuilds("--drop")
			p.agrees()
		}
	})
}

func TestARebuildOfEachReadModelThatDiffersIsNotTaken(t *testing.T) {
	t.Parallel()
	onEachKept(t, func(p *pipeline, in planter) {
		p.history("CHAIR", awkward)
		postgres, err := pgx.Connect(p.Context(), p.on.PostgresURL)
		require.NoError(p, err)
		defer postgres.Close(context.WithoutCancel(p.Context()))
		moves := func(ref string) {
			_, err := postgres.Exec(p.Context(), `UPDATE order_lines SET batchref = $1 WHERE orderid = 'o-1' AND sku = 'CHAIR'`, ref)
			require.NoError(p, err)
		}
		moves("b-2")
		code, printed := p.rebuild("--from=events", "--wait=1s")
		require.Equal(p, 1, code, printed)
		p.contains(printed, `new 2: "CHAIR" line o-1 is 2 in batch "b-1", in stock, since version 4; the write side says 2 in batch "b-2", eta 2031-01-02, since version 4`,
			"NOT switched: 1 rows of 1 SKUs")
		moves("b-1")

		in.plant(2)
		code, printed = p.rebuild("--from=events", "--wait=1s")
		require.Equal(p, 1, code, printed)
		p.contains(printed, append(planted("new 2", ""), "NOT switched: 3 rows of 1 SKUs")...)
		require.NotContains(p, printed, "\nlive 1")
		p.agrees() // readers were never switched
		code, printed = p.rebuild("--rollback")
		require.Equal(p, 2, code, printed)
		require.Contains(p, printed, "was never live")
		require.Contains(p, p.rebuilds("--drop"), "generation 2 is gone")
		require.Contains(p, p.rebuilds("--from=events"), "Switched: readers are answered from generation 2.")
		p.agrees()
	})
}

func TestEachReadModelIsAudited(t *testing.T) {
	onEachKept(t, func(p *pipeline, in planter) {
		p.history("CHAIR", awkward)
		a := p.audit(3)
		quiet := a.pass(16)
		require.Empty(p, quiet.Found)
		require.Equal(p, 2, quiet.SKUs)
		require.Equal(p, 14, quiet.Lines)
		stop := p.busy()
		a.RowsMax = 1000
		require.Empty(p, a.pass(20).Found, "no false alarm while commands come in")
		require.Greater(p, stop(), 100)

		in.plant(1)
		seen := a.pass(20)
		require.Equal(p, []verify.Fault{
			{
				Store: p.on.ReadModel, SKU: "CHAIR", Row: "batch b-1", Is: "5 of 6 available, in stock (version 1000)",
				Should: "0 of 6 available, in stock (Postgres is at version 17)",
			},
			{Store: p.on.ReadModel, SKU: "CHAIR", Row: "line o-0", Should: `2 in batch "b-1" since version 3`},
		}, seen.Found, "the ghost is of an order that Postgres does not know")
		p.gauge("audit_drifting_skus", func(value float64) bool { return value == 1 }) // the projector's own
		p.rebuilds("--from=state")
		require.Equal(p, []string{"CHAIR"}, a.pass(20).Mended)
		p.gauge("audit_drifting_skus", func(value float64) bool { return value == 0 })
	}, func(c *stack.Config) {
		require.NoError(t, stack.Prepare(t.Context(), c)) // makes the roles, if this is the first test on the server
		people, err := stack.Login(t.Context(), c.Owner, "audit_"+c.User, "lotline_bi")
		require.NoError(t, err)
		c.Projector.Postgres.PostgresURL, c.Projector.AuditInterval = people, time.Second
	})
}

// The write side is asked as it is.
func TestTheWriteSideNeedsNoRebuild(t *testing.T) {
	for _, command := range [][]string{{"rebuild", "--model=write-side", "--from=state"}, {"rebuild", "--read-model=write-side", "--rollback"}, {"verify", "--read-model=write-side"}} {
		var out bytes.Buffer
		require.Equal(t, 2, cli.Main(t.Context(), command, strings.NewReader(""), &out, &out))
		require.Contains(t, out.String(), "write-side, where nothing is projected, so that there is nothing to rebuild, to verify or to audit")
	}
}
