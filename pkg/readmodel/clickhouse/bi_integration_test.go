//go:build integration

package clickhouse

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// differing returns the views that do not say what they must.
func (f folded) differing(t *testing.T, conn driver.Conn) (queries []string) {
	t.Helper()
	for query, want := range f.views() {
		got := lines(t, conn, query)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			queries = append(queries, query)
			t.Logf("%s\n  differs in %d of %d rows", query, len(differences(want, got)), len(want))
			for _, d := range differences(want, got)[:min(4, len(differences(want, got)))] {
				t.Log("  ", d)
			}
		}
	}
	return queries
}

func differences(want, got []string) (found []string) {
	count := make(map[string]int)
	for _, row := range want {
		count[row]++
	}
	for _, row := range got {
		count[row]--
	}
	for _, row := range slices.Sorted(maps.Keys(count)) {
		if count[row] != 0 {
			found = append(found, fmt.Sprintf("%+d %s", -count[row], row))
		}
	}
	return found
}

// refresh counts hours again as the view's schedule does, and waits until one that began now has ended.
func refresh(t *testing.T, conn driver.Conn) {
	t.Helper()
	now := lines(t, conn, "SELECT toString(now64(3, 'UTC'))")[0]
	require.NoError(t, conn.Exec(t.Context(), "SYSTEM REFRESH VIEW mv_sku_hours"))
	require.Eventually(t, func() bool {
		require.NoError(t, conn.Exec(t.Context(), "SYSTEM WAIT VIEW mv_sku_hours"))
		return lines(t, conn, "SELECT toString(max(refreshed_at)) FROM sku_hours WHERE sku = ''")[0] >= now
	}, time.Minute, 20*time.Millisecond)
}

// Everything comes several times, in any order and any blocks, while hours are counted; all of it once more long after.
func TestViewsForBIAreExactUnderRedelivery(t *testing.T) {
	for seed := range uint64(2) {
		cfg := migrated(t)
		conn := connect(t, cfg)
		// The fault: adding up as rows come in. It is fed like all else.
		require.NoError(t, conn.Exec(t.Context(), `CREATE MATERIALIZED VIEW summing ENGINE = SummingMergeTree ORDER BY (hour, sku) AS
			SELECT toStartOfHour(event_time) AS hour, sku, toUInt64(qty) AS units FROM events WHERE type = 'Allocated' AND seq = 0`))
		h := businessHistory(seed, 3000)
		want := fold(h.Records)
		random := rand.New(rand.NewPCG(seed, 3))
		var log []readmodel.Record
		for _, r := range h.Records {
			for range 1 + random.IntN(3) {
				log = append(log, r)
			}
		}
		random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		w := newWriter(t, cfg)
		for i := 0; len(log) > 0; i++ {
			n := min(len(log), 1+random.IntN(800))
			require.NoError(t, w.Apply(t.Context(), log[:n]))
			log = log[n:]
			if i%4 == 0 {
				refresh(t, conn)
			}
		}
		require.NotEmpty(t, want.differing(t, conn), "what came since the last refresh must be missing, or nothing here is counted")
		refresh(t, conn)
		require.Empty(t, want.differing(t, conn))

		for _, r := range h.Records { // a month's events at once, and one by one where it hurts
			if r.Event.Version%50 == 1 {
				require.NoError(t, w.Apply(t.Context(), []readmodel.Record{r}))
			}
		}
		require.NoError(t, w.Apply(t.Context(), h.Records))
		refresh(t, conn)
		require.Empty(t, want.differing(t, conn))
		require.Equal(t, []string{"1"}, lines(t, conn, "SELECT toString((SELECT sum(units) FROM summing) > (SELECT sum(units_allocated) FROM bi_hourly))"),
			"the history must be one that a summing view counts wrong")
		t.Log("a summing view counts", lines(t, conn, "SELECT toString(round((SELECT sum(units) FROM summing) / (SELECT sum(units_allocated) FROM bi_hourly), 3))")[0], "times the units")
	}
}

// Whoever adds up all hours each minute would pay for years of them.
func TestOnlyHoursThatGotEventsAreCountedAgain(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	h := businessHistory(5, 1000)
	w := newWriter(t, cfg)
	late := slices.IndexFunc(h.Records, func(r readmodel.Record) bool { return r.Event.Type == schemas.EventAllocated && r.Event.Seq == 0 })
	require.NoError(t, w.Apply(t.Context(), slices.Concat(h.Records[:late], h.Records[late+1:])))
	refresh(t, conn)
	exec := func(sql string) { require.NoError(t, conn.Exec(t.Context(), sql), sql) }
	exec("ALTER TABLE events UPDATE ingested_at = ingested_at - INTERVAL 1 HOUR WHERE 1 SETTINGS mutations_sync = 2")
	counted := func() map[string]bool {
		rows := make(map[string]bool)
		for _, row := range lines(t, conn, "SELECT DISTINCT concat(toString(hour), ' ', toString(refreshed_at)) FROM bi_hourly") {
			rows[row] = true
		}
		return rows
	}
	before := counted()
	require.Greater(t, len(before), 5)

	hour := h.Records[late].Time.Truncate(time.Hour).Format(hourFormat)
	write := func(ago string) { // an event that came so long ago
		exec("SYSTEM STOP VIEW mv_sku_hours") // which might count it before it is that old
		require.NoError(t, w.Apply(t.Context(), h.Records[late:late+1]))
		exec(fmt.Sprintf(`ALTER TABLE events UPDATE ingested_at = now() - INTERVAL %s WHERE sku = '%s' AND version = %d SETTINGS mutations_sync = 2`,
			ago, h.Records[late].Event.SKU, h.Records[late].Event.Version))
		exec("SYSTEM START VIEW mv_sku_hours")
		refresh(t, conn)
	}
	write("3 MINUTE")
	require.Equal(t, before, counted(), "an event from before the last refresh was counted by it")
	write("1 MINUTE") // it may have been under way while that refresh read
	require.Empty(t, fold(h.Records).differing(t, conn))
	after := counted()
	for row := range before {
		require.Equal(t, row[:len(hour)] != hour, after[row], row)
	}
}

// The last refresh was at a quarter past; then the clock is set back to five past, events are written, and others again.
func TestAClockThatIsSetBackLosesNoHours(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	h := businessHistory(9, 1000)
	w := newWriter(t, cfg)
	for _, until := range []int{300, 600, len(h.Records)} {
		require.NoError(t, w.Apply(t.Context(), h.Records[max(0, until-500):until]))
		refresh(t, conn)
		refresh(t, conn) // what the first waits for may be a mark that is ahead already
		require.Empty(t, fold(h.Records[:until]).differing(t, conn))
		if until == 300 {
			require.NoError(t, conn.Exec(t.Context(), "INSERT INTO sku_hours SELECT * REPLACE (refreshed_at + INTERVAL 10 MINUTE AS refreshed_at) FROM sku_hours"))
		}
	}
	for range 4 {
		require.NoError(t, w.Forget(t.Context(), []string{h.Records[0].Event.SKU}, map[int32]int64{}))
		require.Empty(t, lines(t, conn, fmt.Sprintf("SELECT sku FROM bi_hourly WHERE sku = '%s'", h.Records[0].Event.SKU)))
	}
	require.NoError(t, w.Apply(t.Context(), h.Records))
	refresh(t, conn)
	refresh(t, conn)
	require.Empty(t, fold(h.Records).differing(t, conn))
}

// A refresh that wrote some hours and failed must not count as one.
func TestARefreshThatFailedHalfWayIsMadeGood(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	exec := func(sql string) { require.NoError(t, conn.Exec(t.Context(), sql), sql) }
	definition := lines(t, conn, "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'mv_sku_hours'")[0]
	inSmallBlocks := strings.Replace(definition, "max_threads = 1", "max_threads = 1, max_block_size = 10, min_insert_block_size_rows = 10, min_insert_block_size_bytes = 1", 1)
	require.NotEqual(t, definition, inSmallBlocks)
	h := businessHistory(6, 1000)
	want := fold(h.Records)
	w := newWriter(t, cfg)

	exec("DROP VIEW mv_sku_hours")
	require.NoError(t, w.Apply(t.Context(), h.Records))
	exec("ALTER TABLE events UPDATE ingested_at = ingested_at - INTERVAL 1 HOUR WHERE 1 SETTINGS mutations_sync = 2")
	exec("TRUNCATE TABLE sku_hours")
	exec(fmt.Sprintf("ALTER TABLE sku_hours ADD CONSTRAINT full CHECK hour < '%s'", want.newest.Add(-2*time.Hour).Format(hourFormat)))
	exec(inSmallBlocks)
	require.ErrorContains(t, conn.Exec(t.Context(), "SYSTEM WAIT VIEW mv_sku_hours"), "`full`")
	require.NotEmpty(t, lines(t, conn, "SELECT sku FROM bi_hourly"), "the refresh must have written something")

	exec("ALTER TABLE sku_hours DROP CONSTRAINT full")
	refresh(t, conn)
	require.Empty(t, want.differing(t, conn))
}

// Rows that a repair takes away leave no trace in the hours that they were counted in.
func TestHoursForgetWhatWasWrong(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	h := businessHistory(8, 500)
	w := newWriter(t, cfg)
	wrong := h.Records[slices.IndexFunc(h.Records, func(r readmodel.Record) bool { return r.Event.Type == schemas.EventAllocated })]
	wrong.Time, wrong.Event.Seq, wrong.Partition = wrong.Time.AddDate(0, 0, -9), 0, 9
	require.NoError(t, w.Apply(t.Context(), append(slices.Clone(h.Records), wrong)))
	refresh(t, conn)
	want := fold(h.Records)
	require.NotEmpty(t, want.differing(t, conn))
	require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events UPDATE ingested_at = ingested_at - INTERVAL 1 HOUR WHERE 1 SETTINGS mutations_sync = 2"))

	// The topic has only the wrong one; the others stay, and are counted again.
	all := int64(len(h.Records))
	require.NoError(t, w.Forget(t.Context(), []string{wrong.Event.SKU}, map[int32]int64{0: all, 1: all, 2: all}))
	refresh(t, conn)
	require.Empty(t, want.differing(t, conn))
}
