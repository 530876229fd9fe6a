package schemas

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// readProto reads data, a message in protobuf. It holds it to the rules of JSON, so it is stricter than
// protobuf's own reader: a field may come once, and a number must fit instead of being cut to size.
func (r *reader) readProto(members []member, data []byte) error {
	for at := 0; at < len(data); {
		number, wire, n := protowire.ConsumeTag(data[at:])
		if n < 0 {
			return malformed(n, at)
		}
		if wire == protowire.StartGroupType || wire == protowire.EndGroupType {
			// Groups are the only thing that could be nested, and no message here has ever had one.
			return fmt.Errorf("the protobuf has a group at byte %d, which no message here has", at)
		}
		var err error
		value := at + n
		if m := byNumber(members, number); m != nil && wireNames[wire] != "" {
			n, err = r.readField(m, wire, data, value)
		} else if n = protowire.ConsumeFieldValue(number, wire, data[value:]); n < 0 {
			err = malformed(n, value)
		}
		if err != nil {
			return err
		}
		at = value + n
	}
	for i := range members {
		if m := &members[i]; r.seen&(1<<m.field) == 0 && (m.kind == kindID || m.presence) {
			return fmt.Errorf("%s is missing", m.name())
		}
	}
	return nil
}

// byNumber finds a member, or nil.
func byNumber(members []member, number protowire.Number) *member {
	for i := range members {
		if members[i].number == number {
			return &members[i]
		}
	}
	return nil
}

// readField reads and checks the value of m at data[at:], and returns its length.
func (r *reader) readField(m *member, wire protowire.Type, data []byte, at int) (int, error) {
	if r.seen&(1<<m.field) != 0 {
		return 0, fmt.Errorf("the field %s appears twice", m.name())
	}
	r.seen |= 1 << m.field
	wanted := protowire.BytesType
	switch m.kind {
	case kindInt32, kindInt64, kindUint64, kindBool:
		wanted = protowire.VarintType
	}
	if wire != wanted {
		return 0, fmt.Errorf("%s must be %s, not %s", m.name(), wireNames[wanted], wireNames[wire])
	}
	if wire == protowire.VarintType {
		number, n := protowire.ConsumeVarint(data[at:])
		if n < 0 {
			return 0, malformed(n, at)
		}
		if signed := int64(number); m.kind == kindInt32 && (signed < math.MinInt32 || signed > math.MaxInt32) {
			return 0, notWhole(*m, strconv.FormatInt(signed, 10))
		}
		r.numbers[m.field] = number
		return n, nil
	}
	text, n := protowire.ConsumeBytes(data[at:])
	if n < 0 {
		return 0, malformed(n, at)
	}
	if !utf8.Valid(text) {
		return 0, fmt.Errorf("%s is not valid UTF-8", m.name())
	}
	start := len(r.chars)
	r.chars = append(r.chars, text...)
	return n, r.checkText(*m, start)
}

// wireNames call protobuf's wire types by name, in sentences. A type has three bits.
var wireNames = [8]string{
	protowire.VarintType:  "a varint",
	protowire.BytesType:   "a string",
	protowire.Fixed32Type: "a 32-bit value",
	protowire.Fixed64Type: "a 64-bit value",
}

// malformed explains why protowire could not read on at byte at; n is what it returned. Its own words are
// not stable.
func malformed(n, at int) error {
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return fmt.Errorf("the protobuf ends too early, in what begins at byte %d", at)
	}
	return fmt.Errorf("the data is not valid protobuf at byte %d", at)
}
