package schemas

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"pgregory.net/rapid"
)

func FuzzDecodeCommand(f *testing.F) {
	addGoldens(f, commandMessages[1:])
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		ceType := commandMessages[1+int(which)%(len(commandMessages)-1)].ceType
		before := bytes.Clone(data)
		first, err := DecodeCommand(ceType, "", data)
		require.Equal(t, before, data, "the decoder wrote to its input")
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
		ceType := eventMessages[1+int(which)%(len(eventMessages)-1)].ceType
		before := bytes.Clone(data)
		first, err := DecodeEvent(ceType, "", data)
		require.Equal(t, before, data, "the decoder wrote to its input")
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

func addGoldens(f *testing.F, messages []message) {
	for i, m := range messages {
		files, err := filepath.Glob(filepath.Join(goldenDir, m.ceType, "*.json"))
		require.NoError(f, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(uint8(i), data)
		}
	}
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

func TestCommandRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
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
		got, err := DecodeCommand(c.Type.CEType(), ContentTypeJSON, AppendCommand(nil, &c))
		require.NoError(t, err)
		require.Equal(t, c, got)
	})
}

func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
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
		got, err := DecodeEvent(e.Type.CEType(), ContentTypeJSON, AppendEvent(nil, &e))
		require.NoError(t, err)
		require.Equal(t, e, got)
	})
}
