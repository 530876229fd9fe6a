package httpapi

import (
	"net/http"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/telemetry"
)

// traced makes a span of each request whose sender traces it, and of as many others as the tracer samples. Without one a
// sender's trace context is still passed on, as it came; a request of neither kind leaves no trace in Kafka.
func (a *api) traced(method, route string, handle func(*http.Request) answer) func(*http.Request) answer {
	name, ofServer := method+" "+route, trace.WithSpanKind(trace.SpanKindServer)
	return func(r *http.Request) answer {
		if carried := telemetry.FromRequest(r.Header); len(carried.TraceParent) > 0 {
			r = r.WithContext(carried.Context(r.Context()))
		}
		ctx, span := a.Tracer.Start(r.Context(), name, ofServer)
		if !span.IsRecording() {
			return handle(r)
		}
		defer span.End()
		span.SetAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route), semconv.URLPath(r.URL.Path))
		ans := a.guard(r.WithContext(ctx), handle)
		span.SetAttributes(semconv.HTTPResponseStatusCode(ans.status))
		if ans.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, ans.message)
		}
		return ans
	}
}
