package verify

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// history is a correct one: a batch of ten, two lines, one of them taken back.
func history() []schemas.Event {
	event := func(t schemas.EventType, version uint64, order string, available int32) schemas.Event {
		return schemas.Event{
			Type: t, SKU: "CHAIR", Version: version, CommandID: fmt.Sprint("c", version), Last: true, OrderID: order,
			Qty: 2, BatchRef: "b1", BatchQty: 10, BatchAvailable: available, Available: int64(available), Reason: "requested",
		}
	}
	return []schemas.Event{
		event(schemas.EventBatchCreated, 1, "", 10), event(schemas.EventAllocated, 2, "o1", 8),
		event(schemas.EventAllocated, 3, "o2", 6), event(schemas.EventDeallocated, 4, "o1", 8),
	}
}

func records(events []schemas.Event) []*kgo.Record {
	out := make([]*kgo.Record, len(events))
	for i := range events {
		out[i] = &kgo.Record{
			Offset: int64(i), Value: schemas.AppendEvent(nil, &events[i]),
			Headers: cloudevents.Headers(cloudevents.Envelope{
				ID: fmt.Sprintf("topic/%s/%d", place(events[i].CommandID), events[i].Seq), Type: events[i].Type.CEType(),
			}),
		}
	}
	return out
}

// place is where a command was: c3 is partition 0, offset 3, and p1/3 is partition 1.
func place(commandID string) string {
	if offset, ok := strings.CutPrefix(commandID, "c"); ok {
		return "0/" + offset
	}
	return commandID[1:]
}

func readable(n int) map[string]bool {
	places := map[string]bool{}
	for i := range n {
		places[fmt.Sprintf("topic/0/%d", i+1)] = true
	}
	return places
}

func TestACorrectHistoryHasNoFaults(t *testing.T) {
	report := &Report{}
	s := fold(report, records(history()))
	checkOutcomes(report, readable(4), s)
	require.NoError(t, report.Err())
	require.Equal(t, map[lineKey]lineRow{{"o2", "CHAIR"}: {"b1"}}, s.lines)
	require.Equal(t, map[batchKey]batchRow{{"CHAIR", "b1"}: {10, 8, ""}}, s.batches)
}

// A judge that never convicts is worth nothing: each of these must be found, and named.
func TestEachFaultIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]schemas.Event) []schemas.Event
		says   string
	}{
		"an event is there twice": {func(e []schemas.Event) []schemas.Event { return append(e, e[3]) }, "is there twice"},
		"an event is missing":     {func(e []schemas.Event) []schemas.Event { return append(e[:2], e[3]) }, "is version 4 after 2"},
		"two events are swapped":  {func(e []schemas.Event) []schemas.Event { e[1], e[2] = e[2], e[1]; return e }, "and comes after version 3 in partition 0"},
		"two events over two partitions are swapped": {func(e []schemas.Event) []schemas.Event {
			e[1], e[2] = e[2], e[1]
			e[1].CommandID = "p1/3"
			return e
		}, "and comes after version 3 in partition 0"},
		"an outcome names a version that comes later": {func(e []schemas.Event) []schemas.Event {
			ignored := schemas.Event{Type: schemas.EventCommandIgnored, SKU: "CHAIR", Version: 4, CommandID: "p1/3", Last: true, Reason: "duplicate_line", Message: "as before"}
			return append(e[:3:3], ignored, e[3])
		}, "names version 4, and only 3 is there before it"},
		"a line is in two batches": {func(e []schemas.Event) []schemas.Event { e[2].OrderID = "o1"; return e }, "and it is in b1"},
		"stock is oversold":        {func(e []schemas.Event) []schemas.Event { e[1].BatchAvailable = -2; return e }, "has -2 of 10 available"},
		"a sum is wrong":           {func(e []schemas.Event) []schemas.Event { e[1].Available = 9; return e }, "its batches have 8"},
		"a command has no end":     {func(e []schemas.Event) []schemas.Event { e[3].Last = false; return e }, "has 0 outcomes"},
		"an outcome of nothing":    {func(e []schemas.Event) []schemas.Event { e[3].CommandID = "c99"; return e }, "belong to no command"},
	} {
		t.Run(name, func(t *testing.T) {
			report := &Report{}
			checkOutcomes(report, readable(4), fold(report, records(c.change(history()))))
			require.ErrorContains(t, report.Err(), "faults")
			require.Contains(t, fmt.Sprint(report.Faults), c.says)
		})
	}
}

// Over two partitions an outcome that changes nothing may be overtaken by later versions, never come before its own.
func TestAnOutcomeOfASharedSKUMayBeOvertaken(t *testing.T) {
	late := schemas.Event{Type: schemas.EventCommandIgnored, SKU: "CHAIR", Version: 3, CommandID: "p1/3", Last: true, Reason: "duplicate_line", Message: "as before"}
	report := &Report{}
	fold(report, records(append(history(), late)))
	require.NoError(t, report.Err())
}

func TestCompareFindsRowsThatDiffer(t *testing.T) {
	want := map[string]int{"same": 1, "other": 2, "missing": 3}
	report := &Report{}
	compare(report, "rows", want, map[string]int{"same": 1, "other": 9, "more": 4})
	require.ElementsMatch(t, []string{
		"rows: other is 9, the events say 2", "rows: missing is missing, the events say 3", "rows: more is 4, and no event says so",
	}, report.Faults)
}

func TestDeadLettersMustBeTheUnreadableCommands(t *testing.T) {
	dead := func(place, value, reason string) *kgo.Record {
		return &kgo.Record{Value: []byte(value), Headers: []kgo.RecordHeader{
			{Key: "dlq_partition", Value: []byte("0")}, {Key: "dlq_offset", Value: []byte(place)}, {Key: "dlq_reason", Value: []byte(reason)},
		}}
	}
	unreadable := Commands{"topic/0/1": {Value: []byte("x")}, "topic/0/2": {Value: []byte("y")}}
	report := &Report{}
	checkDeadLetters(report, unreadable, []*kgo.Record{dead("1", "x", "why"), dead("2", "y", "why")})
	require.NoError(t, report.Err())
	for says, letters := range map[string][]*kgo.Record{
		"has no dead letter": {dead("1", "x", "why")},
		"is there twice":     {dead("1", "x", "why"), dead("1", "x", "why"), dead("2", "y", "why")},
		"other bytes":        {dead("1", "z", "why"), dead("2", "y", "why")},
		"can be read":        {dead("1", "x", "why"), dead("2", "y", "why"), dead("3", "z", "why")},
		"does not say why":   {dead("1", "x", ""), dead("2", "y", "why")},
	} {
		report := &Report{}
		checkDeadLetters(report, unreadable, letters)
		require.Contains(t, fmt.Sprint(report.Faults), says)
	}
}
