package schemas

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// readValue reads and checks the value of m.
func (r *reader) readValue(m member) error {
	k := r.json.PeekKind()
	if k == '{' || k == '[' {
		return fmt.Errorf("%s must be %s, not %s", m.name(), m.kind.expected(), article(k))
	}
	value, err := r.json.ReadValue()
	if err != nil {
		return err
	}
	r.seen |= 1 << m.field
	isNumber := m.kind == kindInt32 || m.kind == kindInt64 || m.kind == kindUint64
	switch {
	case k == 'n' && m.kind == kindDate:
		return nil
	case k == 'n':
		return fmt.Errorf("%s must not be null", m.name())
	case k == '0' && isNumber:
		return r.keepNumber(m, value)
	case (k == 't' || k == 'f') && m.kind == kindBool:
		if k == 't' {
			r.numbers[m.field] = 1
		}
		return nil
	case k == '"' && !isNumber && m.kind != kindBool:
		return r.keepString(m, value)
	default:
		return fmt.Errorf("%s must be %s, not %s", m.name(), m.kind.expected(), article(k))
	}
}

func (r *reader) keepString(m member, value jsontext.Value) error {
	start := len(r.chars)
	if bytes.IndexByte(value, '\\') < 0 {
		r.chars = append(r.chars, value[1:len(value)-1]...)
	} else {
		r.chars, _ = jsontext.AppendUnquote(r.chars, value) // cannot fail: the decoder has read it
	}
	return r.checkText(m, start)
}

// checkText takes what was appended to the chars from start on as the text of m.
func (r *reader) checkText(m member, start int) error {
	r.spans[m.field] = span{start, len(r.chars)}
	s := r.chars[start:]
	switch m.kind {
	case kindID:
		if len(s) == 0 {
			return fmt.Errorf("%s must not be empty", m.name())
		}
		return checkID(m, s)
	case kindOptionalID:
		return checkID(m, s)
	case kindDate:
		return checkDate(m, s)
	default:
		return nil
	}
}

func checkID(m member, id []byte) error {
	if len(id) > MaxIDBytes {
		return fmt.Errorf("%s is %d bytes; at most %d are accepted", m.name(), len(id), MaxIDBytes)
	}
	if !slices.ContainsFunc(id, func(b byte) bool { return b < ' ' || b > '~' }) {
		return nil // as nearly all are
	}
	if i := bytes.IndexFunc(id, unicode.IsControl); i >= 0 {
		c, _ := utf8.DecodeRune(id[i:])
		return fmt.Errorf("%s contains the control character %U", m.name(), c)
	}
	return nil
}

func checkDate(m member, date []byte) error {
	if len(date) == 0 {
		return nil
	}
	if _, err := time.Parse(time.DateOnly, string(date)); err != nil {
		return fmt.Errorf("%s %s is not a calendar date of the form YYYY-MM-DD", m.name(), clipped(string(date)))
	}
	return nil
}

func (r *reader) keepNumber(m member, value jsontext.Value) error {
	n, ok := parseWhole(m.kind, string(value))
	if !ok {
		n, ok = parseWhole(m.kind, plainInteger(string(value)))
	}
	if ok {
		r.numbers[m.field] = n
		return nil
	}
	return notWhole(m, string(value))
}

// notWhole says which numbers m can be.
func notWhole(m member, number string) error {
	least, most := m.kind.bounds()
	return fmt.Errorf("%s %s is not a whole number from %d to %d", m.name(), clip(number), least, most)
}

// bounds are those of a kind of number.
func (k kind) bounds() (least int64, most uint64) {
	switch k {
	case kindInt64:
		return math.MinInt64, math.MaxInt64
	case kindUint64:
		return 0, math.MaxUint64
	default:
		return math.MinInt32, math.MaxInt32
	}
}

// parseWhole parses decimal digits, a negative number to two's complement.
func parseWhole(k kind, digits string) (uint64, bool) {
	if k == kindUint64 {
		n, err := strconv.ParseUint(digits, 10, 64)
		return n, err == nil
	}
	bits := 64
	if k == kindInt32 {
		bits = 32
	}
	n, err := strconv.ParseInt(digits, 10, bits)
	return uint64(n), err == nil
}

// plainInteger writes a JSON number without fraction and exponent: 3.0, 30e-1 and 0.3E1 are all the whole
// number 3, and some languages write whole numbers so. "" if it is not whole, or far too large.
func plainInteger(number string) string {
	const mostDigits = 20 // of 2^64
	sign := ""
	if number[0] == '-' {
		sign, number = "-", number[1:]
	}
	exponent := 0
	if e := strings.IndexAny(number, "eE"); e >= 0 {
		var err error
		if exponent, err = strconv.Atoi(number[e+1:]); err != nil {
			return ""
		}
		number = number[:e]
	}
	whole, fraction, _ := strings.Cut(number, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(digits, "0")
	zeros := len(digits) - len(significant) - len(fraction) + exponent
	switch {
	case significant == "":
		return "0"
	case zeros < 0 || zeros > mostDigits:
		return ""
	default:
		return sign + significant + strings.Repeat("0", zeros)
	}
}

// article names a kind of JSON value in a sentence.
func article(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	default:
		return "a boolean"
	}
}

// clip shortens what a sentence quotes: it ends in logs and headers.
func clip(s string) string {
	const maxQuotedBytes = 40
	if len(s) <= maxQuotedBytes {
		return s
	}
	end := maxQuotedBytes
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

func clipped(s string) string { return strconv.Quote(clip(s)) }
