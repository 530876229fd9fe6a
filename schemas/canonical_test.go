package schemas

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// requireCanonicalIsTheSame: what readCanonical takes the JSON library takes too, and finds the same in it. It reports whether it was taken.
func requireCanonicalIsTheSame(t require.TestingT, members []member, data []byte) bool {
	var quick, general reader
	if !quick.readCanonical(members, data) {
		return false
	}
	require.NoError(t, general.readJSON(members, data), "%s", data)
	require.Equal(t, general.numbers, quick.numbers, "%s", data)
	for f := range firstNumber {
		require.Equal(t, general.text(string(general.chars), f), quick.text(string(quick.chars), f), "%s in %s", fieldNames[f], data)
	}
	return true
}

// TestCanonicalOrNot spoils messages in places, and adds what other encoders write.
func TestCanonicalOrNot(t *testing.T) {
	pieces := []string{
		" ", "  ", "\n", "\t", ",", ":", `"`, `\`, "{", "}", "null", "true", "false", "-", "+", ".", "e", "E1", "0", "00", "-0", "7", "é", "\x7f", "\x00", "\xff", `\u0041`,
		"2147483647", "-2147483648", "2147483648", "999999999999999999", "9223372036854775807", "18446744073709551615", "18446744073709551616",
		`"2031-01-02"`, `"2031-02-30"`, `""`, `"` + strings.Repeat("x", MaxIDBytes+1) + `"`, `,"x":1`, `,"sku":"s"`,
	}
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvent(t)
		data, m := AppendEvent(nil, &e), eventMessages[e.Type]
		if rapid.Bool().Draw(t, "command") {
			c := drawCommand(t)
			data, m = AppendCommand(nil, &c), commandMessages[c.Type]
		}
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			from := rapid.IntRange(0, len(data)).Draw(t, "from")
			to := min(len(data), from+rapid.IntRange(0, 4).Draw(t, "removed"))
			data = slices.Replace(data, from, to, []byte(rapid.SampledFrom(pieces).Draw(t, "piece"))...)
		}
		if requireCanonicalIsTheSame(t, m.members, data) {
			taken++
		} else {
			refused++
		}
	})
	require.Greater(t, taken, 10)
	require.Greater(t, refused, 10)
}

// TestCanonicalNumbers goes through the edges of each kind of number.
func TestCanonicalNumbers(t *testing.T) {
	members := eventMessages[EventAllocated].members
	for _, m := range members {
		if m.field < firstNumber {
			continue
		}
		taken := 0
		for _, number := range []string{
			"0", "-0", "00", "07", "-07", "-", "", "+1", "-1", "1.0", "1e2", "1E0", "2147483647", "2147483648", "-2147483648", "-2147483649",
			"999999999999999999", "1000000000000000000", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
			"18446744073709551615", "18446744073709551616", "36893488147419103233", "true", "null", `"1"`,
		} {
			data := AppendEvent(nil, &benchEvent)
			at := bytes.Index(data, []byte(m.jsonName)) + len(m.jsonName)
			end := at + bytes.IndexAny(data[at:], ",}")
			if requireCanonicalIsTheSame(t, members, slices.Replace(data, at, end, []byte(number)...)) {
				taken++
			}
		}
		require.Positive(t, taken, m.name())
	}
}

// TestWhatIsCanonical: what Lotline's own encoder and the usual ones of other languages write is read the quick way.
func TestWhatIsCanonical(t *testing.T) {
	require.True(t, requireCanonicalIsTheSame(t, commandMessages[CommandAllocate].members, AppendCommand(nil, &benchCommand)))
	require.True(t, requireCanonicalIsTheSame(t, eventMessages[EventAllocated].members, AppendEvent(nil, &benchEvent)))
	for data, taken := range map[string]bool{
		`{"ref":"b-1","sku":"S","qty":3,"eta":null}`:                                       true,
		`{"ref": "b-1", "sku": "S", "qty": -3, "eta": "2031-01-02"}`:                       true,
		`{ "ref":"b-1","sku":"Š","qty":3,"eta":""}`:                                        true,
		`{"ref":"b-1","sku":"S","qty":3}`:                                                  false,
		`{"sku":"S","ref":"b-1","qty":3,"eta":null}`:                                       false,
		`{"ref":"b-1","sku":"\u0053","qty":3,"eta":null}`:                                  false,
		`{"ref":"b-1","sku":"S","qty":3.0,"eta":null}`:                                     false,
		`{"ref":"b-1","sku":"","qty":3,"eta":null}`:                                        false,
		`{"ref":"b-1","sku":"S","qty":3,"eta":"2031-02-30"}`:                               false,
		"{\"ref\":\"b-1\",\"sku\":\"\x7f\",\"qty\":3,\"eta\":null}":                        false,
		"{\"ref\":\"b-1\",\"sku\":\"\u0085\",\"qty\":3,\"eta\":null}":                      false,
		"{\"ref\":\"b-1\",\"sku\":\"S\",\"qty\":3,\"eta\":null}\n":                         false,
		`{"ref":"` + strings.Repeat("x", MaxIDBytes) + `","sku":"S","qty":3,"eta":null}`:   true,
		`{"ref":"` + strings.Repeat("x", MaxIDBytes+1) + `","sku":"S","qty":3,"eta":null}`: false,
	} {
		require.Equal(t, taken, requireCanonicalIsTheSame(t, commandMessages[CommandCreateBatch].members, []byte(data)), data)
	}
	// Only a sentence for people may have what an id may not, and JSON wants it escaped.
	rejected := Event{Type: EventCommandRejected, SKU: "S", CommandID: "c", Reason: "r", Message: "$"}
	for text, taken := range map[string]bool{"plain": true, "\x7f": true, "\x00": false, "\n": false} {
		data := bytes.Replace(AppendEvent(nil, &rejected), []byte("$"), []byte(text), 1)
		require.Equal(t, taken, requireCanonicalIsTheSame(t, eventMessages[EventCommandRejected].members, data), "%q", text)
	}
}
