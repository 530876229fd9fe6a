package schemas

import (
	"fmt"
	"strings"
)

// The content types of a record's value.
const (
	ContentTypeJSON     = "application/json"
	ContentTypeProtobuf = "application/protobuf"
)

// Encoding is how a message becomes bytes; all of them mean the same. The numbers are stored, in the
// allocator's outbox: add at the end. The zero value is JSON.
type Encoding uint8

// The encodings.
const (
	JSON     Encoding = iota // canonical: one possible encoding of a message
	Protobuf                 // as protobuf's deterministic encoder writes it
)

var encodings = [...]struct{ name, contentType string }{
	JSON:     {"json", ContentTypeJSON},
	Protobuf: {"protobuf", ContentTypeProtobuf},
}

// Known reports whether e is one of the constants. The other methods panic if it is not.
func (e Encoding) Known() bool { return int(e) < len(encodings) }

// ContentType is the content-type header of a record whose value is in this encoding.
func (e Encoding) ContentType() string { return encodings[e].contentType }

// String is the name: json or protobuf.
func (e Encoding) String() string { return encodings[e].name }

// UnmarshalText reads the name, as flags give it.
func (e *Encoding) UnmarshalText(name []byte) error {
	for i, known := range encodings {
		if known.name == string(name) {
			*e = Encoding(i)
			return nil
		}
	}
	return fmt.Errorf("%s is not json or protobuf", clipped(string(name)))
}

// AppendCommand appends the command in this encoding to dst, as the function AppendCommand does in JSON.
func (e Encoding) AppendCommand(dst []byte, c *Command) []byte {
	var v values
	c.fill(&v)
	return e.append(dst, commandMessages[c.Type].members, &v)
}

// AppendEvent appends the event in this encoding to dst, as the function AppendEvent does in JSON.
func (e Encoding) AppendEvent(dst []byte, event *Event) []byte {
	var v values
	event.fill(&v)
	return e.append(dst, eventMessages[event.Type].members, &v)
}

func (e Encoding) append(dst []byte, members []member, v *values) []byte {
	if e == Protobuf {
		return appendProto(dst, members, v)
	}
	return appendJSON(dst, members, v)
}

// encodingOf tells the encoding of a content type; an empty one means JSON.
func encodingOf(contentType string) (Encoding, error) {
	if contentType == "" || contentType == ContentTypeJSON {
		return JSON, nil
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.TrimSpace(mediaType)
	for i, known := range encodings {
		if strings.EqualFold(mediaType, known.contentType) {
			return Encoding(i), nil
		}
	}
	return 0, fmt.Errorf("the content type %s is not supported, only %s and %s are", clipped(contentType), ContentTypeJSON, ContentTypeProtobuf)
}
