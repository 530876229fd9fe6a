package schemas

import (
	"bytes"
	"unicode/utf8"
)

// readCanonical reads data if it is what nearly all producers write: the members in their order and no others, texts without
// escapes, whole numbers as digits, at most one space after a colon, a comma or the brace. If it returns false nothing is known of data:
// the JSON library reads it, or says what is wrong.
//
// That takes three times as long, and decoding is the most of what Lotline itself does with a message. What is read here must
// be read in the same way there, which the fuzz tests and TestCanonicalOrNot hold it to.
func (r *reader) readCanonical(members []member, data []byte) bool {
	for i := range members {
		m := &members[i]
		if len(data) == 0 || data[0] != m.jsonName[0] {
			return false
		}
		data = afterSpace(data[1:])
		name := m.jsonName[1:]
		if len(data) < len(name) || string(data[:len(name)]) != name {
			return false
		}
		data = afterSpace(data[len(name):])
		var ok bool
		if data, ok = r.canonicalValue(m, data); !ok {
			return false
		}
	}
	return string(data) == "}"
}

func afterSpace(data []byte) []byte {
	if len(data) > 0 && data[0] == ' ' {
		return data[1:]
	}
	return data
}

// canonicalValue reads the value of m, and returns what follows it.
func (r *reader) canonicalValue(m *member, data []byte) (rest []byte, ok bool) {
	switch m.kind {
	case kindInt32, kindInt64, kindUint64:
		return r.canonicalNumber(m, data)
	case kindBool:
		if rest, ok = bytes.CutPrefix(data, []byte("true")); ok {
			r.numbers[m.field] = 1
			return rest, true
		}
		return bytes.CutPrefix(data, []byte("false"))
	case kindDate:
		if rest, ok = bytes.CutPrefix(data, []byte("null")); ok {
			return rest, true
		}
	}
	if len(data) == 0 || data[0] != '"' {
		return nil, false
	}
	data = data[1:]
	end := 0
	for end < len(data) && data[end] != '"' {
		if data[end] < ' ' || data[end] == '\\' {
			return nil, false
		}
		end++
	}
	if end == len(data) || !utf8.Valid(data[:end]) {
		return nil, false
	}
	start := len(r.chars)
	r.chars = append(r.chars, data[:end]...)
	return data[end+1:], r.checkText(*m, start) == nil
}

// canonicalDigitsMax is how many digits always fit into 64 bits.
const canonicalDigitsMax = 18

// canonicalNumber reads the number m, if it is digits without a zero in front.
func (r *reader) canonicalNumber(m *member, data []byte) (rest []byte, ok bool) {
	digits, negative := bytes.CutPrefix(data, []byte("-"))
	n, size := int64(0), 0
	for size < len(digits) && size < canonicalDigitsMax && '0' <= digits[size] && digits[size] <= '9' {
		n = n*10 + int64(digits[size]-'0')
		size++
	}
	if size == 0 || size > 1 && digits[0] == '0' {
		return nil, false
	}
	if negative {
		n = -n
	}
	if m.kind == kindUint64 && negative || m.kind == kindInt32 && int64(int32(n)) != n {
		return nil, false
	}
	r.numbers[m.field] = uint64(n)
	return digits[size:], true // a 19th digit, a fraction or an exponent is not what follows a member
}
