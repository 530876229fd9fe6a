package schemas

import "github.com/go-json-experiment/json/jsontext"

// appendName appends what stands before the i-th value: an opening brace or a comma, then the name.
func appendName(dst []byte, i int, m member) []byte {
	if i == 0 {
		dst = append(dst, '{', '"')
	} else {
		dst = append(dst, ',', '"')
	}
	dst = append(dst, m.name()...)
	return append(dst, '"', ':')
}

// appendString appends s as a JSON string in the form of RFC 8785: only what must be escaped is.
func appendString(dst []byte, s string) []byte {
	// The only error is invalid UTF-8, which AppendQuote has then replaced by U+FFFD.
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

// appendDate appends a date, null for none.
func appendDate(dst []byte, date string) []byte {
	if date == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, date)
}
