package allocation

import (
	"fmt"
	"time"
)

// record appends an event that changes the product, at its next version.
func (p *Product) record(dst []Event, e Event) []Event {
	p.Version++
	e.SKU, e.Version, e.Available = p.SKU, p.Version, p.Available
	return append(dst, e)
}

func ofBatch(kind EventKind, b *batch) Event {
	return Event{Kind: kind, BatchRef: b.Ref, BatchQty: b.Qty, BatchAvailable: b.Available, ETA: b.ETA}
}

func ofLine(kind EventKind, l *line, b *batch) Event {
	e := ofBatch(kind, b)
	e.OrderID, e.Qty = l.OrderID, l.Qty
	return e
}

func (p *Product) ignore(c *Command, why Reason, message string, dst []Event) []Event {
	return p.refuse(CommandIgnored, c, why, message, dst)
}

func (p *Product) reject(c *Command, why Reason, message string, dst []Event) []Event {
	return p.refuse(CommandRejected, c, why, message, dst)
}

func (p *Product) rejectOtherBody(c *Command, first Position, dst []Event) []Event {
	return p.reject(c, ReasonConflictingCommand, fmt.Sprintf(
		"The command's id was used for another one, at partition %d, offset %d", first.Partition, first.Offset), dst)
}

func (p *Product) refuse(kind EventKind, c *Command, why Reason, message string, dst []Event) []Event {
	return append(dst, Event{
		Kind: kind, SKU: p.SKU, Version: p.Version, OrderID: c.OrderID, BatchRef: c.Ref, Reason: why, Message: message,
	})
}

// remember keeps a command that was decided, so that a repeat is known as one. Of
// two commands with one id the later is kept, whether or not the earlier is known.
func (p *Product) remember(c *Command) {
	if c.ID.Given() {
		p.chunk.see(&seen{Seen: Seen{Command: c.ID, Body: c.body(), Position: c.Position, Time: c.Time}, changed: true})
	}
}

// rememberLine keeps the Allocate command of a line that is left without a batch,
// unless a repeat would come too late anyway.
func (p *Product) rememberLine(l *line, now time.Time) {
	if p.remembered(l.CommandTime, now) {
		p.remember(&Command{
			Kind: Allocate, SKU: p.SKU, OrderID: l.OrderID, Qty: l.Qty, ID: l.Command, Position: l.Position, Time: l.CommandTime,
		})
	}
}

// remembered reports whether the id of a command of the past still counts now.
func (p *Product) remembered(past, now time.Time) bool {
	return now.Sub(past) < p.limits.CommandIDRetention
}
