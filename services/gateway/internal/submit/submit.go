// Package submit sends commands to Kafka and waits for what becomes of them:
// Submitter writes to the commands topic, Tail follows the events topic and
// wakes whoever waits for an event it sees.
//
// The gateway's HTTP API calls it and the service's root wires it. It imports
// the wire format, Kafka's client and Lotline's packages for both.
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

// Source is the CloudEvents source of every command that the gateway sends.
const Source = "/lotline/gateway"

// produceBuffered bounds the commands that wait for Kafka. More than that means
// that Kafka is away, and the next one is refused at once.
const produceBuffered = 10_000

// ErrUnacknowledged says that Kafka did not acknowledge a command in time. It
// is almost certainly not there when Kafka is away, but an acknowledgement that
// was lost looks the same: the command may have been accepted.
var ErrUnacknowledged = errors.New("Kafka did not acknowledge the command")

// Receipt says what is known of a command that was sent.
type Receipt struct {
	CommandID string
	Outcome   *schemas.Event // the command's last event; nil = not seen in time
}

// ProducerOpts returns the options that a Submitter's client needs besides
// those that all clients share: a record is on all replicas before it is
// acknowledged, and one that could not be sent within ackWait (at least 1 s) is
// given up, so that what a client was told had failed does not happen when Kafka
// is back.
func ProducerOpts(ackWait time.Duration) []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(produceBuffered),
		kgo.RecordDeliveryTimeout(ackWait),
	}
}

// Submitter sends commands. Its methods may be called concurrently.
type Submitter struct {
	client  *kgo.Client
	topic   string
	ackWait time.Duration
	waiters *Waiters
	stop    <-chan struct{}
}

// New returns a Submitter that writes to topic through client (made with
// ProducerOpts), gives Kafka ackWait to acknowledge, and learns of outcomes
// from waiters. Once stop is closed it waits for no outcome any more: a process
// that stops answers first.
func New(client *kgo.Client, topic string, ackWait time.Duration, waiters *Waiters, stop <-chan struct{}) *Submitter {
	return &Submitter{client: client, topic: topic, ackWait: ackWait, waiters: waiters, stop: stop}
}

// Submit sends cmd under a new id, and waits until its last event is seen, but
// not longer than wait from now; with wait 0 it returns when Kafka has
// acknowledged the command. An outcome that is not seen in time is no error.
//
// The error wraps ErrUnacknowledged (the Receipt then holds the command's id all
// the same) or is ctx's: sending goes on when ctx ends, since Kafka may have the
// command already.
func (s *Submitter) Submit(ctx context.Context, cmd *schemas.Command, wait time.Duration) (Receipt, error) {
	uid, err := uuid.NewV7()
	if err != nil {
		return Receipt{}, fmt.Errorf("make a command id: %w", err)
	}
	id := uid.String()

	var outcome <-chan schemas.Event // nil blocks for ever
	deadline := time.After(wait)
	if wait > 0 {
		// Before the command can be in Kafka, or its outcome could come first.
		var forget func()
		outcome, forget = s.waiters.add(id)
		defer forget()
	}
	receipt := Receipt{CommandID: id}
	receipt.Outcome, err = s.send(ctx, id, cmd, outcome)
	if err != nil || receipt.Outcome != nil || wait <= 0 {
		return receipt, err
	}
	_, span := telemetry.Child(ctx, "wait for the outcome")
	defer span.End()
	select {
	case event := <-outcome:
		receipt.Outcome = &event
	case <-deadline:
	case <-s.stop:
	case <-ctx.Done():
		return receipt, ctx.Err()
	}
	return receipt, nil
}

// send waits until Kafka has acknowledged the command, or until its outcome is there, which it then returns.
func (s *Submitter) send(ctx context.Context, id string, cmd *schemas.Command, outcome <-chan schemas.Event) (_ *schemas.Event, err error) {
	ctx, span := telemetry.Child(ctx, "send "+s.topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"),
		semconv.MessagingDestinationName(s.topic), semconv.MessagingMessageID(id)))
	defer func() { telemetry.End(span, err) }()
	acked := make(chan error, 1)
	s.client.TryProduce(context.WithoutCancel(ctx), s.record(ctx, id, cmd), func(_ *kgo.Record, err error) { acked <- err })
	select {
	case err := <-acked:
		if errors.Is(err, kerr.UnknownTopicID) {
			// The topic was made anew. The client refuses it until it is told to
			// forget the old one; the next command finds the new.
			s.client.PurgeTopicsFromProducing(s.topic)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnacknowledged, err)
		}
		return nil, nil
	case event := <-outcome: // stronger than an acknowledgement
		return &event, nil
	case <-time.After(s.ackWait):
		return nil, fmt.Errorf("%w within %s", ErrUnacknowledged, s.ackWait)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// record is the command's. What traces the request goes on with it.
func (s *Submitter) record(ctx context.Context, id string, cmd *schemas.Command) *kgo.Record {
	return &kgo.Record{
		Topic: s.topic,
		Key:   []byte(cmd.SKU),
		Value: schemas.AppendCommand(nil, cmd),
		Headers: telemetry.FromContext(ctx).AppendTo(cloudevents.Headers(cloudevents.Envelope{
			ID: id, Source: Source, Type: cmd.Type.CEType(), ContentType: schemas.ContentTypeJSON, Time: time.Now(),
		})),
	}
}
