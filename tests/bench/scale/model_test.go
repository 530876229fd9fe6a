package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var example = costs{Transaction: 5 * time.Millisecond, Commit: time.Millisecond, Segment: 100 * time.Microsecond, Command: 50 * time.Microsecond, PollMax: 10_000}

// What can be said without a simulation has to come out of it.
func TestTheModelKnowsWhatArithmeticKnows(t *testing.T) {
	idle := simulate(shape{Partitions: 100, Sessions: 100, Rate: 100}, example, time.Minute, 1)
	require.InDelta(t, 1, idle.PerPoll, 0.01, "one a second for each: they hardly ever meet")
	require.InDelta(t, 100, idle.Polls, 5)
	require.InDelta(t, 6.15, idle.P50.Seconds()*1000, 0.1, "a transaction, a commit, a segment, a command")
	require.InDelta(t, 0.00615, idle.Busy, 0.001)
	require.Zero(t, idle.Behind)

	full := simulate(shape{Partitions: 4, Sessions: 2, Rate: 100_000}, example, time.Minute, 1)
	require.InDelta(t, 1, full.Busy, 0.001)
	require.InDelta(t, 10_000, full.PerPoll, 500, "polls are full, but for the first")
	require.InDelta(t, 2, full.Segments/full.Polls, 0.02, "of two partitions each")
	require.InDelta(t, 0.6, full.Behind, 0.03, "10,000 in 507 ms for each session")

	one := simulate(shape{Partitions: 1000, Sessions: 1, Rate: 5000}, example, time.Minute, 1)
	few := simulate(shape{Partitions: 10, Sessions: 1, Rate: 5000}, example, time.Minute, 1)
	require.InDelta(t, 10, few.Segments/few.Polls, 0.5, "a poll has some of each partition")
	require.Greater(t, one.Segments/one.Polls, 0.8*one.PerPoll, "records spread thin: hardly two of one partition")
	require.Greater(t, one.P50, 2*few.P50, "which costs time")
}
