package readmodel

import (
	"fmt"
	"math"
	"time"

	"github.com/lotline/lotline/schemas"
)

// Range of days that a read model holds as an eta, both inclusive.
const (
	minETA = "1970-01-01"
	maxETA = "2299-12-31"
)

// Range of event times, in Unix milliseconds: ClickHouse orders events by their hour, a 32-bit time.
const (
	minTimeMs = 0
	maxTimeMs = 1<<32*1000 - 1
)

// Record is an event with what its Kafka record says about it.
type Record struct {
	Event schemas.Event
	// ID is the event's ce_id, the same whenever the event is published again.
	ID string
	// Time is the event's ce_time: when its command was appended to the command log. A store may have it in a key,
	// so it must be the same whenever the event is published again.
	Time time.Time
	// Partition and Offset are the record's place in the events topic.
	Partition int32
	Offset    int64
}

// Check says why no read model can hold r, or returns nil.
func (r *Record) Check() error {
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
	if e.Version > math.MaxInt64 {
		return fmt.Errorf("the event's version %d is larger than any that is given", e.Version)
	}
	if e.ETA == "" {
		return nil
	}
	if _, err := time.Parse(time.DateOnly, e.ETA); err != nil {
		return fmt.Errorf("eta %q is not a date of the form YYYY-MM-DD: %w", e.ETA, err)
	}
	if e.ETA < minETA || e.ETA > maxETA {
		return fmt.Errorf("eta %q is not between %s and %s", e.ETA, minETA, maxETA)
	}
	return nil
}
