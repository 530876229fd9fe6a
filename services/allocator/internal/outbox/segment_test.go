package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample() Segment {
	at := time.UnixMilli(1_900_000_000_123).UTC()
	b := NewBuilder(100)
	b.Begin(101, at, 2)
	b.Message(3, "RED-CHAIR", []byte(`{"a":1}`))
	b.Message(4, "RED-CHAIR", []byte(`{}`))
	b.DeadLetter(102, at, "not JSON")
	b.Begin(110, at.Add(time.Second), 1)
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

// A segment that was cut short or came from a newer build must be an error at every length: publishing a part of it
// would lose events for good.
func TestDamagedSegmentsAreErrors(t *testing.T) {
	s := sample()
	whole, err := s.Entries()
	require.NoError(t, err)
	for n := range len(s.Data) {
		cut := Segment{First: s.First, Next: s.Next, Data: s.Data[:n]}
		entries, err := cut.Entries()
		if err == nil { // a cut between entries cannot be told from a shorter segment, but must not invent any
			require.Equal(t, whole[:len(entries)], append([]Entry{}, entries...))
		}
	}
	_, err = Segment{First: 0, Next: 1, Data: []byte{9}}.Entries()
	require.ErrorContains(t, err, "format 9 is unknown")
	_, err = Segment{First: 100, Next: 102, Data: s.Data}.Entries()
	require.ErrorContains(t, err, "damaged", "an entry past the segment's end")
}

func FuzzEntries(f *testing.F) {
	f.Add(sample().Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := Segment{First: 100, Next: 200, Data: data}.Entries()
		if err != nil {
			require.Nil(t, entries)
		}
		for _, e := range entries {
			require.True(t, e.Offset >= 100 && e.Offset < 200, "an entry outside of its segment")
		}
	})
}
