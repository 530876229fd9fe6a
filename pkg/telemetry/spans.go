package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// TogetherMax bounds how many traced things are followed of those that are worked on at once: a producer may mark all
// its records as sampled. The others are done like any, without spans.
const TogetherMax = 128

// Child starts a span under the recorded one of ctx. Under none it returns ctx and a span that does nothing.
func Child(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, none
	}
	return parent.TracerProvider().Tracer(scope).Start(ctx, name, opts...) //nolint:spancheck // the caller ends it
}

// Together starts a span for work that is done once for several spans: under the first, and linked with the others in
// both directions. If there are none it returns ctx and a span that does nothing.
func Together(ctx context.Context, name string, spans []trace.Span, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if len(spans) == 0 {
		return ctx, none
	}
	for _, other := range spans[1:] {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: other.SpanContext()}))
	}
	ctx, span := Child(trace.ContextWithSpan(ctx, spans[0]), name, opts...)
	for _, other := range spans[1:] {
		other.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	return ctx, span
}

// none does nothing.
var none = trace.SpanFromContext(context.Background())

// End ends a span with what became of its work.
func End(span trace.Span, err error) {
	Failed(span, err)
	span.End()
}

// Failed marks the span of work that failed; nil changes nothing.
func Failed(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
}

// Since is the option that starts a span in the past, when its record was appended. Clocks of two machines differ:
// it never starts in the future.
func Since(appended time.Time) trace.SpanStartOption {
	now := time.Now()
	if appended.After(now) {
		appended = now
	}
	return trace.WithTimestamp(appended)
}
