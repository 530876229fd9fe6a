package commandlog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// entry is a command at an offset that was decided into events.
func entry(encoding schemas.Encoding, offset int64, trace string, events ...schemas.Event) outbox.Entry {
	e := outbox.Entry{Offset: offset, Time: time.UnixMilli(1_900_000_000_123).UTC(), Headers: outbox.Headers{TraceParent: []byte(trace)}}
	if encoding != schemas.JSON {
		e.Headers.ContentType = []byte(encoding.ContentType())
	}
	for i, event := range events {
		event.Seq, event.Last = int32(i), i == len(events)-1
		e.Messages = append(e.Messages, outbox.Message{Type: uint8(event.Type), Key: []byte(event.SKU), Value: encoding.AppendEvent(nil, &event)})
	}
	return e
}

// inSegment is what an applier would hand over.
func inSegment(e outbox.Entry) []outbox.Segment {
	b := new(outbox.Builder)
	b.Reset(e.Offset)
	if e.DeadLetter != "" {
		b.DeadLetter(e.Offset, e.Time, e.DeadLetter)
	} else {
		b.Begin(e.Offset, e.Time, len(e.Messages), e.Headers)
		for _, m := range e.Messages {
			b.Message(m.Type, string(m.Key), m.Value)
		}
	}
	return []outbox.Segment{b.Segment(e.Offset + 1)}
}

// TestWhatDiffersFromThePast: what changed a SKU has to be the same in every field, however it is written; what changed
// nothing has to change nothing again; and where not all of a command's events are left, nothing is held against it.
func TestWhatDiffersFromThePast(t *testing.T) {
	const traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	moved := []schemas.Event{
		{Type: schemas.EventDeallocated, SKU: "S", Version: 7, CommandID: "c", OrderID: "o1", Qty: 2, BatchRef: "b1", BatchQty: 9, BatchAvailable: 2, Available: 5, Reason: "batch_quantity_changed"},
		{Type: schemas.EventAllocated, SKU: "S", Version: 8, CommandID: "c", OrderID: "o1", Qty: 2, BatchRef: "b2", BatchQty: 5, BatchAvailable: 1, Available: 3},
	}
	elsewhere := []schemas.Event{moved[0], moved[1]}
	elsewhere[1].BatchRef = "b3"
	rejected := schemas.Event{Type: schemas.EventCommandRejected, SKU: "S", Version: 7, CommandID: "c", OrderID: "o1", Reason: "not_allocated", Message: "It is not"}
	ignored := schemas.Event{Type: schemas.EventCommandIgnored, SKU: "S", Version: 8, CommandID: "c", OrderID: "o1", Reason: "duplicate_line", Message: "It is there"}
	unreadable := outbox.Entry{Offset: 5, DeadLetter: "not JSON"}
	for name, c := range map[string]struct {
		then    outbox.Entry
		left    int // the last of its events that retention has left; 0 = all
		now     outbox.Entry
		differs bool
	}{
		"the same":                          {entry(schemas.JSON, 5, "", moved...), 0, entry(schemas.JSON, 5, "", moved...), false},
		"another encoding, another trace":   {entry(schemas.Protobuf, 5, "", moved...), 0, entry(schemas.JSON, 5, traced, moved...), false},
		"another batch":                     {entry(schemas.JSON, 5, "", moved...), 0, entry(schemas.JSON, 5, "", elsewhere...), true},
		"another batch, in another form":    {entry(schemas.JSON, 5, "", moved...), 0, entry(schemas.Protobuf, 5, "", elsewhere...), true},
		"fewer events":                      {entry(schemas.JSON, 5, "", moved...), 0, entry(schemas.JSON, 5, "", moved[0]), true},
		"more events":                       {entry(schemas.JSON, 5, "", moved[0]), 0, entry(schemas.JSON, 5, "", moved...), true},
		"its first event is deleted":        {entry(schemas.JSON, 5, "", moved...), 1, entry(schemas.JSON, 5, "", elsewhere...), false},
		"a change that was none":            {entry(schemas.JSON, 5, "", rejected), 0, entry(schemas.JSON, 5, "", moved...), true},
		"no change that was one":            {entry(schemas.JSON, 5, "", moved...), 0, entry(schemas.JSON, 5, "", rejected), true},
		"changes nothing for another cause": {entry(schemas.JSON, 5, "", rejected), 0, entry(schemas.JSON, 5, "", ignored), false},
		"a dead letter by now":              {entry(schemas.JSON, 5, "", moved...), 0, unreadable, true},
		"a dead letter then":                {unreadable, 0, entry(schemas.JSON, 5, "", moved...), false},
	} {
		t.Run(name, func(t *testing.T) {
			past := newPast(4, 9)
			records := EventRecords("events", "topic", 0, c.then)
			if c.left > 0 {
				records = records[len(records)-c.left:]
			}
			whole := false
			for i := range records { // as several partitions of the topic may bring them
				whole = past.see(5, records[len(records)-1-i])
			}
			require.Equal(t, len(c.then.Messages) > 0 && c.left == 0, whole)
			offset, differs, err := past.Differs(inSegment(c.now))
			require.NoError(t, err)
			require.Equal(t, c.differs, differs)
			if differs {
				require.EqualValues(t, 5, offset)
			}
			if whole {
				require.Equal(t, 1, past.compared(4, 9))
			}
		})
	}
}

// What was not looked for is not held against anything: offsets outside of what was read, and no past at all.
func TestAPastCoversWhatWasRead(t *testing.T) {
	var none *Past
	require.False(t, none.covers(0))
	require.Zero(t, none.compared(0, 9))
	past := newPast(4, 9)
	for offset, covered := range map[int64]bool{3: false, 4: true, 8: true, 9: false} {
		require.Equal(t, covered, past.covers(offset), "%d", offset)
	}
	require.False(t, newPast(0, 2*pastMax).covers(pastMax), "of more than can be remembered the first ones are")
}

// The group's offsets were gone once, and the events appeared again, with the same ids. What is decided otherwise after a later
// restore differs from them all the same.
func TestWhatAppearedTwiceIsComparedAll(t *testing.T) {
	then := entry(schemas.JSON, 5, "", schemas.Event{Type: schemas.EventAllocated, SKU: "S", Version: 8, CommandID: "c", OrderID: "o1", Qty: 2, BatchRef: "b2", BatchQty: 5, BatchAvailable: 1, Available: 3})
	now := entry(schemas.JSON, 5, "", schemas.Event{Type: schemas.EventAllocated, SKU: "S", Version: 8, CommandID: "c", OrderID: "o1", Qty: 2, BatchRef: "b3", BatchQty: 5, BatchAvailable: 1, Available: 3})
	past := newPast(4, 9)
	for range 2 {
		for _, r := range EventRecords("events", "topic", 0, then) {
			past.see(5, r)
		}
	}
	_, differs, err := past.Differs(inSegment(now))
	require.NoError(t, err)
	require.True(t, differs)
	_, differs, err = past.Differs(inSegment(then))
	require.NoError(t, err)
	require.False(t, differs)
}
