//go:build integration

package path

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/projector"
)

func TestRebuildUnderLoad(t *testing.T) {
	for _, from := range []string{"state", "events"} {
		t.Run(from, func(t *testing.T) {
			onKfake(t, func(p *pipeline) {
				p.history("CHAIR", awkward)
				stopCommands := p.busy()
				// What nobody will write again: an order line that was never there, stock, and a line that is missing (which
				// events that are applied once more bring back).
				p.run(`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-ghost', 'CHAIR', 3, 0, 'b-1', 1)`,
					`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available) VALUES ('CHAIR', 'b-1', 1000, 0, 6, 5)`,
					`DELETE FROM order_lines_g1 WHERE orderid = 'o-0' AND sku = 'CHAIR'`)
				want := []string{
					`live 1: "CHAIR" line o-ghost is 1 in batch "b-1", in stock, since version 3; the write side has none`,
					`live 1: "CHAIR" batch b-1 is 5 of 6 available, in stock; the write side says 0 of 6 available, in stock`,
					"filled; adding up the rows of generation 2", "added up; looking row by row at ", "compared; switching readers to generation 2",
					"Switched: readers are answered from generation 2.",
				}
				if from == "state" {
					want = append(want, " rows loaded;", `live 1: "CHAIR" line o-0 is missing; the write side says 2 in batch "b-1", in stock`)
				}
				stopAsking, stopOld := p.asked(), p.redelivers()
				printed := p.rebuilds("--from=" + from)
				stopOld()
				stopAsking()
				for _, text := range want {
					require.Contains(t, printed, text)
				}
				require.NotContains(t, printed, "\nnew ", "nothing of the new one differs")

				code, printed := p.rebuild("--from=" + from)
				require.Equal(t, 2, code, printed)
				require.Contains(t, printed, "generation 1 of clickhouse is still there beside the live one, 2")
				const ghosts = "SELECT count() FROM order_lines FINAL WHERE orderid = 'o-ghost'"
				printed = p.rebuilds("--rollback")
				require.Contains(t, printed, "switching readers back")
				require.Contains(t, printed, "readers are answered from generation 1")
				p.selects(ghosts, "1")
				require.Contains(t, p.rebuilds("--rollback"), "readers are answered from generation 2")
				p.selects(ghosts, "0")
				require.Contains(t, p.rebuilds("--drop"), "generation 1 is gone")
				require.Greater(t, stopCommands(), 100)
				p.agrees()
				for _, flag := range []string{"--drop", "--rollback"} {
					code, printed := p.rebuild(flag)
					require.Equal(t, 2, code)
					require.Contains(t, printed, "there is no generation of clickhouse beside the live one, 2")
				}
			})
		})
	}
}

func TestARebuildThatDiffersIsNotTaken(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR", awkward)
		postgres, err := pgx.Connect(t.Context(), p.on.PostgresURL)
		require.NoError(t, err)
		defer postgres.Close(context.WithoutCancel(t.Context()))
		write := func(sql string) {
			_, err := postgres.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		write(`UPDATE order_lines SET batchref = 'b-2' WHERE orderid = 'o-0' AND sku = 'CHAIR'`)
		code, printed := p.rebuild("--from=events", "--wait=1s")
		require.Equal(t, 1, code, printed)
		require.Contains(t, printed, `new 2: "CHAIR" line o-0 is 2 in batch "b-1", in stock, since version 3; the write side says 2 in batch "b-2", eta 2031-01-02, since version 3`)
		require.Contains(t, printed, `live 1: "CHAIR" line o-0 is 2 in batch "b-1"`)
		require.Contains(t, printed, "NOT switched: 1 rows of 1 SKUs")
		write(`UPDATE order_lines SET batchref = 'b-1' WHERE orderid = 'o-0' AND sku = 'CHAIR'`)

		code, printed = p.rebuild("--from=state")
		require.Equal(t, 2, code, printed)
		require.Contains(t, printed, "generation 2 of clickhouse is being made with --from=events")
		code, printed = p.rebuild("--rollback")
		require.Equal(t, 2, code, printed)
		require.Contains(t, printed, "generation 2 of clickhouse was never live")

		p.run(`INSERT INTO order_lines_g2 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-ghost', 'CHAIR', 3, 0, 'b-1', 1), ('o-ghost', 'GHOST', 3, 0, 'b-1', 1)`,
			`INSERT INTO order_lines_g2 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-7', 'CHAIR', 1, 0, 'b-1', 2)`, // changes nothing: it was given back at a later version
			`DELETE FROM order_lines_g2 WHERE orderid = 'o-1' AND sku = 'CHAIR'`,
			`INSERT INTO order_lines_g2 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-2', 'CHAIR', 5, 0, 'b-1', 3)`,
			`DELETE FROM stock_g2 WHERE sku = 'CHAIR' AND ref = 'b-2'`, `DELETE FROM batches_by_ref_g2 WHERE sku = 'CHAIR' AND ref = 'b-2'`,
			`INSERT INTO skus_g2 (sku, version, available) SELECT sku, version, available + 1 FROM skus_g2 FINAL WHERE sku != 'CHAIR'`)
		code, printed = p.rebuild("--from=events", "--wait=1s")
		require.Equal(t, 1, code, printed)
		for _, want := range []string{
			`new 2: "CHAIR" line o-ghost is 1 in batch "b-1", in stock, since version 3; the write side has none`,
			`new 2: "GHOST" line o-ghost is 1 in batch "b-1", in stock, since version 3; the write side has none`,
			`new 2: "CHAIR" line o-1 is missing; the write side says 2 in batch "b-1", in stock, since version 4`,
			`new 2: "CHAIR" line o-2 is 3 in batch "b-1", in stock, since version 5; the write side says 2 in batch "b-1", in stock, since version 5`,
			`new 2: "CHAIR" batch b-2 is missing; the write side says 92 of 100 available, eta 2031-01-02`,
			`new 2: "CHAIR" ref b-2 is missing; the write side says there`,
			fmt.Sprintf(`new 2: %q sku is version 17, 93 available; the write side says version 17, 92 available`, awkward),
			"NOT switched: 7 rows of 3 SKUs",
		} {
			require.Contains(t, printed, want)
		}
		require.NotContains(t, printed, "\nlive 1")
		p.agrees() // readers were never switched

		require.Contains(t, p.rebuilds("--drop"), "generation 2 is gone")
		write(`UPDATE products SET version = version - 1 WHERE sku = 'CHAIR'`) // as after a restore
		code, printed = p.rebuild("--from=events", "--wait=1s")
		require.Equal(t, 1, code, printed)
		require.Contains(t, printed, `new 2: "CHAIR" sku is version 17; the write side says version 16: was Postgres restored from a backup?`)
		write(`UPDATE products SET version = version + 1 WHERE sku = 'CHAIR'`)
		require.Contains(t, p.rebuilds("--from=events"), "Switched")
		p.agrees()
	})
}

// Events that allocated a line which was given back since may come once more at any time. The state has no such line; what
// is loaded from it says so nevertheless.
func TestOldEventsAfterARebuildFromState(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR", awkward)
		require.Contains(t, p.rebuilds("--from=state"), "Switched")
		p.run("INSERT INTO events SELECT * FROM events FINAL WHERE type = 'Allocated'")
		p.selects("SELECT count() FROM order_lines FINAL WHERE orderid = 'o-7'", "0")
		p.agrees()
	})
}

// lotline builds the operator's command once, into a directory that TestMain removes.
var lotline = sync.OnceValues(func() (string, error) {
	var err error
	if lotlineDir, err = os.MkdirTemp("", "lotline-path-"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", lotlineDir, "github.com/lotline/lotline/services/cli/cmd/lotline").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build lotline: %w: %s", err, out)
	}
	return filepath.Join(lotlineDir, "lotline"), nil
})

var lotlineDir string

// A rebuild is killed in the middle and goes on: what it had marked is not loaded again. Lines that the snapshot of the
// first run had are given back before they are loaded.
func TestARebuildIsKilledAndGoesOn(t *testing.T) {
	for _, from := range []string{"state", "events"} {
		t.Run(from, func(t *testing.T) {
			onKfake(t, func(p *pipeline) {
				stop := p.busy()
				p.answers("/commands/busy-800", `"outcome"`)
				stop()
				running := p.started("--from="+from, "--workers=1", "--rows-per-second-max=60")
				marked := "SELECT count() FROM rebuild_g2 WHERE startsWith(name, 'batches') OR name = 'position' AND value != '{}'"
				require.Eventually(t, func() bool {
					var n uint64
					return p.clickHouse().QueryRow(t.Context(), marked).Scan(&n) == nil && n > 0
				}, answerWithin, lookEvery)
				var gone []*kgo.Record
				for order := range 200 {
					sku := fmt.Sprintf("BUSY-%d", (700-order)%20)
					gone = append(gone, record(fmt.Sprintf("gone-%d", order), deallocate, sku, fmt.Sprintf(`{"orderid":"o-%d","sku":%q}`, 700-order, sku)))
				}
				p.produce(gone)
				p.answers("/commands/gone-199", `"outcome"`)
				require.NoError(t, running.Process.Kill())
				require.EqualError(t, running.Wait(), "signal: killed", "it was still loading")
				p.selects("SELECT count() FROM rebuild_g2 WHERE name = 'filled'", "0")
				before := p.number("SELECT sum(cityHash64(name, value, at)) FROM rebuild_g2 WHERE startsWith(name, 'products') OR startsWith(name, 'batches') OR name = 'starts'")
				require.NotZero(t, before)

				require.Contains(t, p.rebuilds("--from="+from), "Switched")
				require.Equal(t, before, p.number("SELECT sum(cityHash64(name, value, at)) FROM rebuild_g2 WHERE startsWith(name, 'products') OR startsWith(name, 'batches') OR name = 'starts'"),
					"what was loaded before the kill was not loaded again")
				p.agrees()
			})
		})
	}
}

// A ClickHouse without anything, as after a loss of its disks, while the projector goes on.
func TestRebuildOfAReadModelThatIsGone(t *testing.T) {
	for _, from := range []string{"state", "events"} {
		t.Run(from, func(t *testing.T) {
			onKfake(t, func(p *pipeline) {
				stop := p.busy()
				p.run("DROP DATABASE " + p.on.Database + " SYNC")
				config := projector.DefaultConfig().Config
				config.ClickHouse.Addrs, config.ClickHouse.Database = []string{p.on.ClickHouse}, p.on.Database
				_, err := projector.Migrate(t.Context(), stores.MigrateConfig{Config: config})
				require.NoError(t, err)
				require.Contains(t, p.rebuilds("--from="+from), "Switched")
				stop()
				if from == "events" { // which also gives the log and the outcomes back
					p.agrees()
					return
				}
				require.Contains(t, p.rebuilds("--drop"), "generation 1 is gone")
				printed := p.rebuilds("--from=state")
				require.NotContains(t, printed, "\nlive 2", "it was right")
			})
		})
	}
}

// Where the topic's retention has deleted events, ClickHouse's own log has them.
func TestRebuildFromEventsBeyondTheTopicsRetention(t *testing.T) {
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR", awkward)
		conn := p.clickHouse()
		client, err := kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...))
		require.NoError(t, err)
		defer client.Close()
		rows, err := conn.Query(t.Context(), "SELECT kpartition, max(koffset) FROM events WHERE version <= 9 GROUP BY kpartition")
		require.NoError(t, err)
		forgotten := kadm.Offsets{}
		for rows.Next() {
			var partition int32
			var offset int64
			require.NoError(t, rows.Scan(&partition, &offset))
			forgotten.AddOffset(p.topics.Events.Name, partition, offset+1, -1)
		}
		require.NoError(t, rows.Err())
		deleted, err := kadm.NewClient(client).DeleteRecords(t.Context(), forgotten)
		require.NoError(t, err)
		require.NoError(t, deleted.Error())
		require.Contains(t, p.rebuilds("--from=events"), "Switched")
		p.agrees()
	})
}
