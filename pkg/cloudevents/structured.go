package cloudevents

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ContentTypeStructured is the content type of a record in structured mode:
// its value is one JSON document that holds attributes and data.
const ContentTypeStructured = "application/cloudevents+json"

// Limits of a structured document. They leave room for a megabyte of data as
// base64, and for data of 16 levels.
const (
	MaxDocumentBytes = 2 << 20
	MaxDocumentDepth = 17 // objects and arrays inside each other, the outermost included
)

const (
	contentTypeJSON = "application/json"

	// anyCloudEvents begins the content types of all structured formats, and
	// batches those of their batches.
	anyCloudEvents = "application/cloudevents"
	batches        = "application/cloudevents-batch"
)

// Read reads a record in either mode, which the content-type header tells
// apart: the attributes, with the content type of the data, and the data, which
// may point into value. The rules of Parse hold for the attributes of both; in
// structured mode those in headers are copies, and are ignored. Extension
// attributes are ignored but for those of distributed tracing. The error is one sentence about what makes the record
// unreadable.
func Read(headers []kgo.RecordHeader, value []byte) (Envelope, []byte, error) {
	var contentType []byte
	for i := range headers {
		if headers[i].Key == HeaderContentType {
			contentType = headers[i].Value
		}
	}
	if len(contentType) < len(anyCloudEvents) || !strings.EqualFold(string(contentType[:len(anyCloudEvents)]), anyCloudEvents) {
		e, err := Parse(headers)
		return e, value, err
	}
	switch format := mediaType(string(contentType)); {
	case format == ContentTypeStructured:
		return readDocument(value)
	case strings.HasPrefix(format, batches):
		return Envelope{}, nil, fmt.Errorf("the content type %s is a batch of messages: send each as a record of its own, as %s", clipped(format), ContentTypeStructured)
	default:
		return Envelope{}, nil, fmt.Errorf("the content type %s is not understood, of CloudEvents' own formats only %s is", clipped(format), ContentTypeStructured)
	}
}

// Decode is Read, and then decode of the data under its type and content type: schemas.DecodeCommand, or
// schemas.DecodeEvent. Where only decode fails the attributes are returned all the same.
func Decode[T any](headers []kgo.RecordHeader, value []byte, decode func(ceType, contentType string, data []byte) (T, error)) (e Envelope, decoded T, err error) {
	e, data, err := Read(headers, value)
	if err != nil {
		return e, decoded, err
	}
	decoded, err = decode(e.Type, e.ContentType, data)
	return e, decoded, err
}

// mediaType is a content type without its parameters, in lower case.
func mediaType(contentType string) string {
	bare, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(bare))
}

// Structured returns headers and value of e in structured mode. Data of a JSON
// content type must be JSON; all other data is written as base64.
func Structured(e Envelope, data []byte) (headers []kgo.RecordHeader, value []byte) {
	value = append(value, `{"specversion":"`+SpecVersion+`"`...)
	add := func(name, text string) {
		if text != "" {
			value = append(value, `,"`+name+`":`...)
			// The only error is invalid UTF-8, which AppendQuote has then replaced by U+FFFD.
			value, _ = jsontext.AppendQuote(value, text)
		}
	}
	add("id", e.ID)
	add("source", e.Source)
	add("type", e.Type)
	if !e.Time.IsZero() {
		add("time", FormatTime(e.Time))
	}
	add("datacontenttype", e.ContentType)
	add(traceParent, e.TraceParent)
	add(traceState, e.TraceState)
	if isJSON(e.ContentType) {
		value = append(append(value, `,"data":`...), data...)
	} else {
		value = base64.StdEncoding.AppendEncode(append(value, `,"data_base64":"`...), data)
		value = append(value, '"')
	}
	return []kgo.RecordHeader{{Key: HeaderContentType, Value: []byte(ContentTypeStructured)}}, append(value, '}')
}

// isJSON says whether data of a content type is JSON: that is the default, and
// what +json at the end means.
func isJSON(contentType string) bool {
	m := mediaType(contentType)
	return m == "" || strings.HasSuffix(m, "/json") || strings.HasSuffix(m, "+json")
}

// document is what is kept of one while it is read. Absent attributes are "".
type document struct {
	attributes   map[string]string
	data, base64 []byte
}

// The attributes of the extension for distributed tracing.
const traceParent, traceState = "traceparent", "tracestate"

// attributes that mean something here, with their names in a document.
var attributes = map[string]bool{"specversion": true, "id": true, "source": true, "type": true, "time": true, "datacontenttype": true}

func readDocument(value []byte) (Envelope, []byte, error) {
	if len(value) > MaxDocumentBytes {
		return Envelope{}, nil, fmt.Errorf("the CloudEvents document is %d bytes long, more than %d", len(value), MaxDocumentBytes)
	}
	doc := document{attributes: make(map[string]string, len(attributes))}
	if err := doc.read(value); err != nil {
		return Envelope{}, nil, explain(err)
	}
	e := Envelope{ID: doc.attributes["id"], Source: doc.attributes["source"], Type: doc.attributes["type"], ContentType: doc.attributes["datacontenttype"]}
	if version, ok := doc.attributes["specversion"]; ok && version != SpecVersion {
		return Envelope{}, nil, fmt.Errorf("the attribute specversion is %q, and only %q is understood", version, SpecVersion)
	}
	if e.Type == "" {
		return Envelope{}, nil, errors.New("the attribute type is missing, which names the type of the message")
	}
	e.Time = parseTime(doc.attributes["time"])
	e.TraceParent, e.TraceState = doc.attributes[traceParent], doc.attributes[traceState]
	if e.ContentType == "" {
		e.ContentType = contentTypeJSON
	}
	data, err := doc.content(e.ContentType)
	if err != nil {
		return Envelope{}, nil, err
	}
	return e, data, nil
}

// content is the data, out of whichever of its two members there is.
func (doc *document) content(contentType string) ([]byte, error) {
	switch {
	case doc.data != nil && doc.base64 != nil:
		return nil, errors.New("the CloudEvents document has both data and data_base64")
	case doc.data != nil && !isJSON(contentType):
		return nil, fmt.Errorf("the CloudEvents document has JSON as data and says that it is %s: such data belongs in data_base64", clipped(contentType))
	case doc.data != nil:
		return doc.data, nil
	case doc.base64 == nil:
		return nil, errors.New("the CloudEvents document has neither data nor data_base64")
	}
	data, err := base64.StdEncoding.Strict().AppendDecode(nil, doc.base64)
	if err != nil {
		return nil, errors.New("data_base64 is not valid base64")
	}
	return data, nil
}

// read walks over the document. Everything in it is looked at as tokens, so
// that how deep it goes is known before anything is kept.
func (doc *document) read(value []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(value))
	start, err := d.ReadToken()
	if err != nil {
		return err
	}
	if start.Kind() != '{' {
		return errors.New("the CloudEvents document is not a JSON object")
	}
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name, at := token.String(), d.InputOffset()
		if err := skipValue(d); err != nil {
			return err
		}
		raw := bytes.TrimLeft(value[at:d.InputOffset()], " \t\r\n:")
		if err := doc.keep(name, raw); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if len(bytes.TrimLeft(d.UnreadBuffer(), " \t\r\n")) > 0 {
		return fmt.Errorf("there is more after the CloudEvents document at byte %d", d.InputOffset())
	}
	return nil
}

// keep takes a member with its value, as JSON. One that is null is absent.
func (doc *document) keep(name string, raw []byte) error {
	if raw[0] == 'n' {
		return nil
	}
	if name == "data" {
		doc.data = raw
		return nil
	}
	if name == traceParent || name == traceState { // whatever they are, they cost no command
		if raw[0] == '"' {
			text, _ := jsontext.AppendUnquote(nil, raw)
			doc.attributes[name] = string(text)
		}
		return nil
	}
	if !attributes[name] && name != "data_base64" {
		return nil
	}
	if raw[0] != '"' {
		return fmt.Errorf("the attribute %s must be a string", name)
	}
	text, _ := jsontext.AppendUnquote(nil, raw) // cannot fail: the decoder has read it
	if name == "data_base64" {
		doc.base64 = append([]byte{}, text...)
		return nil
	}
	if err := check(text); err != nil {
		return fmt.Errorf("the attribute %s %w", name, err)
	}
	doc.attributes[name] = string(text)
	return nil
}

// skipValue reads over a value of any kind, but not however deep.
func skipValue(d *jsontext.Decoder) error {
	depth := d.StackDepth()
	for {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		switch now := d.StackDepth(); {
		case now > MaxDocumentDepth: // the token just read opened one too many
			return fmt.Errorf("the CloudEvents document is nested deeper than %d levels at byte %d", MaxDocumentDepth, d.InputOffset()-1)
		case now == depth:
			return nil
		}
	}
}

// explain turns an error of the JSON library into a sentence, and passes on one
// that is.
func explain(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the CloudEvents document is empty")
	}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok:
		return err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("the name %s appears twice in the CloudEvents document", clipped(syntax.JSONPointer.LastToken()))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the CloudEvents document ends too early at byte %d", syntax.ByteOffset)
	default:
		return fmt.Errorf("the CloudEvents document is not valid JSON at byte %d: %w", syntax.ByteOffset, syntax.Err)
	}
}

// clipped quotes the beginning of what a producer wrote: sentences end in logs
// and headers.
func clipped(s string) string {
	const maxQuotedBytes = 40
	if len(s) > maxQuotedBytes {
		end := maxQuotedBytes
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end] + "..."
	}
	return strconv.Quote(s)
}
