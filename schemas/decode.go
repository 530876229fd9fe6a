package schemas

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A reader walks over one message and keeps the values of a message's members. It is pooled: reading
// a record costs one allocation, the string that its texts are cut from.
type reader struct {
	json    jsontext.Decoder
	input   bytes.Buffer
	chars   []byte // the unescaped strings, one after the other
	spans   [fieldCount]span
	numbers [fieldCount]uint64 // whole numbers (negative ones in two's complement) and booleans
	seen    uint32             // bit set of fields
}

// A span is where in chars a string is.
type span struct{ start, end int }

var readers = sync.Pool{New: func() any { return new(reader) }}

func newReader() *reader { return readers.Get().(*reader) }

// maxPooledBytes bounds the memory that a pooled reader keeps after an unusually large record.
const maxPooledBytes = 4096

func (r *reader) release() {
	if cap(r.chars) > maxPooledBytes {
		r.chars = nil
	}
	readers.Put(r)
}

// text is the string of f, cut from chars (r.chars as a string).
func (r *reader) text(chars string, f field) string {
	return chars[r.spans[f].start:r.spans[f].end]
}

// read reads data, which must be one message with these members, encoded as contentType says.
func (r *reader) read(members []member, contentType string, data []byte) error {
	encoding, err := encodingOf(contentType)
	if err != nil {
		return err
	}
	if len(data) > MaxDataBytes {
		return fmt.Errorf("the data is %d bytes; at most %d are accepted", len(data), MaxDataBytes)
	}
	r.reset()
	if encoding == Protobuf {
		return r.readProto(members, data)
	}
	if r.readCanonical(members, data) {
		return nil
	}
	r.reset()
	return r.readJSON(members, data)
}

func (r *reader) reset() {
	r.chars, r.spans, r.numbers, r.seen = r.chars[:0], [fieldCount]span{}, [fieldCount]uint64{}, 0
}

// readJSON reads JSON of any form.
func (r *reader) readJSON(members []member, data []byte) error {
	// From a bytes.Buffer the decoder reads in place, and never writes to it.
	r.input = *bytes.NewBuffer(data)
	r.json.Reset(&r.input)
	defer func() { // or the reader would keep data for as long as it meets none but canonical ones
		r.input = bytes.Buffer{}
		r.json.Reset(&r.input)
	}()
	if err := r.readObject(members); err != nil {
		return explain(err, data)
	}
	for i := range members {
		if m := &members[i]; r.seen&(1<<m.field) == 0 && m.kind != kindDate {
			return fmt.Errorf("%s is missing", m.name())
		}
	}
	return nil
}

func (r *reader) readObject(members []member) error {
	start, err := r.json.ReadToken()
	if err != nil {
		return err
	}
	if k := start.Kind(); k != '{' {
		return fmt.Errorf("the data must be a JSON object, not %s", article(k))
	}
	for next := 0; r.json.PeekKind() != '}'; next++ {
		name, err := r.json.ReadValue()
		if err != nil {
			return err
		}
		at := indexOf(members, name, next)
		if at < 0 {
			err = r.skipValue()
		} else {
			err = r.readValue(members[at])
			next = at
		}
		if err != nil {
			return err
		}
	}
	if _, err := r.json.ReadToken(); err != nil {
		return err
	}
	if len(bytes.TrimLeft(r.json.UnreadBuffer(), " \t\r\n")) > 0 {
		return fmt.Errorf("there is more after the JSON object at byte %d", r.json.InputOffset())
	}
	return nil
}

// indexOf finds the member called name, a JSON string, or -1. It looks at guess first: most producers
// write the fields in one order.
func indexOf(members []member, name jsontext.Value, guess int) int {
	bare := name[1 : len(name)-1]
	if bytes.IndexByte(bare, '\\') >= 0 {
		bare, _ = jsontext.AppendUnquote(nil, name) // cannot fail: the decoder has read it
	}
	if guess < len(members) && string(bare) == members[guess].name() {
		return guess
	}
	for i, m := range members {
		if string(bare) == m.name() {
			return i
		}
	}
	return -1
}

// skipValue reads over a value of any kind, however large, but not however deep.
func (r *reader) skipValue() error {
	depth := r.json.StackDepth()
	for {
		if _, err := r.json.ReadToken(); err != nil {
			return err
		}
		switch now := r.json.StackDepth(); {
		case now > MaxDepth: // the token just read opened one too many
			return fmt.Errorf("the JSON is nested deeper than %d levels at byte %d", MaxDepth, r.json.InputOffset()-1)
		case now == depth:
			return nil
		}
	}
}

// explain turns an error of the JSON library into a sentence, and passes on one that is.
func explain(err error, data []byte) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the data is empty")
	}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok:
		return err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("the name %s appears twice", clipped(syntax.JSONPointer.LastToken()))
	case startsInvalid(data[syntax.ByteOffset:]):
		return fmt.Errorf("the data is not valid UTF-8 at byte %d", syntax.ByteOffset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the JSON ends too early at byte %d", syntax.ByteOffset)
	default:
		return fmt.Errorf("the data is not valid JSON at byte %d: %w", syntax.ByteOffset, syntax.Err)
	}
}

// startsInvalid reports whether data starts with a byte that no UTF-8 starts with.
func startsInvalid(data []byte) bool {
	c, size := utf8.DecodeRune(data)
	return c == utf8.RuneError && size == 1
}
