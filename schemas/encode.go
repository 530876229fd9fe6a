package schemas

import (
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protowire"
)

// values holds what a message has in each field: a text or, from firstNumber on, a number (a negative one in two's
// complement, a boolean as 0 or 1).
type values struct {
	texts   [firstNumber]string
	numbers [fieldCount - firstNumber]uint64
}

// appendJSON appends the canonical JSON.
func appendJSON(dst []byte, members []member, v *values) []byte {
	for i := range members {
		m := &members[i]
		dst = append(dst, m.jsonName...)
		switch m.kind {
		case kindInt32, kindInt64:
			dst = strconv.AppendInt(dst, int64(v.numbers[m.field-firstNumber]), 10)
		case kindUint64:
			dst = strconv.AppendUint(dst, v.numbers[m.field-firstNumber], 10)
		case kindBool:
			dst = strconv.AppendBool(dst, v.numbers[m.field-firstNumber] != 0)
		case kindDate:
			if v.texts[m.field] == "" {
				dst = append(dst, "null"...)
				continue
			}
			fallthrough
		default:
			// In the form of RFC 8785: only what must be escaped is. The only error is invalid UTF-8, which
			// AppendQuote has then replaced by U+FFFD.
			dst, _ = jsontext.AppendQuote(dst, v.texts[m.field])
		}
	}
	return append(dst, '}')
}

// appendProto appends the bytes that protobuf's own deterministic encoder makes of the message.
func appendProto(dst []byte, members []member, v *values) []byte {
	for i := range members {
		m := &members[i]
		if m.field < firstNumber {
			text := v.texts[m.field]
			if text == "" {
				continue
			}
			if !utf8.ValidString(text) {
				text = string([]rune(text)) // each byte that is not UTF-8 becomes U+FFFD, as in JSON
			}
			dst = protowire.AppendTag(dst, m.number, protowire.BytesType)
			dst = protowire.AppendString(dst, text)
		} else if number := v.numbers[m.field-firstNumber]; number != 0 || m.presence {
			dst = protowire.AppendTag(dst, m.number, protowire.VarintType)
			dst = protowire.AppendVarint(dst, number)
		}
	}
	return dst
}
