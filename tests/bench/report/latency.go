package report

import (
	"slices"
	"time"
)

// At is what a share (0 to 1) of the latencies did not pass; they are sorted, and at least one.
func At(sorted []time.Duration, share float64) time.Duration {
	return sorted[int(share*float64(len(sorted)-1))]
}

// AddLatencies adds a round's percentiles to a row, in ms. Of none it adds nothing.
func (r *Report) AddLatencies(table, row string, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(took))
	for _, p := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"most", 1}} {
		r.Add(table, row, p.name, "ms", Milliseconds(At(sorted, p.share)))
	}
}

// Milliseconds is a duration as reports have it.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
