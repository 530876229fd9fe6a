//go:build integration

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/tests/bench/trial"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

func TestARunIsMeasuredAndStored(t *testing.T) {
	f := flags{
		Name:    "allocator",
		Servers: trial.Servers{Postgres: postgrestest.Database(t), Kafka: []string{isolation.Kfake(t)}}, Only: []string{"protobuf", "cold", "mixed producers with every SKU shared"},
		Rounds: 1, Commands: 200, SKUs: 50, FloorTimes: 3, Allocators: 1, Sessions: 1, Connections: 2, ChunkMax: 50, Results: t.TempDir(),
	}
	ground, err := trial.NewGround(t.Context(), f.Servers, programs...) // once for both: linking takes longer than measuring
	t.Cleanup(func() { require.NoError(t, ground.Close()) })
	require.NoError(t, err)
	require.NoError(t, measure(t.Context(), f, ground))
	f.Only, f.Rates, f.Duration, f.Rounds, f.NoCeiling = nil, []int{100}, time.Second, 0, true
	f.Lines, f.Cuts, f.Stages = []int{300}, []int{1, 20}, time.Second
	f.ClickHouse = isolation.Setting(t, "LOTLINE_TEST_CLICKHOUSE")
	require.NoError(t, measure(t.Context(), f, ground))
	require.FileExists(t, filepath.Join(f.Results, "allocator.json"))
	require.FileExists(t, filepath.Join(f.Results, "allocator-cuts.svg"))
}
