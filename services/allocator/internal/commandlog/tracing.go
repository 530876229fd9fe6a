package commandlog

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// traced are the commands of a poll that somebody follows, each with its span: from when the broker appended the command
// until its events are visible. In order of offset; normally there is none, and then nothing here costs anything.
type traced struct {
	spans   []trace.Span
	offsets []int64
}

// follow begins the span of a sampled command. It hangs on the sender's, as the command's events will for whoever reads
// them: this span's id is on no record, since a replay would have another.
func (s *session) follow(p *polled, r *kgo.Record, in *apply.Input) {
	carried := telemetry.Carried{TraceParent: in.Headers.TraceParent, TraceState: in.Headers.TraceState}
	if !carried.Sampled() || len(p.traced.spans) >= telemetry.TogetherMax {
		return
	}
	_, span := s.tracer.Start(carried.Context(context.Background()), "process "+r.Topic,
		trace.WithSpanKind(trace.SpanKindConsumer), telemetry.Since(r.Timestamp),
		trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
			semconv.MessagingDestinationName(r.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.Partition))),
			semconv.MessagingKafkaOffset(int(r.Offset)), semconv.MessagingConsumerGroupName(s.config.Group),
			semconv.MessagingMessageID(in.Command.ID.ID)))
	if !span.IsRecording() {
		return
	}
	span.AddEvent("polled")
	if in.DeadLetter != "" {
		span.AddEvent("unreadable, a dead letter")
	}
	p.traced.spans = append(p.traced.spans, span)
	p.traced.offsets = append(p.traced.offsets, r.Offset)
}

// note says what happened to the command at an offset, if it is followed.
func (t *traced) note(offset int64, what string) {
	if i, found := slices.BinarySearch(t.offsets, offset); found {
		t.spans[i].AddEvent(what)
	}
}

// errComeAgain is what is said of a traced command whose poll came to nothing.
var errComeAgain = errors.New("not published this time: the command is polled again")

// abandon ends the spans of polls that were not published.
func abandon(polls []*polled) {
	for _, p := range polls {
		for _, span := range p.traced.spans {
			telemetry.End(span, errComeAgain)
		}
	}
}

// applying is the span of polled partitions' way into Postgres, with all tries; its children are made by the store.
func applying(ctx context.Context, polls ...*polled) (context.Context, trace.Span) {
	var spans []trace.Span
	for _, p := range polls {
		spans = append(spans, p.traced.spans...)
	}
	return telemetry.Together(ctx, "apply", spans)
}

// sending is the span of the Kafka transaction that publishes pieces.
func (s *session) sending(ctx context.Context, ready []piece) (context.Context, trace.Span) {
	var spans []trace.Span
	records := 0
	for i := range ready {
		records += len(ready[i].records)
		t := &ready[i].poll.traced
		for j, offset := range t.offsets {
			if offset < ready[i].next && !slices.Contains(spans, t.spans[j]) {
				spans = append(spans, t.spans[j])
			}
		}
	}
	if len(spans) == 0 {
		return telemetry.Together(ctx, "", nil)
	}
	return telemetry.Together(ctx, "send "+s.config.Topics.Events.Name, spans, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"),
			semconv.MessagingDestinationName(s.config.Topics.Events.Name), semconv.MessagingBatchMessageCount(records)))
}

// sent ends the span of a Kafka transaction, and, if it was committed, those of the commands whose events are visible now.
func sent(span trace.Span, ready []piece, committed bool, err error) {
	if !committed {
		telemetry.Failed(span, errors.Join(errComeAgain, err))
	}
	span.End()
	for i := range ready {
		if committed {
			ready[i].poll.traced.published(ready[i].next)
		}
	}
}

// published ends the spans of the commands below next, whose events are visible.
func (t *traced) published(next int64) {
	n, _ := slices.BinarySearch(t.offsets, next)
	for _, span := range t.spans[:n] {
		span.End()
	}
	t.spans, t.offsets = t.spans[n:], t.offsets[n:]
}
