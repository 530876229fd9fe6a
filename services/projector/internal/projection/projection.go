// Package projection turns events into the rows of the read model.
//
// It is pure: an event and where it stands in the log go in, columns come out; no I/O, no clock, and the same
// event always gives the same row. It may import the standard library and schemas; internal/eventlog fills its
// blocks and internal/clickhouse writes them.
//
// A row depends on its own event alone, never on rows before it: an event carries the state after it and the
// (sku, version) that orders it. That is what lets a block be written again, in part or out of order.
package projection

import (
	"fmt"
	"time"

	"github.com/lotline/lotline/schemas"
)

// Names of the tables that the projector writes; views derive every other table from Events.
const (
	TableEvents   = "events"
	TableOutcomes = "outcomes"
)

// Range of days that the read model holds as an eta, both inclusive.
const (
	minETA = "1970-01-01"
	maxETA = "2299-12-31"
)

// Range of event times, in Unix milliseconds: the order key's hour is a 32-bit time.
const (
	minTimeMs = 0
	maxTimeMs = 1<<32*1000 - 1
)

// Record is an event with what its Kafka record says about it.
type Record struct {
	Event schemas.Event
	// ID is the event's ce_id, the same whenever the event is published again.
	ID string
	// Time is the event's ce_time: when its command was appended to the command log. Part of the order key, so
	// it must be the same whenever the event is published again.
	Time time.Time
	// Partition and Offset are the record's place in the events topic.
	Partition int32
	Offset    int64
}

// check says why r cannot become a row, or returns nil.
func check(r *Record) error {
	e := &r.Event
	if e.Type < schemas.EventBatchCreated || e.Type > schemas.EventCommandRejected {
		return fmt.Errorf("event type %d is not one that this projector knows", e.Type)
	}
	if r.ID == "" {
		return fmt.Errorf("the event has no id (ce_id)")
	}
	if ms := r.Time.UnixMilli(); r.Time.IsZero() || ms < minTimeMs || ms > maxTimeMs {
		return fmt.Errorf("the event's time (ce_time) %v is not between 1970 and 2106", r.Time)
	}
	if e.Type.ChangesState() && e.Version == 0 {
		return fmt.Errorf("the event changes sku %q but has no version", e.SKU)
	}
	return nil
}

// parseETA returns the day as midnight UTC, or nil for "".
func parseETA(eta string) (*time.Time, error) {
	if eta == "" {
		return nil, nil
	}
	day, err := time.Parse(time.DateOnly, eta)
	if err != nil {
		return nil, fmt.Errorf("eta %q is not a date of the form YYYY-MM-DD: %w", eta, err)
	}
	if eta < minETA || eta > maxETA {
		return nil, fmt.Errorf("eta %q is not between %s and %s", eta, minETA, maxETA)
	}
	return &day, nil
}
