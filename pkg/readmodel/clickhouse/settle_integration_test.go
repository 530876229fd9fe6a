//go:build integration

package clickhouse

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Somebody else's inserts into tables of their own may take hours.
func TestAnInsertOfSomebodyElseHoldsUpNoRebuild(t *testing.T) {
	cfg, others := migrated(t), newDatabase(t)
	require.NoError(t, connect(t, cfg).Exec(t.Context(), "CREATE DATABASE "+others.Database))
	conn := connect(t, others)
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (n UInt64) ENGINE = Memory"))
	inserting, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- conn.Exec(inserting, "INSERT INTO t SELECT number + sleepEachRow(1) FROM numbers(60) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0")
	}()
	defer func() { end(); <-ended }()
	g, err := NewGenerations(cfg)
	require.NoError(t, err)
	defer g.Close()
	watch := connect(t, cfg)
	require.Eventually(t, func() bool {
		return len(lines(t, watch, "SELECT query_id FROM system.processes WHERE query_kind = 'Insert' AND current_database = '"+others.Database+"'")) == 1
	}, 5*time.Second, 50*time.Millisecond)
	soon, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	require.NoError(t, g.Settle(soon))
}
