package clickhouse

import (
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

// Names of the tables that are written to; views derive every other table from tableEvents.
const (
	tableEvents   = "events"
	tableOutcomes = "outcomes"
)

// column is one column of a table: its name and a slice with one value for each row.
type column struct {
	name   string
	values any
}

// block is the rows of a group of records, by column. The zero value is ready for use; reset keeps its memory.
type block struct {
	events   eventColumns
	outcomes outcomeColumns
	etas     map[string]*time.Time // each distinct eta is parsed once a block
}

// fill makes b the rows of records: one of events for each that changes a SKU's state, one of outcomes for each that is
// its command's last. An error says why a record has no row; it does not happen to one that has passed its Check.
func (b *block) fill(records []readmodel.Record) error {
	b.events.reset()
	b.outcomes.reset()
	clear(b.etas)
	for i := range records {
		r := &records[i]
		if r.Event.Type.ChangesState() {
			eta, err := b.eta(r.Event.ETA)
			if err != nil {
				return err
			}
			b.events.add(r, eta)
		}
		if r.Event.Last {
			b.outcomes.add(r)
		}
	}
	return nil
}

// eta returns the day as midnight UTC, or nil for "".
func (b *block) eta(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	if day, ok := b.etas[s]; ok {
		return day, nil
	}
	day, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return nil, err
	}
	if b.etas == nil {
		b.etas = make(map[string]*time.Time)
	}
	b.etas[s] = &day
	return &day, nil
}
