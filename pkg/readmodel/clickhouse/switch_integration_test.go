//go:build integration

package clickhouse

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

// Two rebuilds end at once, so both wait for the same moment without inserts, and one finds it first. Had both one name for what
// they exchange an alias with, the second exchange would take back the first: both would say that they switched, and readers
// would be where they were.
func TestTwoSwitchesAtOnce(t *testing.T) {
	cfg := migrated(t)
	g, conn, inserting := newGenerations(t, cfg), connect(t, cfg), connect(t, cfg)
	require.NoError(t, g.Begin(t.Context(), 2))
	ctx := clickhouse.Context(t.Context(), clickhouse.WithQueryID(cfg.Database), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 1}))
	inserted, switched := make(chan error, 1), make(chan error, 1)
	go func() {
		inserted <- inserting.Exec(ctx, "INSERT INTO events (sku, version, type, event_time) SELECT 'LAMP', number + 1, 'OutOfStock', now() FROM numbers(1000) WHERE sleepEachRow(0.1) = 0")
	}()
	found := func(query string, n int) func() bool {
		return func() bool { return len(lines(t, conn, query)) == n }
	}
	require.Eventually(t, found("SELECT query_id FROM system.processes WHERE query_id = '"+cfg.Database+"'", 1), 5*time.Second, 5*time.Millisecond)
	go func() { switched <- g.Switch(t.Context(), 2) }()
	require.Eventually(t, found("SELECT name FROM system.tables WHERE database = currentDatabase() AND position(name, '_other') > 0", len(generationTables)), 5*time.Second, 5*time.Millisecond)
	for _, alias := range generationTables { // the other one's
		for _, sql := range []string{
			"CREATE TABLE IF NOT EXISTS " + alias + "_other ENGINE = Alias(" + of(alias, 2) + ")",
			"EXCHANGE TABLES " + alias + " AND " + alias + "_other",
		} {
			require.NoError(t, conn.Exec(t.Context(), sql))
		}
	}
	require.NoError(t, conn.Exec(t.Context(), "KILL QUERY WHERE query_id = '"+cfg.Database+"' SYNC"))
	require.Error(t, <-inserted, "it ran until it was ended")
	require.NoError(t, <-switched)
	require.Equal(t, []string{"2"}, lines(t, conn, "SELECT DISTINCT extract(engine_full, '_g([0-9]+)') FROM system.tables WHERE database = currentDatabase() AND engine = 'Alias'"))
}

// What a switch had made when it died stands for the generation that is ended, and goes with it.
func TestADropAfterASwitchThatHadNotExchanged(t *testing.T) {
	cfg := migrated(t)
	g, conn := newGenerations(t, cfg), connect(t, cfg)
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE skus_other ENGINE = Alias(skus_g2)"))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE stock_other_00ab ENGINE = Alias(stock_g2)"))
	require.NoError(t, g.Drop(t.Context(), 2))
	require.Empty(t, lines(t, conn, "SELECT name FROM system.tables WHERE database = currentDatabase() AND match(name, '_g2|_other')"))
}
