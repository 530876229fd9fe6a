//go:build integration

package clickhouse

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

func TestOutcomesAreKeptForAsLongAsIsSaid(t *testing.T) {
	cfg := migrated(t)
	h := readmodeltest.New(1, 400)
	middle := h.Records[len(h.Records)/2].Time
	for i := range h.Records { // the older half is 100 days old
		age := 100 * 24 * time.Hour
		if h.Records[i].Time.After(middle) {
			age = 0
		}
		h.Records[i].Time = time.Now().Add(-age)
	}
	require.NoError(t, newWriter(t, cfg).Apply(t.Context(), h.Records))
	conn := connect(t, cfg)
	outcomes := func() string {
		require.NoError(t, conn.Exec(t.Context(), "OPTIMIZE TABLE outcomes FINAL"))
		return lines(t, conn, "SELECT concat(toString(countIf(event_time < now() - INTERVAL 50 DAY) > 0), ' ', toString(count() > 0)) FROM outcomes FINAL")[0]
	}
	events := lines(t, conn, "SELECT toString(count()) FROM events FINAL")
	for _, step := range []struct {
		days int
		left string
	}{{0, "1 1"}, {200, "1 1"}, {200, "1 1"}, {0, "1 1"}, {31, "0 1"}} {
		require.NoError(t, Migrate(t.Context(), cfg, Layout{Retention: Retention{OutcomesDays: step.days}}, slog.New(slog.DiscardHandler)))
		require.Equal(t, step.left, outcomes(), step.days)
		kept := lines(t, conn, "SELECT toString(position(engine_full, ' TTL ') = 0) FROM system.tables WHERE database = currentDatabase() AND name = 'outcomes'")
		require.Equal(t, step.days == 0, kept[0] == "1", step.days)
	}
	require.Equal(t, events, lines(t, conn, "SELECT toString(count()) FROM events FINAL"))
}

func TestRetentionRefusesWhatVerifyStillCompares(t *testing.T) {
	require.NoError(t, Retention{}.Validate())
	require.NoError(t, Retention{OutcomesDays: 40}.Validate())
	for _, days := range []int{-1, 39, 10_001} {
		require.ErrorContains(t, Retention{OutcomesDays: days}.Validate(), "--clickhouse-outcomes-days")
	}
}
