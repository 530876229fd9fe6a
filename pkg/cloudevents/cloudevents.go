// Package cloudevents reads and writes CloudEvents 1.0 on Kafka in both modes:
// binary, with attributes in headers and the data as the value, and structured,
// with all of it in one JSON document (structured.go).
//
// Everything that writes or reads Lotline's topics uses it: the allocator, the
// projector, the gateway and the operator's command. It knows nothing of what
// the data means and imports only the Kafka client's record types.
package cloudevents

import (
	"bytes"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// MaxAttributeBytes is the longest attribute that Parse accepts.
const MaxAttributeBytes = 255

// SpecVersion is the only version of the specification that is spoken here.
const SpecVersion = "1.0"

// Header names, as the CloudEvents Kafka binding spells them.
const (
	HeaderSpecVersion = "ce_specversion"
	HeaderID          = "ce_id"
	HeaderSource      = "ce_source"
	HeaderType        = "ce_type"
	HeaderTime        = "ce_time"
	HeaderContentType = "content-type"
)

// timeFormat is RFC 3339 with milliseconds, the precision of Kafka's own
// timestamps.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Envelope holds the attributes of one event. An empty string or a zero Time
// stands for an attribute that is absent.
type Envelope struct {
	ID, Source, Type, ContentType string
	Time                          time.Time
	// TraceParent and TraceState are the extension for distributed tracing, of structured mode only: in binary mode the
	// trace context has headers of its own, which are no attributes. Nobody has looked at what they say.
	TraceParent, TraceState string
}

// Headers returns the record headers of e, in a fixed order; absent attributes
// have no header. Time is written in UTC, with milliseconds.
func Headers(e Envelope) []kgo.RecordHeader {
	h := make([]kgo.RecordHeader, 0, 6)
	// All values are in one piece of memory.
	values := make([]byte, 0, len(SpecVersion)+len(e.ID)+len(e.Source)+len(e.Type)+len(timeFormat)+len(e.ContentType))
	from := 0
	add := func(key string) { // what was appended to values
		if end := len(values); end > from {
			h = append(h, kgo.RecordHeader{Key: key, Value: values[from:end:end]})
			from = end
		}
	}
	values = append(values, SpecVersion...)
	add(HeaderSpecVersion)
	values = append(values, e.ID...)
	add(HeaderID)
	values = append(values, e.Source...)
	add(HeaderSource)
	values = append(values, e.Type...)
	add(HeaderType)
	if !e.Time.IsZero() {
		values = e.Time.UTC().AppendFormat(values, timeFormat)
	}
	add(HeaderTime)
	values = append(values, e.ContentType...)
	add(HeaderContentType)
	return h
}

// FormatTime writes t as headers carry it: RFC 3339, UTC, milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// Parse reads the attributes of binary mode from a record's headers; Read does
// so for records of any mode. Headers of other names
// are ignored, and of several with one name the last counts.
//
// The type is required. The specification requires id and source too, but a
// command without them still has an identity, its place in the log, so they
// may be missing. A time that cannot be read is treated as absent: nothing is
// ever decided by a producer's clock. The error is one sentence about what
// makes the record unreadable.
func Parse(headers []kgo.RecordHeader) (Envelope, error) {
	version := []byte(SpecVersion)
	var id, source, kind, timestamp, contentType []byte
	for _, h := range headers {
		var field *[]byte
		switch h.Key {
		case HeaderSpecVersion:
			field = &version
		case HeaderID:
			field = &id
		case HeaderSource:
			field = &source
		case HeaderType:
			field = &kind
		case HeaderTime:
			field = &timestamp
		case HeaderContentType:
			field = &contentType
		default:
			continue
		}
		if err := check(h.Value); err != nil {
			return Envelope{}, fmt.Errorf("the header %s %w", h.Key, err)
		}
		*field = h.Value
	}
	if string(version) != SpecVersion {
		return Envelope{}, fmt.Errorf("the header %s is %q, and only %q is understood", HeaderSpecVersion, version, SpecVersion)
	}
	if len(kind) == 0 {
		return Envelope{}, fmt.Errorf("the header %s is missing, which names the type of the message", HeaderType)
	}
	// All attributes are in one piece of memory.
	all := string(slices.Concat(id, source, kind, contentType))
	next := func(value []byte) string {
		s := all[:len(value)]
		all = all[len(value):]
		return s
	}
	return Envelope{ID: next(id), Source: next(source), Type: next(kind), ContentType: next(contentType), Time: parseTime(string(timestamp))}, nil
}

// parseTime reads a time; the zero Time stands for what is none.
func parseTime(timestamp string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, timestamp)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// check says why a header's value cannot be an attribute; the sentence starts
// after the header's name.
func check(value []byte) error {
	switch {
	case len(value) > MaxAttributeBytes:
		return fmt.Errorf("is %d bytes long, more than %d", len(value), MaxAttributeBytes)
	case !slices.ContainsFunc(value, func(b byte) bool { return b < ' ' || b > '~' }):
		return nil // as nearly all are
	case !utf8.Valid(value):
		return fmt.Errorf("is not valid UTF-8")
	case bytes.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("has a control character")
	}
	return nil
}
