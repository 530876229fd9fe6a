package commandlog

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
	"github.com/lotline/lotline/topics"
)

// What a command came as is let go of once it is decoded, and kept where it may become a dead letter: if it is one, or if its
// verdict is another life's.
func TestWhatRecordsCameAsIsKeptForDeadLettersOnly(t *testing.T) {
	s := &session{Worker: &Worker{config: Config{Topics: topics.Declared("t")}}, parts: map[int32]*part{}}
	command := func(offset int64) *kgo.Record {
		return &kgo.Record{
			Offset: offset, Key: []byte("CHAIR"), Value: []byte(`{"orderid":"o","sku":"CHAIR","qty":1}`),
			Headers: cloudevents.Headers(cloudevents.Envelope{Type: "lotline.command.v1.Allocate", ContentType: "application/json"}),
		}
	}
	records := []*kgo.Record{command(5), command(6), {Offset: 7, Value: []byte("not JSON")}, command(8)}
	p := &polled{records: records, light: lightFrom(&part{applied: 6})}
	s.decode(p)
	for i, whole := range []bool{true, false, true, false} {
		require.Equal(t, whole, records[i].Value != nil, records[i].Offset)
		require.Equal(t, whole, p.heavy(records[i]), records[i].Offset)
	}

	// Allocators that cannot read what this one can have decided all of it.
	judged := new(outbox.Builder)
	judged.Reset(5)
	for _, r := range records {
		judged.DeadLetter(r.Offset, r.Timestamp, "unreadable")
	}
	verdicts := judged.Segment(9)
	heavy, err := s.matchSegment(p, "id", []*kgo.Record{records[0], records[2]}, verdicts, 0)
	require.NoError(t, err)
	require.Equal(t, 2, heavy.deadLetters)
	require.True(t, bytes.HasPrefix(heavy.records[0].Value, []byte(`{"orderid"`)))
	_, err = s.matchSegment(p, "id", records, verdicts, 0)
	require.ErrorIs(t, err, errStale, "it is polled again, whole")

	unknownYet := []*kgo.Record{command(6)}
	p = &polled{records: unknownYet, light: lightFrom(&part{applied: unknown})}
	s.decode(p)
	require.True(t, p.heavy(unknownYet[0]))
	require.NotNil(t, unknownYet[0].Value)
}
