package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var example = costs{Transaction: 5 * time.Millisecond, Commit: time.Millisecond, Command: 50 * time.Microsecond, PollMax: 10_000}

// What can be said without a simulation has to come out of it.
func TestTheModelKnowsWhatArithmeticKnows(t *testing.T) {
	idle := simulate(shape{Partitions: 100, Sessions: 100, Rate: 100}, example, time.Minute, 1)
	require.InDelta(t, 1, idle.PerCommit, 0.01, "one a second for each: they hardly ever meet")
	require.InDelta(t, 100, idle.Commits, 5)
	require.InDelta(t, 6.05, idle.P50.Seconds()*1000, 0.1, "a transaction, a commit, a command")
	require.InDelta(t, 0.00605, idle.Busy, 0.001)
	require.Zero(t, idle.Behind)

	full := simulate(shape{Partitions: 4, Sessions: 2, Rate: 100_000}, example, time.Minute, 1)
	require.InDelta(t, 1, full.Busy, 0.001)
	require.InDelta(t, 5000, full.PerCommit, 250, "polls are full, of two partitions each")
	require.InDelta(t, 0.6, full.Behind, 0.03, "10,000 in 507 ms for each session")

	one := simulate(shape{Partitions: 1000, Sessions: 1, Rate: 5000}, example, time.Minute, 1)
	few := simulate(shape{Partitions: 10, Sessions: 1, Rate: 5000}, example, time.Minute, 1)
	require.InDelta(t, 500, few.Commits, 25, "ten each 20 ms: 15 and 50 us for each of the hundred that come meanwhile")
	require.Greater(t, one.Commits, 1.5*few.Commits, "records spread thin: a commit for each")
	require.Greater(t, one.P50, 10*few.P50, "so it does not keep up")
}
