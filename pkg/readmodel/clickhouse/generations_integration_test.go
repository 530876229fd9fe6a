//go:build integration

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

func newGenerations(t testing.TB, cfg clickhouseclient.Config) *Generations {
	t.Helper()
	g, err := NewGenerations(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g
}

func apply(t *testing.T, w *Writer, records []readmodel.Record) {
	t.Helper()
	for part := range slices.Chunk(records, 1000) {
		require.NoError(t, w.Apply(t.Context(), part))
	}
}

// requireTables compares every row of every table that readers use with a fold of the events.
func requireTables(t *testing.T, cfg clickhouseclient.Config, h *readmodeltest.History) {
	t.Helper()
	conn := connect(t, cfg)
	for query, want := range h.Tables() {
		got := lines(t, conn, query)
		slices.Sort(got)
		require.NotEmpty(t, want)
		require.Equal(t, want, got, query)
	}
}

func TestAGenerationIsMadeAsTheFirstWasMigrated(t *testing.T) {
	cfg := migrated(t)
	g := newGenerations(t, cfg)
	require.NoError(t, g.Begin(t.Context(), 7))
	made := func(generation string) []string {
		return lines(t, connect(t, cfg), "SELECT replaceRegexpAll(concat(name, ': ', create_table_query), '(_g|generation )"+generation+"\\\\b', '\\\\1N') AS line FROM system.tables"+
			" WHERE database = currentDatabase() AND match(name, '_g"+generation+"$') AND NOT startsWith(name, 'rebuild') ORDER BY name")
	}
	require.Len(t, made("1"), 8, "four tables and their views")
	require.Equal(t, made("1"), made("7"))
}

// What the suite of all stores cannot see: the log, every column, and what is left.
func TestTablesOfGenerations(t *testing.T) {
	cfg := migrated(t)
	w, g := newWriter(t, cfg), newGenerations(t, cfg)
	h := readmodeltest.New(11, 6000)
	apply(t, w, h.Records[:3000])
	require.NoError(t, g.Begin(t.Context(), 2))
	apply(t, w, h.Records[3000:])
	apply(t, w, h.Records[900:1800]) // as a zombie does

	requireTables(t, cfg, h)

	below := map[int32]int64{0: 1 << 40, 1: 1 << 40, 2: 1 << 40}
	parts, err := g.LogParts(t.Context(), below)
	require.NoError(t, err)
	require.Greater(t, len(parts), 1, "the history goes over midnight")
	for _, p := range parts {
		require.NoError(t, g.LoadLog(t.Context(), 2, below, p.Name))
	}
	require.NoError(t, connect(t, cfg).Exec(t.Context(), "TRUNCATE TABLE skus_g1"), "so that a switch can be told")
	require.NoError(t, g.Switch(t.Context(), 2))
	requireTables(t, cfg, h)

	require.NoError(t, g.Switch(t.Context(), 1))
	require.Empty(t, lines(t, connect(t, cfg), "SELECT sku FROM skus FINAL"))
	require.NoError(t, g.Switch(t.Context(), 2))
	require.NoError(t, g.Drop(t.Context(), 1))
	apply(t, w, h.Records) // once more, without the views of generation 1
	requireTables(t, cfg, h)
	require.Empty(t, lines(t, connect(t, cfg), "SELECT name FROM system.tables WHERE database = currentDatabase() AND (name LIKE '%g1' OR position(name, '_other') > 0)"))
}

// Killed between two exchanges, as nobody can say that ClickHouse is not: the switch is made again.
func TestASwitchThatWasBrokenOff(t *testing.T) {
	cfg := migrated(t)
	g, conn := newGenerations(t, cfg), connect(t, cfg)
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE skus_other ENGINE = Alias(skus_g2)"))
	require.NoError(t, conn.Exec(t.Context(), "EXCHANGE TABLES skus AND skus_other"))
	_, live, err := g.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, live, "it is not switched as long as one table is not")
	require.NoError(t, g.Switch(t.Context(), 2))
	_, live, err = g.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, live)
}

// An insert that began before the views were made does not reach them: only what is read after it has ended is whole.
func TestBeginWaitsForInsertsThatDoNotKnowIt(t *testing.T) {
	cfg := migrated(t)
	g := newGenerations(t, cfg)
	conn := connect(t, cfg)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithQueryID(cfg.Database), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 1}))
	inserted := make(chan time.Time, 1)
	go func() {
		if err := conn.Exec(ctx, "INSERT INTO events (sku, version, type, orderid, batchref, event_time) SELECT 'LAMP', number + 1, 'Allocated', toString(number), 'b1', toDateTime64('2026-11-30 21:30:00', 3, 'UTC') FROM numbers(20) WHERE sleepEachRow(0.1) = 0"); err != nil {
			t.Error(err)
		}
		inserted <- time.Now()
	}()
	require.Eventually(t, func() bool {
		running, err := g.inserting(t.Context())
		return err == nil && slices.Contains(running, cfg.Database)
	}, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NotEmpty(t, inserted, "it has ended before Begin returns")
	require.Empty(t, lines(t, conn, "SELECT orderid FROM order_lines_g2"), "it did not know the view")
	below := map[int32]int64{0: 1 << 40}
	require.NoError(t, g.LoadLog(t.Context(), 2, below, "2026-11-30"))
	require.Len(t, lines(t, conn, "SELECT orderid FROM order_lines_g2"), 20)
}

// patient is a connection whose statements must have longer than an insert has.
type patient struct {
	driver.Conn
	t *testing.T
}

func (p patient) Exec(ctx context.Context, sql string, args ...any) error {
	deadline, ok := ctx.Deadline()
	require.True(p.t, ok && time.Until(deadline) > 10*insertTimeout, sql)
	return p.Conn.Exec(ctx, sql, args...)
}

func TestForgetReachesEveryGeneration(t *testing.T) {
	cfg := migrated(t)
	g, w := newGenerations(t, cfg), newWriter(t, cfg)
	require.NoError(t, g.Begin(t.Context(), 2))
	h := readmodeltest.New(5, 300)
	apply(t, w, h.Records)
	sku := h.Records[0].Event.SKU
	w.conn = patient{w.conn, t} // of a large log a statement takes longer
	require.NoError(t, w.Forget(t.Context(), []string{sku}, map[int32]int64{0: 0}))
	conn := connect(t, cfg)
	for _, generation := range []int{1, 2} {
		for _, table := range generationTables {
			skus := lines(t, conn, "SELECT sku FROM "+of(table, generation))
			require.NotEmpty(t, skus)
			require.NotContains(t, skus, sku, strings.Join(skus, " "))
		}
	}
}

// A change of a table's shape goes through a rebuild: the next generation has a column more, which the views fill and the
// log fills for what was there before. Readers of the old shape ask all the time and are always answered, those of the new
// one from the switch on.
func TestAColumnIsAddedByARebuild(t *testing.T) {
	cfg := migrated(t)
	g, w := newGenerations(t, cfg), newWriter(t, cfg)
	planted := fstest.MapFS{}
	for _, table := range generationTables {
		name := "generations/" + table + ".sql"
		text, err := fs.ReadFile(shape, name)
		require.NoError(t, err)
		sql := string(text)
		if table == tableLines {
			sql = strings.NewReplacer(
				"    commandid  String", "    commandsource String COMMENT 'Who sent that command',\n    commandid  String",
				"commandid, event_time\nFROM", "commandsource, commandid, event_time\nFROM").Replace(sql)
			require.Equal(t, 3, strings.Count(sql, "commandsource")+1, sql)
		}
		planted[name] = &fstest.MapFile{Data: []byte(sql)}
	}
	g.shape = planted

	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		failed <- func() error {
			r, err := NewReader(cfg, 10*time.Second)
			if err != nil {
				return err
			}
			defer r.Close()
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := r.Orders(context.WithoutCancel(ctx), []string{fmt.Sprintf("o%d", i%3000)}); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	h := readmodeltest.New(3, 6000)
	apply(t, w, h.Records[:2000])
	require.NoError(t, g.Begin(t.Context(), 2))
	written := make(chan error, 1)
	go func() { // a projector
		written <- func() error {
			for part := range slices.Chunk(h.Records[2000:], 200) {
				if err := w.Apply(ctx, part); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	below := map[int32]int64{0: 1 << 40, 1: 1 << 40, 2: 1 << 40}
	parts, err := g.LogParts(t.Context(), below)
	require.NoError(t, err)
	for _, p := range parts {
		require.NoError(t, g.LoadLog(t.Context(), 2, below, p.Name))
	}
	conn := connect(t, cfg)
	require.Error(t, conn.Exec(t.Context(), "SELECT commandsource FROM order_lines FINAL"), "not before the switch")
	require.NoError(t, g.Switch(t.Context(), 2))
	require.Equal(t, []string{"/test"}, lines(t, conn, "SELECT DISTINCT commandsource FROM order_lines FINAL"))
	require.NoError(t, <-written)
	require.NoError(t, g.Drop(t.Context(), 1))
	stop()
	require.NoError(t, <-failed)
	requireTables(t, cfg, h)
	require.Equal(t, []string{"/test"}, lines(t, conn, "SELECT DISTINCT commandsource FROM order_lines FINAL"))
}

// Each of 32 loads has begun to insert batches before any of them begins with the references: none may wait for the connection
// of another that waits as well.
func TestManyLoadsOfTwoTables(t *testing.T) {
	g := newGenerations(t, migrated(t))
	require.NoError(t, g.Begin(t.Context(), 2))
	group, ctx := errgroup.WithContext(t.Context())
	var begun sync.WaitGroup
	const loads = 32
	begun.Add(loads)
	for i := range loads {
		ref := fmt.Sprintf("b-%d", i)
		group.Go(func() error {
			return g.Load(ctx, 2, func(add func(*readmodel.State) error) error {
				err := add(&readmodel.State{Batches: []readmodel.BatchRow{{SKU: "LAMP", Batch: readmodel.Batch{Ref: ref, Version: 1, Qty: 1, Available: 1}, EventTime: time.Now()}}})
				begun.Done()
				begun.Wait()
				return errors.Join(err, add(&readmodel.State{Refs: []readmodel.RefRow{{Ref: ref, SKU: "LAMP"}}}))
			})
		})
	}
	require.NoError(t, group.Wait())
	all, err := g.Sums(t.Context(), 2)
	require.NoError(t, err)
	require.EqualValues(t, 2*loads, all["LAMP"].Rows)
}
