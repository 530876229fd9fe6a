package postgres

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// transaction is the name of the span of what is written whole or not at all.
const transaction = "Postgres transaction"

// traced runs fn as a span of a call to Postgres, if a traced command is among those that it is for.
func traced(ctx context.Context, name string, fn func(context.Context) error) error {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return fn(ctx)
	}
	ctx, span := telemetry.Child(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(semconv.DBSystemNamePostgreSQL))
	err := fn(ctx)
	if errors.Is(err, apply.ErrRefused) {
		span.AddEvent("refused: another allocator changed what it was decided from")
	}
	telemetry.End(span, err)
	return err
}

// decided notes on the span of ctx that a decision was made, and how much there is to write.
func decided(ctx context.Context, writes []apply.Write) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	for _, w := range writes {
		span.AddEvent("decided", trace.WithAttributes(attribute.Int("lotline.partition", int(w.Partition)),
			attribute.Int("lotline.skus", len(w.Products)), attribute.Int("lotline.segments", len(w.Segments)),
			attribute.Int64("lotline.offset.from", w.From), attribute.Int64("lotline.offset.next", w.Next)))
	}
}
