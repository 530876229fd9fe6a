package outbox

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample() Segment {
	at := time.UnixMilli(1_900_000_000_123).UTC()
	b := new(Builder)
	b.Reset(100)
	b.Begin(101, at, 2, Headers{})
	b.Message(3, "RED-CHAIR", []byte(`{"a":1}`))
	b.Message(4, "RED-CHAIR", []byte(`{}`))
	b.DeadLetter(102, at, "not JSON")
	b.Begin(110, at.Add(time.Second), 1, Headers{})
	b.Message(1, "", nil)
	return b.Segment(115)
}

func TestSegmentRoundTrip(t *testing.T) {
	s := sample()
	require.Equal(t, int64(100), s.First)
	require.Equal(t, int64(115), s.Next)
	entries, err := s.Entries()
	require.NoError(t, err)
	at := time.UnixMilli(1_900_000_000_123).UTC()
	require.Equal(t, []Entry{
		{Offset: 101, Time: at, Messages: []Message{
			{Type: 3, Key: []byte("RED-CHAIR"), Value: []byte(`{"a":1}`)},
			{Type: 4, Key: []byte("RED-CHAIR"), Value: []byte(`{}`)},
		}},
		{Offset: 102, Time: at, DeadLetter: "not JSON"},
		{Offset: 110, Time: at.Add(time.Second), Messages: []Message{{Type: 1, Key: []byte{}, Value: []byte{}}}},
	}, entries)
}

// traced is a segment of which some entries have headers.
func traced() Segment {
	at := time.UnixMilli(1_900_000_000_123).UTC()
	b := new(Builder)
	b.Reset(100)
	b.Begin(101, at, 1, Headers{TraceParent: []byte("parent"), TraceState: []byte("state")})
	b.Message(3, "RED-CHAIR", []byte(`{"a":1}`))
	b.DeadLetter(102, at, "not JSON")
	b.Begin(103, at, 2, Headers{})
	b.Message(1, "RED-CHAIR", []byte(`{}`))
	b.Message(2, "RED-CHAIR", nil)
	b.Begin(110, at, 1, Headers{TraceParent: []byte("parent")})
	b.Message(1, "", nil)
	return b.Segment(115)
}

// typed is a segment of an allocator that emits something else than JSON.
func typed() Segment {
	at := time.UnixMilli(1_900_000_000_123).UTC()
	b := new(Builder)
	b.Reset(100)
	b.Begin(101, at, 1, Headers{ContentType: []byte("application/x")})
	b.Message(3, "RED-CHAIR", []byte{0xff, 0})
	b.Begin(102, at, 1, Headers{TraceParent: []byte("parent"), ContentType: []byte("application/x")})
	b.Message(4, "RED-CHAIR", nil)
	return b.Segment(115)
}

func TestContentTypesRoundTrip(t *testing.T) {
	entries, err := typed().Entries()
	require.NoError(t, err)
	at := time.UnixMilli(1_900_000_000_123).UTC()
	require.Equal(t, []Entry{
		{
			Offset: 101, Time: at, Headers: Headers{ContentType: []byte("application/x")},
			Messages: []Message{{Type: 3, Key: []byte("RED-CHAIR"), Value: []byte{0xff, 0}}},
		},
		{
			Offset: 102, Time: at, Headers: Headers{TraceParent: []byte("parent"), ContentType: []byte("application/x")},
			Messages: []Message{{Type: 4, Key: []byte("RED-CHAIR"), Value: []byte{}}},
		},
	}, entries)
}

func TestHeadersRoundTrip(t *testing.T) {
	entries, err := traced().Entries()
	require.NoError(t, err)
	at := time.UnixMilli(1_900_000_000_123).UTC()
	require.Equal(t, []Entry{
		{
			Offset: 101, Time: at, Headers: Headers{TraceParent: []byte("parent"), TraceState: []byte("state")},
			Messages: []Message{{Type: 3, Key: []byte("RED-CHAIR"), Value: []byte(`{"a":1}`)}},
		},
		{Offset: 102, Time: at, DeadLetter: "not JSON"},
		{Offset: 103, Time: at, Messages: []Message{
			{Type: 1, Key: []byte("RED-CHAIR"), Value: []byte(`{}`)},
			{Type: 2, Key: []byte("RED-CHAIR"), Value: []byte{}},
		}},
		{
			Offset: 110, Time: at, Headers: Headers{TraceParent: []byte("parent")},
			Messages: []Message{{Type: 1, Key: []byte{}, Value: []byte{}}},
		},
	}, entries)
}

// The bytes of segments that a build once stored. They never change: a database may hold them, and what an old build
// wrote must be read, to the same entries, for ever.
func TestStoredSegmentsStayReadable(t *testing.T) {
	for name, stored := range map[string]struct {
		hex  string
		want Segment
	}{
		"version 1": {
			"0101f6e1998dcc6e0203095245442d4348414952077b2261223a317d04095245442d4348414952027b7d" +
				"02f6e1998dcc6e00086e6f74204a534f4e0ac6f1998dcc6e01010000", sample(),
		},
		"version 2": {
			"0201f6e1998dcc6e0000020106706172656e7402057374617465010309" +
				"5245442d4348414952077b2261223a317d02f6e1998dcc6e00086e6f74204a534f4e" +
				"03f6e1998dcc6e0201095245442d4348414952027b7d02095245442d434841495200" +
				"0af6e1998dcc6e0000010106706172656e7401010000", traced(),
		},
		"version 2, content types": {
			"0201f6e1998dcc6e000001030d6170706c69636174696f6e2f780103095245442d434841495202ff0002f6" +
				"e1998dcc6e0000020106706172656e74030d6170706c69636174696f6e2f780104095245442d434841495200", typed(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := hex.DecodeString(stored.hex)
			require.NoError(t, err)
			want, err := stored.want.Entries()
			require.NoError(t, err)
			got, err := Segment{First: 100, Next: 115, Data: data}.Entries()
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, data, stored.want.Data, "what is written now")
		})
	}
}

// An event without a header that its command's other events have is another event: nothing is published instead.
func TestAnUnknownHeaderIsAnError(t *testing.T) {
	s := traced()
	data := append([]byte{}, s.Data...)
	require.Equal(t, byte(tagTraceParent), data[11])
	data[11] = 99
	entries, err := Segment{First: s.First, Next: s.Next, Data: data}.Entries()
	require.ErrorContains(t, err, "header of kind 99 is unknown")
	require.Nil(t, entries)
}

// A segment that was cut short or came from a newer build must be an error at every length: publishing a part of it
// would lose events for good.
func TestDamagedSegmentsAreErrors(t *testing.T) {
	for _, s := range []Segment{sample(), traced(), typed()} {
		whole, err := s.Entries()
		require.NoError(t, err)
		for n := range len(s.Data) {
			cut := Segment{First: s.First, Next: s.Next, Data: s.Data[:n]}
			entries, err := cut.Entries()
			if err == nil { // a cut between entries cannot be told from a shorter segment, but must not invent any
				require.Equal(t, whole[:len(entries)], append([]Entry{}, entries...))
			}
		}
	}
	s := sample()
	_, err := Segment{First: 0, Next: 1, Data: []byte{9}}.Entries()
	require.ErrorContains(t, err, "format 9 is unknown")
	_, err = Segment{First: 100, Next: 102, Data: s.Data}.Entries()
	require.ErrorContains(t, err, "damaged", "an entry past the segment's end")
}

func FuzzEntries(f *testing.F) {
	f.Add(sample().Data)
	f.Add(traced().Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := Segment{First: 100, Next: 200, Data: data}.Entries()
		if err != nil {
			require.Nil(t, entries)
		}
		for _, e := range entries {
			require.True(t, e.Offset >= 100 && e.Offset < 200, "an entry outside of its segment")
			require.NotEqual(t, e.DeadLetter == "", len(e.Messages) == 0, "events, or a verdict")
		}
	})
}
