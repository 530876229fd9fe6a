package tail

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/schemas"
)

// line is what is printed of a record. Of headers with one name the last is
// shown, the one that counts.
type line struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Time      string            `json:"time"` // when the broker appended it
	Key       *string           `json:"key"`
	Headers   map[string]string `json:"headers"`
	// What a record in structured mode has in its value instead of its headers.
	Attributes map[string]string `json:"attributes,omitempty"`
	Type       string            `json:"type,omitempty"` // short: Allocate
	Value      json.RawMessage   `json:"value,omitempty"`
	Error      string            `json:"error,omitempty"` // why there is no value
	Raw        string            `json:"raw,omitempty"`
	RawBase64  []byte            `json:"raw_base64,omitempty"` // if it is not text
}

// decoder reads a record's value: the SKU that it is about and its canonical
// JSON.
type decoder func(e cloudevents.Envelope, data []byte) (sku string, value []byte, err error)

func decodeCommand(e cloudevents.Envelope, data []byte) (string, []byte, error) {
	c, err := schemas.DecodeCommand(e.Type, e.ContentType, data)
	if err != nil {
		return "", nil, err
	}
	return c.SKU, schemas.AppendCommand(nil, &c), nil
}

func decodeEvent(e cloudevents.Envelope, data []byte) (string, []byte, error) {
	event, err := schemas.DecodeEvent(e.Type, e.ContentType, data)
	if err != nil {
		return "", nil, err
	}
	return event.SKU, schemas.AppendEvent(nil, &event), nil
}

// view describes a record, and the SKU that it is about. Without a decoder (the
// dead letters) the bytes are shown as they are, and the reason that the
// allocator gave as the error.
func view(r *kgo.Record, decode decoder) (v line, sku string) {
	v = line{Partition: r.Partition, Offset: r.Offset, Time: cloudevents.FormatTime(r.Timestamp), Headers: map[string]string{}}
	for _, h := range r.Headers {
		v.Headers[h.Key] = string(h.Value)
	}
	if r.Key != nil {
		sku = string(r.Key)
		v.Key = &sku
	}
	envelope, data, err := cloudevents.Read(r.Headers, r.Value)
	v.Type = shortType(cmp.Or(envelope.Type, v.Headers[cloudevents.HeaderType]))
	if err == nil && envelope.ContentType != v.Headers[cloudevents.HeaderContentType] {
		v.Attributes = attributes(envelope)
	}
	if decode == nil {
		v.Error = v.Headers["dlq_reason"]
		v.setRaw(r.Value)
		return v, sku
	}
	if err == nil {
		var decoded string
		if decoded, v.Value, err = decode(envelope, data); err == nil {
			return v, decoded
		}
	}
	v.Error = err.Error()
	v.setRaw(r.Value)
	return v, sku
}

// attributes are those of e, named as in a document.
func attributes(e cloudevents.Envelope) map[string]string {
	named := map[string]string{"datacontenttype": e.ContentType}
	for name, value := range map[string]string{telemetry.HeaderTraceParent: e.TraceParent, telemetry.HeaderTraceState: e.TraceState} {
		if value != "" {
			named[name] = value
		}
	}
	e.ContentType = ""
	for _, h := range cloudevents.Headers(e) {
		named[strings.TrimPrefix(h.Key, "ce_")] = string(h.Value)
	}
	return named
}

func (v *line) setRaw(value []byte) {
	if utf8.Valid(value) {
		v.Raw = string(value)
	} else {
		v.RawBase64 = value
	}
}

// shortType is the name after the last dot.
func shortType(t string) string { return t[strings.LastIndexByte(t, '.')+1:] }

// Terminals obey these as they do the escape character, which JSON escapes.
var c1Controls = regexp.MustCompile("[\u007f-\u009f]")

// appendLine appends v as one line of JSON.
func appendLine(out *bytes.Buffer, v line) error {
	if err := WriteJSON(out, v); err != nil {
		return fmt.Errorf("print partition %d offset %d: %w", v.Partition, v.Offset, err)
	}
	return nil
}

// WriteJSON writes v as one line of JSON without characters that a terminal
// obeys.
func WriteJSON(out io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := out.Write(c1Controls.ReplaceAllFunc(b.Bytes(), func(c []byte) []byte {
		r, _ := utf8.DecodeRune(c)
		return fmt.Appendf(nil, `\u%04x`, r)
	}))
	return err
}
