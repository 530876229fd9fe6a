package telemetry

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// remindInterval is how often a collector that stays away is named again.
const remindInterval = 10 * time.Minute

// exporter counts what the collector takes and logs when it does not. The SDK calls it from one goroutine.
type exporter struct {
	sdktrace.SpanExporter
	endpoint string
	metrics  *metrics
	log      *slog.Logger

	failing bool
	logged  time.Time
	lost    int // since it fails
}

// ExportSpans never fails: an error would only be logged again by the SDK, each time, and not as JSON.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.lost += len(spans)
		if !e.failing || time.Since(e.logged) > remindInterval {
			e.failing, e.logged = true, time.Now()
			e.log.WarnContext(ctx, "the collector does not take spans, they are lost; the work goes on",
				"endpoint", e.endpoint, "error", err, "spans", e.lost)
		}
		return nil
	}
	e.metrics.exported.Add(float64(len(spans)))
	if e.failing {
		e.log.InfoContext(ctx, "the collector takes spans again", "endpoint", e.endpoint, "lost_spans", e.lost)
		e.failing, e.lost = false, 0
	}
	return nil
}

// metrics count spans; METRICS.md lists them. It is a span processor to see every span that ends, also those for which
// the queue has no room.
type metrics struct{ ended, exported prometheus.Counter }

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lotline_trace_spans_ended_total", Help: "Spans of sampled traces that were made.",
		}),
		exported: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lotline_trace_spans_exported_total", Help: "Spans that the collector took.",
		}),
	}
	reg.MustRegister(m.ended, m.exported)
	return m
}

func (m *metrics) OnEnd(sdktrace.ReadOnlySpan)                     { m.ended.Inc() }
func (m *metrics) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (m *metrics) Shutdown(context.Context) error                  { return nil }
func (m *metrics) ForceFlush(context.Context) error                { return nil }
