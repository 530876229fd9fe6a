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

func TestPeersAreMeasuredAndChecked(t *testing.T) {
	f := flags{
		Name:    "peers",
		Servers: trial.Servers{Postgres: postgrestest.Database(t), Kafka: []string{isolation.Kfake(t)}},
		Only:    []string{lotline, "by hand"}, Rounds: 2, Commands: 400, SKUs: 20, Rate: 100, Duration: time.Second, Results: t.TempDir(),
	}
	require.NoError(t, run(t.Context(), f))
	require.FileExists(t, filepath.Join(f.Results, "peers.json"))
}

func TestWhatAKillLeavesIsCounted(t *testing.T) {
	f := flags{
		Name:    "kills",
		Servers: trial.Servers{Postgres: postgrestest.Database(t), Kafka: []string{isolation.Kfake(t)}},
		Only:    []string{lotline}, Commands: 50_000, SKUs: 1000, Kills: 1, Results: t.TempDir(),
	}
	require.NoError(t, run(t.Context(), f))
	require.FileExists(t, filepath.Join(f.Results, "kills.json"))
}

// The JVM's peer runs on Apache Kafka, in the benchmark only; that it compiles is seen here.
func TestKafkaStreamsCompilesOnApacheKafka(t *testing.T) {
	require.NoError(t, buildStreams(t.Context(), &trial.Ground{Dir: t.TempDir()}))
}
