package reads

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lotline/lotline/pkg/readmodel"
)

// Metrics are what the loaders' queries cost. METRICS.md lists the names.
type Metrics struct {
	seconds, keys *prometheus.HistogramVec
	failures      *prometheus.CounterVec
}

// NewMetrics registers the metrics of a Reader. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	question := []string{"question"}
	m := &Metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lotline_gateway_query_duration_seconds",
			Help:    "Time that the read model took to answer a query of a loader.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12), // 1 ms to 2 s
		}, question),
		keys: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lotline_gateway_query_keys",
			Help:    "Keys in a query of a loader: the lookups that share it.",
			Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 250, 500},
		}, question),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lotline_gateway_query_failures_total",
			Help: "Queries of a loader that the read model did not answer.",
		}, question),
	}
	reg.MustRegister(m.seconds, m.keys, m.failures)
	return m
}

// measured is query, with what it costs observed.
func measured[V any](m *Metrics, question string, query func(context.Context, []string) (map[string]V, error)) func(context.Context, []string) (map[string]V, error) {
	seconds, keysIn, failures := m.seconds.WithLabelValues(question), m.keys.WithLabelValues(question), m.failures.WithLabelValues(question)
	return func(ctx context.Context, keys []string) (map[string]V, error) {
		start := time.Now()
		found, err := query(ctx, keys)
		if errors.Is(err, readmodel.ErrNotKept) { // an answer, and at no cost
			return nil, err
		}
		if err != nil {
			failures.Inc()
			return found, err
		}
		seconds.Observe(time.Since(start).Seconds())
		keysIn.Observe(float64(len(keys)))
		return found, nil
	}
}
