package schemas

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func FuzzDecodeCommand(f *testing.F) {
	addGoldens(f, commandMessages[1:])
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		m := commandMessages[1+int(which)%(len(commandMessages)-1)]
		ceType := m.ceType
		before := bytes.Clone(data)
		first, err := DecodeCommand(ceType, "", data)
		require.Equal(t, before, data, "the decoder wrote to its input")
		requireCanonicalIsTheSame(t, m.members, data)
		if err != nil {
			requireSentence(t, err)
			return
		}
		require.True(t, json.Valid(data), "the decoder took what is not JSON")
		canonical := AppendCommand(nil, &first)
		again, err := DecodeCommand(ceType, "", canonical)
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.NoError(t, protojson.Unmarshal(canonical, newProto(t, ceType)))
	})
}

func FuzzDecodeEvent(f *testing.F) {
	addGoldens(f, eventMessages[1:])
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		m := eventMessages[1+int(which)%(len(eventMessages)-1)]
		ceType := m.ceType
		before := bytes.Clone(data)
		first, err := DecodeEvent(ceType, "", data)
		require.Equal(t, before, data, "the decoder wrote to its input")
		requireCanonicalIsTheSame(t, m.members, data)
		if err != nil {
			requireSentence(t, err)
			return
		}
		require.True(t, json.Valid(data), "the decoder took what is not JSON")
		canonical := AppendEvent(nil, &first)
		again, err := DecodeEvent(ceType, "", canonical)
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.NoError(t, protojson.Unmarshal(canonical, newProto(t, ceType)))
	})
}

// FuzzDecodeProtobufCommand: what is taken is what protobuf's own reader finds in it, and means the same as JSON.
func FuzzDecodeProtobufCommand(f *testing.F) {
	addProtobuf(f, commandMessages[1:])
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		ceType := commandMessages[1+int(which)%(len(commandMessages)-1)].ceType
		before := bytes.Clone(data)
		first, err := DecodeCommand(ceType, ContentTypeProtobuf, data)
		require.Equal(t, before, data, "the decoder wrote to its input")
		if err != nil {
			requireSentence(t, err)
			return
		}
		requireSameMessage(t, ceType, data, AppendCommand(nil, &first))
		again, err := DecodeCommand(ceType, ContentTypeProtobuf, Protobuf.AppendCommand(nil, &first))
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}

// FuzzDecodeProtobufEvent is the same for events.
func FuzzDecodeProtobufEvent(f *testing.F) {
	addProtobuf(f, eventMessages[1:])
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		ceType := eventMessages[1+int(which)%(len(eventMessages)-1)].ceType
		before := bytes.Clone(data)
		first, err := DecodeEvent(ceType, ContentTypeProtobuf, data)
		require.Equal(t, before, data, "the decoder wrote to its input")
		if err != nil {
			requireSentence(t, err)
			return
		}
		requireSameMessage(t, ceType, data, AppendEvent(nil, &first))
		again, err := DecodeEvent(ceType, ContentTypeProtobuf, Protobuf.AppendEvent(nil, &first))
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}

// requireSameMessage reads binary and canonical JSON with protobuf's own readers.
func requireSameMessage(t require.TestingT, ceType string, binary, canonical []byte) {
	want, got := newProto(t, ceType), newProto(t, ceType)
	require.NoError(t, protojson.Unmarshal(canonical, want))
	require.NoError(t, proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(binary, got))
	require.True(t, proto.Equal(want, got), "%v is not %v", want, got)
}

func addProtobuf(f *testing.F, messages []message) {
	addFiles(f, messages, "*.binpb")
	for _, data := range []string{
		"", "\x0a", "\x0a\x02\xff\xfe\x12\x01s\x18\x03", "\x0a\x01o\x0a\x01p", "\x0a\x01o\x12\x01s\x18\x83\x80\x80\x80\x10",
		"\x0b\x0c", strings.Repeat("\xfb\x01", 50), "\x0a\x01o\x12\x01s\x18\x03\xfa\x01\x00", "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "\x00\x00",
	} {
		f.Add(uint8(1), []byte(data))
	}
}

func addFiles(f *testing.F, messages []message, pattern string) {
	for i, m := range messages {
		files, err := filepath.Glob(filepath.Join(goldenDir, m.ceType, pattern))
		require.NoError(f, err)
		require.NotEmpty(f, files)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(uint8(i), data)
		}
	}
}

func addGoldens(f *testing.F, messages []message) {
	addFiles(f, messages, "*.json")
	for _, data := range []string{
		"", "{", "\x00", "\u0085", nested(20), `{"x":` + nested(16) + `}`, `{"a":1,"\u0061":2}`, `{"qty":-0.30e+1}`, `{"sku":"\ud83e\ude91"}`,
		"{\"\xff\":0}", "{\"a\":1\x7f", "{\"a\":\"\\u\x01\x7f\u0085\xff\"}", "{\"a\":\"\\\u0085\"}", "{\"a\":\"\\ud800\n\x7f\u0085\"}",
	} {
		f.Add(uint8(0), []byte(data))
	}
}

// requireSentence: the text ends in logs and in headers of dead letters, whatever the data was.
func requireSentence(t *testing.T, err error) {
	s := err.Error()
	require.True(t, s != "" && len(s) <= 400 && utf8.ValidString(s), "%q", s)
	for _, c := range s {
		require.False(t, unicode.IsControl(c), "%q", s)
	}
}

var (
	drawID         = rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.N, unicode.P, unicode.S, unicode.Zs), 1, -1, MaxIDBytes)
	drawOptionalID = rapid.OneOf(rapid.Just(""), drawID)
	drawDate       = rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])`))
)

// TestCommandRoundTrip: what is encoded is read again, whichever way; protobuf's own writer makes the same bytes of it.
func TestCommandRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t)
		ceType, binary := c.Type.CEType(), Protobuf.AppendCommand(nil, &c)
		for _, encoding := range []Encoding{JSON, Protobuf} {
			got, err := DecodeCommand(ceType, encoding.ContentType(), encoding.AppendCommand(nil, &c))
			require.NoError(t, err)
			require.Equal(t, c, got)
		}
		requireSameMessage(t, ceType, binary, AppendCommand(nil, &c))
		require.Equal(t, deterministic(t, ceType, AppendCommand(nil, &c)), string(binary))
	})
}

// TestEventRoundTrip is the same for events.
func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvent(t)
		ceType, binary := e.Type.CEType(), Protobuf.AppendEvent(nil, &e)
		for _, encoding := range []Encoding{JSON, Protobuf} {
			got, err := DecodeEvent(ceType, encoding.ContentType(), encoding.AppendEvent(nil, &e))
			require.NoError(t, err)
			require.Equal(t, e, got)
		}
		requireSameMessage(t, ceType, binary, AppendEvent(nil, &e))
		require.Equal(t, deterministic(t, ceType, AppendEvent(nil, &e)), string(binary))
	})
}

// deterministic is what protobuf's own encoder writes for the message that canonical says.
func deterministic(t require.TestingT, ceType string, canonical []byte) string {
	m := newProto(t, ceType)
	require.NoError(t, protojson.Unmarshal(canonical, m))
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return string(data)
}

func drawCommand(t *rapid.T) Command {
	c := Command{Type: CommandType(rapid.IntRange(1, len(commandMessages)-1).Draw(t, "type"))}
	for _, m := range commandMessages[c.Type].members {
		switch m.field {
		case fieldOrderID:
			c.OrderID = drawID.Draw(t, "orderid")
		case fieldSKU:
			c.SKU = drawID.Draw(t, "sku")
		case fieldRef:
			c.Ref = drawID.Draw(t, "ref")
		case fieldQty:
			c.Qty = rapid.Int32().Draw(t, "qty")
		case fieldETA:
			c.ETA = drawDate.Draw(t, "eta")
		}
	}
	return c
}

func drawEvent(t *rapid.T) Event {
	e := Event{
		Type: EventType(rapid.IntRange(1, len(eventMessages)-1).Draw(t, "type")), SKU: drawID.Draw(t, "sku"),
		Version: rapid.Uint64().Draw(t, "version"), CommandID: drawID.Draw(t, "commandid"), CommandSource: drawOptionalID.Draw(t, "commandsource"),
		Seq: rapid.Int32().Draw(t, "seq"), Last: rapid.Bool().Draw(t, "last"),
	}
	for _, m := range eventMessages[e.Type].members {
		id := drawID
		if m.kind == kindOptionalID {
			id = drawOptionalID
		}
		switch m.field {
		case fieldOrderID:
			e.OrderID = id.Draw(t, "orderid")
		case fieldQty:
			e.Qty = rapid.Int32().Draw(t, "qty")
		case fieldBatchRef:
			e.BatchRef = id.Draw(t, "batchref")
		case fieldBatchQty:
			e.BatchQty = rapid.Int32().Draw(t, "batch_qty")
		case fieldBatchAvailable:
			e.BatchAvailable = rapid.Int32().Draw(t, "batch_available")
		case fieldETA:
			e.ETA = drawDate.Draw(t, "eta")
		case fieldAvailable:
			e.Available = rapid.Int64().Draw(t, "available")
		case fieldReason:
			e.Reason = id.Draw(t, "reason")
		case fieldMessage:
			e.Message = rapid.String().Draw(t, "message")
		}
	}
	return e
}
