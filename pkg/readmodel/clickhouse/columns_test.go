package clickhouse

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

var noon = time.Date(2031, 1, 2, 12, 0, 0, 7e6, time.UTC)

func record(e schemas.Event) readmodel.Record {
	return readmodel.Record{Event: e, ID: "topic/3/41/0", Time: noon, Partition: 5, Offset: 99}
}

// row returns row i of columns, by column name.
func row(columns []column, i int) map[string]any {
	values := make(map[string]any, len(columns))
	for _, c := range columns {
		values[c.name] = reflect.ValueOf(c.values).Index(i).Interface()
	}
	return values
}

func allocated() schemas.Event {
	return schemas.Event{
		Type: schemas.EventAllocated, SKU: "LAMP", Version: 7, CommandID: "c1", CommandSource: "/shop", Seq: 1, Last: true,
		OrderID: "o1", Qty: 3, BatchRef: "b1", BatchQty: 100, BatchAvailable: 40, ETA: "2031-05-06", Available: 5_000_000_000,
	}
}

// rows fills a block, and returns the rows of both tables.
func rows(t *testing.T, b *block, records ...readmodel.Record) (events, outcomes []map[string]any) {
	t.Helper()
	require.NoError(t, b.fill(records))
	for i := range b.events.sku {
		events = append(events, row(b.events.columns(), i))
	}
	for i := range b.outcomes.commandID {
		outcomes = append(outcomes, row(b.outcomes.columns(), i))
	}
	for _, table := range [][]column{b.events.columns(), b.outcomes.columns()} {
		for _, c := range table {
			require.Equal(t, reflect.ValueOf(table[0].values).Len(), reflect.ValueOf(c.values).Len(), c.name)
		}
	}
	return events, outcomes
}

func TestStateChangeBecomesRowOfEvents(t *testing.T) {
	events, _ := rows(t, new(block), record(allocated()))
	eta := time.Date(2031, 5, 6, 0, 0, 0, 0, time.UTC)
	require.Equal(t, []map[string]any{{
		"sku": "LAMP", "version": uint64(7), "type": "Allocated", "event_time": noon,
		"commandid": "c1", "commandsource": "/shop", "seq": int32(1), "last": true, "orderid": "o1", "qty": int32(3),
		"batchref": "b1", "batch_qty": int32(100), "batch_available": int32(40), "eta": &eta,
		"available": int64(5_000_000_000), "reason": "", "kpartition": int32(5), "koffset": int64(99),
	}}, events)
}

func TestLastEventBecomesOutcomeToo(t *testing.T) {
	first := allocated()
	first.Last = false
	events, outcomes := rows(t, new(block), record(first), record(allocated()))
	require.Len(t, events, 2)
	require.Equal(t, []map[string]any{{
		"commandid": "c1", "commandsource": "/shop", "event_id": "topic/3/41/0", "type": "Allocated", "sku": "LAMP",
		"version": uint64(7), "orderid": "o1", "batchref": "b1", "reason": "", "message": "", "event_time": noon,
		"kpartition": int32(5), "koffset": int64(99),
	}}, outcomes, "an event with more to come is no outcome")
}

func TestOutcomeThatChangesNothingIsNoEvent(t *testing.T) {
	for _, kind := range []schemas.EventType{schemas.EventCommandIgnored, schemas.EventCommandRejected} {
		events, outcomes := rows(t, new(block),
			record(schemas.Event{Type: kind, SKU: "NOPE", Last: true, Reason: "invalid_sku", Message: "Invalid sku NOPE"}))
		require.Empty(t, events)
		require.Len(t, outcomes, 1)
		require.Equal(t, uint64(0), outcomes[0]["version"])
		require.Equal(t, "Invalid sku NOPE", outcomes[0]["message"])
	}
}

func TestNoETAIsNull(t *testing.T) {
	e := allocated()
	e.ETA = ""
	events, _ := rows(t, new(block), record(e))
	require.Nil(t, events[0]["eta"])
}

func TestFillingAgainKeepsNothing(t *testing.T) {
	var b block
	for round := range 3 {
		var records []readmodel.Record
		for range 10 + round {
			records = append(records, record(allocated()))
		}
		events, outcomes := rows(t, &b, records...)
		require.Equal(t, []int{10 + round, 10 + round}, []int{len(events), len(outcomes)})
		events, outcomes = rows(t, &b)
		require.Empty(t, append(events, outcomes...))
	}
}
