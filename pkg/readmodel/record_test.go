package readmodel

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
)

func sound() Record {
	return Record{
		Event: schemas.Event{Type: schemas.EventAllocated, SKU: "LAMP", Version: 7, OrderID: "o1", Qty: 3, BatchRef: "b1", ETA: "2031-05-06"},
		ID:    "topic/3/41/0", Time: time.Date(2031, 1, 2, 12, 0, 0, 7e6, time.UTC), Partition: 5, Offset: 99,
	}
}

func TestETALimits(t *testing.T) {
	for eta, ok := range map[string]bool{
		"": true, "1970-01-01": true, "2299-12-31": true, "2028-02-29": true,
		"1969-12-31": false, "2300-01-01": false, "2027-02-29": false, "2027-1-1": false, "soon": false,
	} {
		r := sound()
		r.Event.ETA = eta
		require.Equal(t, ok, r.Check() == nil, eta)
	}
}

func TestCheckSaysWhatCannotBeKept(t *testing.T) {
	for want, spoil := range map[string]func(*Record){
		"has no version":         func(r *Record) { r.Event.Version = 0 },
		"larger than any":        func(r *Record) { r.Event.Version = 1 << 63 },
		"has no id":              func(r *Record) { r.ID = "" },
		"is not between":         func(r *Record) { r.Time = time.Time{} },
		"between 1970 and 2106":  func(r *Record) { r.Time = time.Date(2106, 2, 7, 6, 28, 16, 0, time.UTC) },
		"is not one that":        func(r *Record) { r.Event.Type = schemas.EventCommandRejected + 1 },
		"event type 0":           func(r *Record) { r.Event.Type = 0 },
		"of the form YYYY-MM-DD": func(r *Record) { r.Event.ETA = "x" },
	} {
		r := sound()
		require.NoError(t, r.Check())
		spoil(&r)
		require.ErrorContains(t, r.Check(), want)
	}
}
