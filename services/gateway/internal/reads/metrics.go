package reads

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lotline/lotline/pkg/readmodel"
)

// Metrics are what the loaders' queries cost, and what the cache saves. METRICS.md lists the names.
type Metrics struct {
	reg            prometheus.Registerer
	seconds, keys  *prometheus.HistogramVec
	failures, shed *prometheus.CounterVec

	hits, misses, stale       prometheus.Counter
	admitted, refused, behind prometheus.Counter
}

// NewMetrics registers the metrics of a Reader. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	question := []string{"question"}
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lotline_gateway_cache_lookups_total",
		Help: "SKUs looked up in the cache, by result.",
	}, []string{"result"})
	fills := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lotline_gateway_cache_fills_total",
		Help: "Answers of the read model about SKUs, by what the cache did with them.",
	}, []string{"result"})
	m := &Metrics{
		reg: reg, hits: lookups.WithLabelValues("hit"), misses: lookups.WithLabelValues("miss"), stale: lookups.WithLabelValues("not_current"),
		admitted: fills.WithLabelValues("admitted"), refused: fills.WithLabelValues("not_admitted"), behind: fills.WithLabelValues("behind"),
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
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lotline_gateway_questions_shed_total",
			Help: "Questions that were refused because the read model could not have answered them in time.",
		}, question),
	}
	reg.MustRegister(m.seconds, m.keys, m.failures, m.shed, lookups, fills)
	return m
}

// watch registers the metrics of the cache.
func (m *Metrics) watch(c *Cache) {
	gauge := func(name, help string, value func() float64) {
		m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("lotline_gateway_cache_entries", "SKUs in the cache.", func() float64 {
		count, _, _ := c.entries.usage()
		return float64(count)
	})
	gauge("lotline_gateway_cache_bytes", "Memory of the cache, about, with the events that it remembers.", func() float64 {
		_, bytes, _ := c.entries.usage()
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(bytes) + float64(c.recent.bytes)
	})
	gauge("lotline_gateway_cache_age_seconds", "How long ago every committed event had been taken in; -1: not known.", func() float64 {
		if age, known := c.age(); known {
			return age.Seconds()
		}
		return -1
	})
}

// measured is query, with what it costs observed.
func measured[K comparable, V any](m *Metrics, question string, query func(context.Context, []K) (map[K]V, error)) func(context.Context, []K) (map[K]V, error) {
	seconds, keysIn, failures := m.seconds.WithLabelValues(question), m.keys.WithLabelValues(question), m.failures.WithLabelValues(question)
	return func(ctx context.Context, keys []K) (map[K]V, error) {
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
