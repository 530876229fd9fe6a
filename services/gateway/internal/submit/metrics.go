package submit

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what the tail counts. METRICS.md lists the names.
type Metrics struct{ unreadable prometheus.Counter }

// NewMetrics registers the tail's metrics. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{unreadable: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lotline_gateway_tail_unreadable_total",
		Help: "Records of the events topic that could not be read while somebody waited for an outcome.",
	})}
	reg.MustRegister(m.unreadable)
	return m
}
