//go:build integration

package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

// aliases are what readers ask for, in the order in which a switch exchanges them.
var aliases = []string{"batches_by_ref", "order_lines", "skus", "stock"}

// everything is below these offsets of the events topic.
var everything = map[int32]int64{0: 1 << 40, 1: 1 << 40, 2: 1 << 40}

func apply(t *testing.T, w readmodel.Writer, records []readmodel.Record) {
	t.Helper()
	for part := range slices.Chunk(records, 1000) {
		require.NoError(t, w.Apply(t.Context(), part))
	}
}

// live returns the generation that readers of a host are answered from.
func (d *database) live(host int) string {
	d.Helper()
	engines := d.lines(d.connect(host), "SELECT DISTINCT extract(engine_full, '_g([0-9]+)') FROM system.tables WHERE database = currentDatabase() AND engine = 'Alias'")
	return strings.Join(engines, " and ")
}

// switched exchanges the aliases of one host, as a switch does that dies after it.
func (d *database) switched(host, generation int) {
	d.Helper()
	for _, alias := range aliases {
		d.run(host, fmt.Sprintf("DROP TABLE IF EXISTS %s_other", alias), fmt.Sprintf("CREATE TABLE %[1]s_other ENGINE = Alias(%[1]s_g%[2]d)", alias, generation))
		d.run(host, fmt.Sprintf("EXCHANGE TABLES %[1]s AND %[1]s_other", alias))
	}
}

func (d *database) requireList(live int, all ...int) {
	d.Helper()
	for i := range hosts {
		listed, asked, err := d.generations(i).List(d.Context())
		require.NoError(d, err)
		require.Equal(d, all, listed)
		require.Equal(d, live, asked, "as host %d says", i)
	}
}

// requireLive expects all readers to be answered from a generation.
func (d *database) requireLive(generation int) {
	d.Helper()
	for i := range hosts {
		require.Equal(d, fmt.Sprint(generation), d.live(i), "host %d", i)
	}
}

// named returns what there is at any host whose name has some text.
func (d *database) named(text string) (found []string) {
	d.Helper()
	for i := range hosts {
		found = append(found, d.lines(d.connect(i), "SELECT name FROM system.tables WHERE database = currentDatabase() AND position(name, '"+text+"') > 0")...)
	}
	return found
}

func TestAGenerationIsMadeAtEachHostAsTheFirstWasMigrated(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.generations(1).Begin(t.Context(), 7))
	for i := range hosts {
		made := func(generation string) []string {
			// A generation's number stands behind _g, and in comments behind the word.
			return d.lines(d.connect(i), "SELECT replaceRegexpAll(concat(name, ': ', create_table_query), '(_g|generation )"+generation+"([^0-9])', '\\\\1N\\\\2') AS line FROM system.tables"+
				" WHERE database = currentDatabase() AND match(name, '_g"+generation+"(_local)?$') AND NOT startsWith(name, 'rebuild')")
		}
		require.Len(t, made("1"), 12, "four tables of its own, as many over all shards, and the views")
		for n, want := range made("1") {
			require.Equal(t, want, made("7")[n])
		}
	}
	require.Len(t, d.named("rebuild_g7"), 4)
}

// What the suite of all stores cannot see: the log, every column, each host, and what is left.
func TestTablesOfGenerations(t *testing.T) {
	d := newDatabase(t)
	writers, g := []readmodel.Writer{d.writer(0), d.writer(1)}, d.generations(1)
	h := readmodeltest.New(11, 3000)
	apply(t, writers[0], h.Records[:1500])
	require.NoError(t, g.Begin(t.Context(), 2))
	apply(t, writers[1], h.Records[1500:])
	apply(t, writers[0], h.Records[900:1200]) // as a zombie does
	d.requireReadModel(h)

	parts, err := g.LogParts(t.Context(), everything)
	require.NoError(t, err)
	for _, p := range parts {
		require.NoError(t, g.LoadLog(t.Context(), 2, everything, p.Name))
	}
	require.NoError(t, g.CompleteLines(t.Context(), 2))
	d.everywhere("TRUNCATE TABLE skus_g1_local") // so that a switch can be told
	require.NoError(t, g.Switch(t.Context(), 2))
	d.requireReadModel(h)
	for i := range hosts {
		require.NoError(t, d.generations(i).Switch(t.Context(), 1))
		for j := range hosts {
			require.Empty(t, d.lines(d.connect(j), "SELECT sku FROM skus FINAL"))
		}
		require.NoError(t, d.generations(i).Switch(t.Context(), 2))
		d.requireReadModel(h)
	}
	require.NoError(t, g.Drop(t.Context(), 1))
	apply(t, writers[0], h.Records) // once more, without the views of generation 1
	d.requireReadModel(h)
	require.Empty(t, append(d.named("_g1"), d.named("_other")...))
}

// An insert that began before the views were made does not reach them, whichever host it runs at: only what is read after it
// has ended is whole.
func TestBeginWaitsForInsertsAtEachHost(t *testing.T) {
	for i := range hosts {
		t.Run(fmt.Sprint("host ", i), func(t *testing.T) {
			d := newDatabase(t)
			conn := d.connect(i)
			// Of a SKU of that shard, and of none of the others' business: no other host has an insert of it.
			sku := d.lines(conn, fmt.Sprintf("SELECT toString(number) FROM numbers(100) WHERE cityHash64(toString(number)) %% 2 = %d LIMIT 1", i))[0]
			ctx := clickhouse.Context(t.Context(), clickhouse.WithQueryID(d.name), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 1}))
			inserted := make(chan struct{}, 1)
			go func() {
				if err := conn.Exec(ctx, "INSERT INTO events_local (sku, version, type, event_time) SELECT '"+sku+"', number + 1, 'OutOfStock', toDateTime64('2026-11-30 21:30:00', 3, 'UTC') FROM numbers(10) WHERE sleepEachRow(0.1) = 0"); err != nil {
					t.Error(err)
				}
				inserted <- struct{}{}
			}()
			looking := d.connect(i)
			require.Eventually(t, func() bool {
				return len(d.lines(looking, "SELECT query_id FROM system.processes WHERE query_id = '"+d.name+"'")) == 1
			}, 5*time.Second, 5*time.Millisecond)
			g := d.generations(1 - i)
			require.NoError(t, g.Begin(t.Context(), 2))
			require.NotEmpty(t, inserted, "it has ended before Begin returns")
			require.Empty(t, d.lines(looking, "SELECT toString(version) FROM skus_g2"), "it did not know the view")
			require.NoError(t, g.LoadLog(t.Context(), 2, everything, "2026-11-30"))
			require.Equal(t, []string{"10"}, d.lines(looking, "SELECT toString(version) FROM skus_g2 FINAL"))
		})
	}
}

// Whoever dies in Begin has made anything but the views of all hosts; the next one makes what is missing.
func TestABeginThatWasBrokenOff(t *testing.T) {
	d := newDatabase(t)
	g := d.generations(0)
	require.NoError(t, g.Begin(t.Context(), 2))
	made := [][]string{d.named("_g2")}
	for _, missing := range [][]string{
		{"mv_skus_g2", "mv_stock_g2"},
		{"mv_skus_g2", "mv_stock_g2", "stock_g2", "stock_g2_local"},
		{"mv_skus_g2", "stock_g2", "stock_g2_local", "rebuild_g2"},
		{"mv_skus_g2", "rebuild_g2", "rebuild_g2_local"},
	} {
		for _, table := range missing {
			d.run(1, "DROP TABLE "+table+" SYNC")
		}
		if slices.Contains(missing, "rebuild_g2_local") { // then no host has the table over all of them yet
			d.run(0, "DROP TABLE rebuild_g2 SYNC")
		}
		require.ErrorContains(t, g.Switch(t.Context(), 2), hosts[1].Addr, "it is not whole there")
		d.requireLive(1)
		for i := range hosts {
			d.requireList(1, 1, 2)
			_, err := d.generations(i).Marks(t.Context(), 2)
			require.NoError(t, err, "the next one looks how far it had come")
		}
		require.NoError(t, g.Begin(t.Context(), 2))
		require.Equal(t, made[0], d.named("_g2"))
	}
}

// Readers of the first host are answered from another generation than those of the second, because what switched them died in
// between. Both answers are right; what comes next is what would have come before the switch, or its end.
func TestASwitchThatWasBrokenOff(t *testing.T) {
	d := newDatabase(t)
	h := readmodeltest.New(5, 600)
	g := d.generations(1)
	require.NoError(t, g.Begin(t.Context(), 2))
	apply(t, d.writer(0), h.Records)

	d.switched(0, 2)
	d.requireList(1, 1, 2)
	d.requireReadModel(h)
	require.NoError(t, g.Switch(t.Context(), 2), "the same again")
	d.requireList(2, 1, 2)
	d.requireLive(2)

	d.switched(0, 1)
	d.requireList(2, 1, 2)
	d.requireReadModel(h)
	require.ErrorContains(t, g.Drop(t.Context(), 1), "a switch to it was broken off", "somebody was going back to it")
	d.requireReadModel(h)
	require.NoError(t, g.Switch(t.Context(), 1), "the same again")
	d.requireList(1, 1, 2)
	d.requireLive(1)

	d.switched(0, 2)
	require.NoError(t, g.Switch(t.Context(), 1), "or the other way")
	d.requireLive(1)

	d.switched(0, 2)
	require.NoError(t, g.Drop(t.Context(), 2), "or it is given up")
	d.requireLive(1)
	d.requireList(1, 1)
	d.requireReadModel(h)
	require.Empty(t, append(d.named("_g2"), d.named("_other")...))
}

// A drop that ends at the second host leaves a generation that is fed in part: nobody is switched to it, and a rebuild that
// finds it does not take it for filled.
func TestADropThatWasBrokenOff(t *testing.T) {
	d := newDatabase(t)
	g := d.generations(0)
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NoError(t, g.Mark(t.Context(), 2, "filled", ""))
	d.run(1, "DROP VIEW mv_skus_g2 SYNC", "CREATE TABLE mv_skus_g2 (sku String) ENGINE = Memory") // no view, so DROP VIEW fails
	require.ErrorContains(t, g.Drop(t.Context(), 2), hosts[1].Addr)
	d.run(1, "DROP TABLE mv_skus_g2 SYNC")
	d.requireList(1, 1, 2)
	require.ErrorContains(t, g.Switch(t.Context(), 2), "has no mv_")
	d.requireLive(1)
	marks, err := g.Marks(t.Context(), 2)
	require.NoError(t, err)
	require.Empty(t, marks)
	require.NoError(t, g.Drop(t.Context(), 2))
	require.Empty(t, d.named("_g2"))
	d.requireList(1, 1)
}

func TestForgetReachesEachGenerationAtEachHost(t *testing.T) {
	d := newDatabase(t)
	w := d.writer(1)
	require.NoError(t, d.generations(0).Begin(t.Context(), 2))
	h := readmodeltest.New(5, 600)
	apply(t, w, h.Records)
	sku := h.Records[0].Event.SKU
	of := func(table string) int {
		there := 0
		for i := range hosts {
			there += len(d.lines(d.connect(i), "SELECT sku FROM "+table+"_local WHERE sku = '"+sku+"'"))
		}
		return there
	}
	var tables []string
	for _, table := range aliases {
		tables = append(tables, table+"_g1", table+"_g2")
	}
	for _, table := range append(tables, "events", "outcomes") {
		require.NotZero(t, of(table), table)
	}
	older := map[int32]int64{}
	for i := range h.Records[:300] { // the topic has no more of these
		older[h.Records[i].Partition] = max(older[h.Records[i].Partition], h.Records[i].Offset+1)
	}
	require.NoError(t, w.Forget(t.Context(), []string{sku}, older))
	var kept []readmodel.Record
	for _, r := range h.Records {
		if r.Event.SKU == sku && r.Offset < older[r.Partition] {
			kept = append(kept, r)
		}
	}
	want := readmodel.Fold(kept)
	require.NotEmpty(t, want.Lines)
	for _, generation := range []int{1, 2} {
		sums, err := d.generations(0).Sums(t.Context(), generation)
		require.NoError(t, err)
		require.Equal(t, want.SKUs[0].Version, sums[sku].Version, "what only the log has went through the views once more")
	}
	require.NoError(t, w.Forget(t.Context(), []string{sku}, map[int32]int64{}))
	for _, table := range append(tables, "events", "outcomes") {
		require.Zero(t, of(table), table)
	}
	apply(t, w, h.Records)
	d.requireReadModel(h)
}
