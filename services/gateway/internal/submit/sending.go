package submit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// sending is one command on its way.
type sending struct {
	*Submitter
	request  *Request
	deadline time.Time
	waits    bool
	claimed  chan struct{} // closed when claim is done with it; nil = the command has no key
	key      *key
	first    *Outcome // of the key, where the read model has it
	settled  bool     // the result is final
	result   Result

	outcome  <-chan Outcome // nil blocks for ever
	forget   func()         // nil if the key does
	acked    chan error
	giveUp   <-chan time.Time
	takeBack context.CancelFunc // the record, unless it is on its way
	sent     bool
	span     trace.Span
}

func (f *sending) settle(outcome *Outcome, err error) {
	f.settled, f.result.Outcome, f.result.Err = true, outcome, err
}

// begin hands the command to Kafka's client, which keeps the order of its callers, unless a command of its key is there.
func (f *sending) begin(ctx context.Context) {
	if f.result.CommandID == "" {
		uid, err := uuid.NewV7()
		if err != nil {
			f.settle(nil, fmt.Errorf("make a command id: %w", err))
			return
		}
		f.result.CommandID = uid.String()
	}
	// Before the command can be in Kafka, or its outcome could come first.
	switch {
	case f.key != nil:
		f.outcome = f.keys.listen(f.request.Key, f.key, f.waiters)
		if f.keys.accepted(f.key) || len(f.outcome) > 0 {
			return
		}
	case f.waits:
		f.outcome, f.forget = f.waiters.add(f.result.CommandID)
	}
	f.sent, f.acked, f.giveUp = true, make(chan error, 1), time.After(f.ackWait)
	ctx, f.span = telemetry.Child(ctx, "send "+f.topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"),
		semconv.MessagingDestinationName(f.topic), semconv.MessagingMessageID(f.result.CommandID)))
	id, acked, keys, key := f.result.CommandID, f.acked, f.keys, f.key // finish may be gone when Kafka answers
	sending, done := context.WithTimeout(context.WithoutCancel(ctx), f.ackWait)
	f.takeBack = done
	f.client.TryProduce(sending, f.record(ctx), func(record *kgo.Record, err error) {
		done()
		if err == nil && key != nil {
			// The client may have left. If its key is repeated, a second copy could have another outcome than the first, and
			// whoever waits hears of the first only: "Invalid sku", then a batch is created, then the second is allocated.
			keys.accept(key)
		}
		if err == nil && f.Acknowledged != nil {
			f.Acknowledged(id, record)
		}
		acked <- err
	})
}

// finish waits for the acknowledgement and the outcome.
func (f *sending) finish(ctx context.Context) {
	if f.forget != nil {
		defer f.forget()
	}
	var outcome *Outcome
	var err error
	if f.sent {
		outcome, err = f.acknowledgement(ctx)
		telemetry.End(f.span, err)
	}
	if err == nil && outcome == nil {
		outcome = f.heard() // which may be there without a wait
	}
	if f.key != nil && outcome != nil { // stronger than an acknowledgement
		f.keys.accept(f.key)
	}
	if err == nil && outcome == nil && f.waits {
		outcome, err = f.decision(ctx)
	}
	if f.key != nil {
		f.release(ctx, outcome, err)
		return
	}
	f.settle(outcome, err)
}

// acknowledgement waits until Kafka has acknowledged the command, or until its outcome is there, which it then returns.
func (f *sending) acknowledgement(ctx context.Context) (*Outcome, error) {
	if outcome := f.heard(); outcome != nil {
		return outcome, nil
	}
	select { // likewise
	case err := <-f.acked:
		return nil, f.acknowledged(err)
	default:
	}
	select {
	case err := <-f.acked:
		return nil, f.acknowledged(err)
	case outcome := <-f.outcome:
		return &outcome, nil
	case <-f.giveUp:
		// Its own time is over too, but nothing says which is noticed first: answered before that, it could still be sent.
		f.takeBack()
		return nil, fmt.Errorf("%w within %s", ErrUnacknowledged, f.ackWait)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// heard returns the outcome if it is there. Whoever waits asks it first, since of a select's cases that are ready one is taken by
// chance: commands are finished one after the other, and behind one that was waited for until the end all time is over, of those too
// that were decided long before.
func (f *sending) heard() *Outcome {
	select {
	case outcome := <-f.outcome:
		return &outcome
	default:
	}
	if f.key != nil {
		return f.keys.unsure(f.key)
	}
	return nil
}

// acknowledged returns what Kafka's answer means.
func (f *sending) acknowledged(err error) error {
	if errors.Is(err, kerr.UnknownTopicID) {
		// The topic was made anew. The client refuses it until it is told to
		// forget the old one; the next command finds the new.
		f.client.PurgeTopicsFromProducing(f.topic)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnacknowledged, err)
	}
	return nil
}

// decision waits for the outcome. That of a command which an earlier request sent may have been before the tail began again, so
// the read model is asked for it too.
func (f *sending) decision(ctx context.Context) (*Outcome, error) {
	_, span := telemetry.Child(ctx, "wait for the outcome")
	defer span.End()
	within, cancel := context.WithDeadline(ctx, f.deadline)
	defer cancel()
	var past <-chan *Outcome
	if !f.sent {
		past = f.lookFor(within)
	}
	for {
		select {
		case outcome := <-f.outcome:
			return &outcome, nil
		case outcome := <-past:
			if outcome != nil {
				return outcome, nil
			}
			past = nil // the tail may still have it
		case <-f.stop:
			return nil, nil
		case <-within.Done():
			return nil, ctx.Err()
		}
	}
}

// record is the command's. What traces the request goes on with it.
func (f *sending) record(ctx context.Context) *kgo.Record {
	cmd := &f.request.Command
	return &kgo.Record{
		Topic: f.topic,
		Key:   []byte(cmd.SKU),
		Value: schemas.AppendCommand(nil, cmd),
		Headers: telemetry.FromContext(ctx).AppendTo(cloudevents.Headers(cloudevents.Envelope{
			ID: f.result.CommandID, Source: Source, Type: cmd.Type.CEType(), ContentType: schemas.ContentTypeJSON, Time: time.Now(),
		})),
	}
}
