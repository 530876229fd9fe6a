package cli

import (
	"context"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/pkg/telemetry"
)

// begin begins the trace that the commands are to carry, if one is asked for. Its root is a span of the whole send: end ends it,
// with the number of commands that were acknowledged and why there are not more, and gives it to the collector, for 2 s at the
// most. A collector that does not take it is named on stderr, and the send is none the worse.
func (c *sendCmd) begin(ctx context.Context, topic string, stderr io.Writer) (carried telemetry.Carried, end func(sent int64, err error), err error) {
	switch {
	case !c.Trace:
		return telemetry.Carried{}, func(int64, error) {}, nil
	case c.Telemetry.Endpoint == "":
		return telemetry.New(), func(int64, error) {}, nil
	}
	tracing, err := telemetry.Start(c.Telemetry, telemetry.Process{Service: "cli", Roots: 1}, prometheus.NewRegistry(), lifecycle.NewLog(stderr, slog.LevelWarn))
	if err != nil {
		return telemetry.Carried{}, nil, err
	}
	ctx, span := tracing.Tracer().Start(ctx, "send "+topic, trace.WithSpanKind(trace.SpanKindProducer), //nolint:spancheck // end ends it
		trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"),
			semconv.MessagingDestinationName(topic)))
	return telemetry.FromContext(ctx), func(sent int64, err error) { //nolint:spancheck // see above
		span.SetAttributes(semconv.MessagingBatchMessageCount(int(sent)))
		telemetry.End(span, err)
		tracing.Close()
	}, nil
}
