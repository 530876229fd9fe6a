package commandlog

import (
	"cmp"
	"encoding/base64"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// eventSource is the ce_source of every event.
const eventSource = "/lotline/allocator"

// Decode turns a record into a command, or into the verdict that it is a dead letter. Nothing of a record is believed
// before this: sizes, encodings and ids are checked here, quantities and dates by the domain.
func Decode(r *kgo.Record) apply.Input {
	envelope, data, err := cloudevents.Read(r.Headers, r.Value)
	carried := telemetry.FromRecord(r.Headers)
	if len(carried.TraceParent) == 0 { // a client that traces its own sending knows better than the document it sends
		carried = telemetry.FromDocument(envelope.TraceParent, envelope.TraceState)
	}
	in := apply.Input{
		Offset: r.Offset, Time: r.Timestamp.UTC(),
		Headers: outbox.Headers{TraceParent: carried.TraceParent, TraceState: carried.TraceState},
	}
	if err != nil {
		in.DeadLetter = err.Error()
		return in
	}
	c, err := schemas.DecodeCommand(envelope.Type, envelope.ContentType, data)
	if err != nil {
		in.DeadLetter = err.Error()
		return in
	}
	in.Command = allocation.Command{
		Kind:     allocation.Kind(c.Type),
		SKU:      c.SKU,
		OrderID:  c.OrderID,
		Ref:      c.Ref,
		Qty:      c.Qty,
		ETA:      c.ETA,
		Position: allocation.Position{Partition: r.Partition, Offset: r.Offset},
		Time:     in.Time,
	}
	if envelope.ID != "" {
		in.Command.ID = allocation.CommandID{Source: envelope.Source, ID: envelope.ID}
	}
	return in
}

// Encoder is the wire that events are decided into. A command without an id is named by its place in commandsTopic.
func Encoder(commandsTopic string, encoding schemas.Encoding) apply.Encoder {
	encoder := apply.Encoder{Append: func(dst []byte, c *allocation.Command, e *allocation.Event) ([]byte, uint8) {
		event := schemas.Event{
			Type:           schemas.EventType(e.Kind),
			SKU:            e.SKU,
			Version:        e.Version,
			CommandID:      c.ID.ID,
			CommandSource:  c.ID.Source,
			Seq:            e.Seq,
			Last:           e.Last,
			OrderID:        e.OrderID,
			Qty:            e.Qty,
			BatchRef:       e.BatchRef,
			BatchQty:       e.BatchQty,
			BatchAvailable: e.BatchAvailable,
			ETA:            e.ETA,
			Available:      e.Available,
			Reason:         string(e.Reason),
			Message:        e.Message,
		}
		if event.CommandID == "" {
			event.CommandID = place(commandsTopic, c.Position.Partition, c.Position.Offset)
		}
		return encoding.AppendEvent(dst, &event), uint8(event.Type)
	}}
	if encoding != schemas.JSON {
		encoder.ContentType = []byte(encoding.ContentType())
	}
	return encoder
}

// place names a record: topic/partition/offset.
func place(topic string, partition int32, offset int64) string {
	return topic + "/" + strconv.FormatInt(int64(partition), 10) + "/" + strconv.FormatInt(offset, 10)
}

// TopicName is how Kafka's own tools print a topic's id.
func TopicName(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// topicID is the id that TopicName has printed.
func topicID(name string) (id [16]byte) {
	_, _ = base64.RawURLEncoding.Decode(id[:], []byte(name)) // its length is right, or the zero id is what is meant
	return id
}

// EventRecords are the records of one command's events. An event's id is made of the command's place and its number:
// the same in every replay, and distinct for a command that was sent twice. For the same reason the trace context is
// the command's own: an id of a span of this process would make the events of a replay others.
func EventRecords(topic, topicID string, partition int32, e outbox.Entry) []*kgo.Record {
	command := place(topicID, partition, e.Offset)
	carried := telemetry.Carried{TraceParent: e.Headers.TraceParent, TraceState: e.Headers.TraceState}
	contentType := cmp.Or(string(e.Headers.ContentType), schemas.ContentTypeJSON)
	records := make([]*kgo.Record, len(e.Messages))
	for seq, m := range e.Messages {
		records[seq] = &kgo.Record{
			Topic: topic,
			Key:   m.Key,
			Value: m.Value,
			Headers: carried.AppendTo(cloudevents.Headers(cloudevents.Envelope{
				ID:          command + "/" + strconv.Itoa(seq),
				Source:      eventSource,
				Type:        schemas.EventType(m.Type).CEType(),
				ContentType: contentType,
				Time:        e.Time,
			})),
		}
	}
	return records
}

// deadLetter is the record as it came, with where it came from and why it could not be read.
func deadLetter(topic string, r *kgo.Record, reason string) *kgo.Record {
	headers := append(make([]kgo.RecordHeader, 0, len(r.Headers)+5), r.Headers...)
	for _, h := range [...]struct{ key, value string }{
		{"dlq_reason", reason},
		{"dlq_topic", r.Topic},
		{"dlq_partition", strconv.FormatInt(int64(r.Partition), 10)},
		{"dlq_offset", strconv.FormatInt(r.Offset, 10)},
		{"dlq_timestamp", r.Timestamp.UTC().Format(time.RFC3339Nano)},
	} {
		headers = append(headers, kgo.RecordHeader{Key: h.key, Value: []byte(h.value)})
	}
	return &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: headers}
}
