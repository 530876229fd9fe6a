package eventlog

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/telemetry"
)

// follow begins the span of an event of a sampled command: from when it was published until it is projected. It hangs on
// the sender's span, as that of the allocator does.
func (c *Consumer) follow(d *delivery, r *kgo.Record) {
	carried := telemetry.FromRecord(r.Headers)
	if !carried.Sampled() || len(d.traced) >= telemetry.TogetherMax {
		return
	}
	_, span := c.tracer.Start(carried.Context(context.Background()), "process "+r.Topic,
		trace.WithSpanKind(trace.SpanKindConsumer), telemetry.Since(r.Timestamp),
		trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
			semconv.MessagingDestinationName(r.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.Partition))),
			semconv.MessagingKafkaOffset(int(r.Offset)), semconv.MessagingConsumerGroupName(c.cfg.Group)))
	if !span.IsRecording() {
		return
	}
	span.AddEvent("polled")
	d.traced = append(d.traced, span)
}

// ended ends the spans of the events: their offsets are committed, or with err another will project them.
func (d *delivery) ended(err error) {
	for _, span := range d.traced {
		telemetry.End(span, err)
	}
}
