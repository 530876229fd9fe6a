//go:build integration

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

func TestAGroupSharesAndShapesAreSimulated(t *testing.T) {
	f := flags{
		Kafka: []string{isolation.Kfake(t)}, Partitions: 20, Allocators: 2, Sessions: 2, Rates: []int{10, 100}, Transaction: time.Millisecond,
		Commit: time.Millisecond, Segment: time.Microsecond, Command: time.Microsecond, PollMax: 100, Span: time.Second, Seed: 1, Results: t.TempDir(),
	}
	require.NoError(t, f.Validate())
	require.NoError(t, run(t.Context(), f))
	require.FileExists(t, filepath.Join(f.Results, "scale.json"))
	require.FileExists(t, filepath.Join(f.Results, "scale-polls-1.svg"))
}
