package admin

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry with what every service reports: the Go runtime, the process, the build, and since
// when which component is out of order. METRICS.md lists the names.
func NewRegistry(service string, h *Health) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	version, revision := Build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "lotline_build_info",
		Help:        "1; its labels say what is running.",
		ConstLabels: prometheus.Labels{"service": service, "version": version, "revision": revision, "go": runtime.Version()},
	})
	info.Set(1)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info, outages{h})
	return registry
}

// Build names the version and the commit of this program, as far as they were known when it was built.
func Build() (version, revision string) {
	version, revision = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}

var outageStart = prometheus.NewDesc("lotline_outage_start_timestamp_seconds",
	"Unix time since when a component keeps the process from being ready; 0 while it is in order.", []string{"component"}, nil)

// outages reports a Health. Components are named by the program, so there are few.
type outages struct{ health *Health }

func (outages) Describe(out chan<- *prometheus.Desc) { out <- outageStart }

func (o outages) Collect(out chan<- prometheus.Metric) {
	o.health.mu.Lock()
	defer o.health.mu.Unlock()
	for component, since := range o.health.since {
		seconds := 0.0
		if !since.IsZero() {
			seconds = float64(since.UnixMilli()) / 1000
		}
		out <- prometheus.MustNewConstMetric(outageStart, prometheus.GaugeValue, seconds, component)
	}
}
