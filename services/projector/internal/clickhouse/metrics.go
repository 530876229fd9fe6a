package clickhouse

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what the writer counts. METRICS.md lists the names.
type Metrics struct {
	insertSeconds prometheus.Histogram
	retries       prometheus.Counter
}

// NewMetrics registers the writer's metrics. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		insertSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lotline_projector_insert_duration_seconds",
			Help:    "Time that ClickHouse took to acknowledge a block, in seconds; failed attempts are not in it.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lotline_projector_insert_retries_total",
			Help: "Attempts to write a block that failed and were made again.",
		}),
	}
	reg.MustRegister(m.insertSeconds, m.retries)
	return m
}
