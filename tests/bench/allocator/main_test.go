package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/bench/trial"
)

func TestUnknownRowsAreNamed(t *testing.T) {
	f := flags{Only: []string{"protobuf", "9 partitions"}, Rounds: 1, Commands: 1, SKUs: 2, Allocators: 1, Sessions: 1, Connections: 1, ChunkMax: 1}
	require.ErrorContains(t, f.Validate(), "no row is named 9 partitions; there are: 4 partitions; 1 partition; ")
	f.Only = []string{"protobuf"}
	require.NoError(t, f.Validate())
	rows, err := f.rows()
	require.NoError(t, err)
	require.Len(t, rows, 1)
	f.Only, f.Profile = nil, "cpu.pprof"
	require.ErrorContains(t, f.Validate(), "--profile wants one row")
	f.Profile, f.Duration = "", time.Millisecond
	require.ErrorContains(t, f.Validate(), "a second or more at each rate")
	f.Duration, f.Rates = time.Second, []int{100, 0}
	require.ErrorContains(t, f.Validate(), "rates of 1 or more")
}

func TestEveryRowHasANameOfItsOwn(t *testing.T) {
	names := map[string]bool{}
	for _, r := range trial.Rows(10) {
		require.False(t, names[r.Name], r.Name)
		require.NotContains(t, r.Name, ",", "a comma separates names on the command line")
		names[r.Name] = true
	}
}
