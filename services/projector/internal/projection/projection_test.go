package projection

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
)

var noon = time.Date(2031, 1, 2, 12, 0, 0, 7e6, time.UTC)

func record(e schemas.Event) *Record {
	return &Record{Event: e, ID: "topic/3/41/0", Time: noon, Partition: 5, Offset: 99}
}

// row returns row i of columns, by column name.
func row(columns []Column, i int) map[string]any {
	values := make(map[string]any, len(columns))
	for _, c := range columns {
		values[c.Name] = reflect.ValueOf(c.Values).Index(i).Interface()
	}
	return values
}

func allocated() schemas.Event {
	return schemas.Event{
		Type: schemas.EventAllocated, SKU: "LAMP", Version: 7, CommandID: "c1", CommandSource: "/shop", Seq: 1, Last: true,
		OrderID: "o1", Qty: 3, BatchRef: "b1", BatchQty: 100, BatchAvailable: 40, ETA: "2031-05-06", Available: 5_000_000_000,
	}
}

func TestStateChangeBecomesRowOfEvents(t *testing.T) {
	var b Block
	require.NoError(t, b.Add(record(allocated())))
	columns, rows := b.Events()
	require.Equal(t, 1, rows)
	eta := time.Date(2031, 5, 6, 0, 0, 0, 0, time.UTC)
	require.Equal(t, map[string]any{
		"sku": "LAMP", "version": uint64(7), "type": "Allocated", "event_time": noon,
		"commandid": "c1", "commandsource": "/shop", "seq": int32(1), "last": true, "orderid": "o1", "qty": int32(3),
		"batchref": "b1", "batch_qty": int32(100), "batch_available": int32(40), "eta": &eta,
		"available": int64(5_000_000_000), "reason": "", "kpartition": int32(5), "koffset": int64(99),
	}, row(columns, 0))
}

func TestLastEventBecomesOutcomeToo(t *testing.T) {
	var b Block
	e := allocated()
	e.Last = false
	require.NoError(t, b.Add(record(e)))
	_, rows := b.Outcomes()
	require.Zero(t, rows, "an event with more to come is no outcome")

	require.NoError(t, b.Add(record(allocated())))
	columns, rows := b.Outcomes()
	require.Equal(t, 1, rows)
	require.Equal(t, map[string]any{
		"commandid": "c1", "commandsource": "/shop", "event_id": "topic/3/41/0", "type": "Allocated", "sku": "LAMP",
		"version": uint64(7), "orderid": "o1", "batchref": "b1", "reason": "", "message": "", "event_time": noon,
		"kpartition": int32(5), "koffset": int64(99),
	}, row(columns, 0))
}

func TestOutcomeThatChangesNothingIsNoEvent(t *testing.T) {
	for _, kind := range []schemas.EventType{schemas.EventCommandIgnored, schemas.EventCommandRejected} {
		var b Block
		require.NoError(t, b.Add(record(schemas.Event{Type: kind, SKU: "NOPE", Last: true, Reason: "invalid_sku", Message: "Invalid sku NOPE"})))
		_, events := b.Events()
		columns, outcomes := b.Outcomes()
		require.Equal(t, []int{0, 1}, []int{events, outcomes})
		require.Equal(t, uint64(0), row(columns, 0)["version"])
		require.Equal(t, "Invalid sku NOPE", row(columns, 0)["message"])
	}
}

func TestNoETAIsNull(t *testing.T) {
	var b Block
	e := allocated()
	e.ETA = ""
	require.NoError(t, b.Add(record(e)))
	columns, _ := b.Events()
	require.Nil(t, row(columns, 0)["eta"])
}

func TestETALimits(t *testing.T) {
	for eta, ok := range map[string]bool{
		"1970-01-01": true, "2299-12-31": true, "2028-02-29": true,
		"1969-12-31": false, "2300-01-01": false, "2027-02-29": false, "2027-1-1": false, "soon": false,
	} {
		var b Block
		e := allocated()
		e.ETA = eta
		require.Equal(t, ok, b.Add(record(e)) == nil, eta)
	}
}

func TestUnprojectableRecordLeavesBlockAsItWas(t *testing.T) {
	change := func(f func(*Record)) *Record {
		r := record(allocated())
		f(r)
		return r
	}
	var b Block
	require.NoError(t, b.Add(record(allocated())))
	for want, r := range map[string]*Record{
		"has no version":         change(func(r *Record) { r.Event.Version = 0 }),
		"has no id":              change(func(r *Record) { r.ID = "" }),
		"is not between":         change(func(r *Record) { r.Time = time.Time{} }),
		"between 1970 and 2106":  change(func(r *Record) { r.Time = time.Date(2106, 2, 7, 6, 28, 16, 0, time.UTC) }),
		"is not one that":        change(func(r *Record) { r.Event.Type = schemas.EventCommandRejected + 1 }),
		"event type 0":           change(func(r *Record) { r.Event.Type = 0 }),
		"of the form YYYY-MM-DD": change(func(r *Record) { r.Event.ETA = "x" }),
	} {
		require.ErrorContains(t, b.Add(r), want)
	}
	_, events := b.Events()
	_, outcomes := b.Outcomes()
	require.Equal(t, []int{1, 1, 1}, []int{events, outcomes, b.Len()})
}

func TestColumnsStayEvenAndResetEmpties(t *testing.T) {
	var b Block
	for round := range 3 {
		for range 10 + round {
			require.NoError(t, b.Add(record(allocated())))
		}
		for _, table := range []func() ([]Column, int){b.Events, b.Outcomes} {
			columns, rows := table()
			require.Equal(t, 10+round, rows)
			for _, c := range columns {
				require.Equal(t, rows, reflect.ValueOf(c.Values).Len(), c.Name)
			}
		}
		b.Reset()
		require.Zero(t, b.Len())
		columns, rows := b.Events()
		require.Zero(t, rows)
		for _, c := range columns {
			require.Zero(t, reflect.ValueOf(c.Values).Len(), c.Name)
		}
	}
}
