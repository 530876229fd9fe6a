package projection

import (
	"fmt"
	"time"
)

// Column is one column of a table: its name and a slice with one value for each row.
type Column struct {
	Name   string
	Values any
}

// Block is a group of rows, by column, to be written together. The zero value is ready for use. Not safe for
// concurrent use.
type Block struct {
	events   eventColumns
	outcomes outcomeColumns
	records  int
	etas     map[string]*time.Time // each distinct eta is parsed once a block
}

// Add appends the rows of r: one of events if it changes a sku's state, one of outcomes if it is its command's
// last. An error says why r cannot be projected, and leaves the block as it was.
func (b *Block) Add(r *Record) error {
	if err := check(r); err != nil {
		return err
	}
	eta, err := b.eta(r.Event.ETA)
	if err != nil {
		return err
	}
	if r.Event.Type.ChangesState() {
		b.events.add(r, eta)
	}
	if r.Event.Last {
		b.outcomes.add(r)
	}
	b.records++
	return nil
}

// Len returns the number of records added since the last Reset.
func (b *Block) Len() int { return b.records }

// Events returns the columns of the events table and their number of rows. They are valid until the next Add or Reset.
func (b *Block) Events() ([]Column, int) { return b.events.columns(), len(b.events.sku) }

// Outcomes returns the columns of the outcomes table and their number of rows. They are valid until the next Add or Reset.
func (b *Block) Outcomes() ([]Column, int) { return b.outcomes.columns(), len(b.outcomes.commandID) }

// Reset empties the block and keeps its memory.
func (b *Block) Reset() {
	b.events.reset()
	b.outcomes.reset()
	b.records = 0
	clear(b.etas)
}

func (b *Block) eta(s string) (*time.Time, error) {
	if day, ok := b.etas[s]; ok {
		return day, nil
	}
	day, err := parseETA(s)
	if err != nil {
		return nil, fmt.Errorf("project the event: %w", err)
	}
	if b.etas == nil {
		b.etas = make(map[string]*time.Time)
	}
	b.etas[s] = day
	return day, nil
}
