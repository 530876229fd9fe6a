package allocation

import (
	"slices"
	"time"
)

// model says what the rules are in the plainest way: every row of the SKU in
// memory, every search a linear scan, nothing loaded, cached or forgotten. It
// gives no messages.
type model struct {
	limits  Limits
	sku     string
	version uint64
	batches []Batch // in the order of their creation
	lines   []Line
	ids     []Command // those that count as seen, the last to be kept last
	events  []Event
}

func (m *model) decide(c Command) []Event {
	m.events = nil
	m.apply(c)
	for i := range m.events {
		m.events[i].SKU, m.events[i].Seq = m.sku, int32(i)
	}
	m.events[len(m.events)-1].Last = true
	return m.events
}

func (m *model) apply(c Command) {
	for _, first := range slices.Backward(m.ids) {
		if c.ID.ID == "" || first.ID != c.ID || c.Time.Sub(first.Time) >= m.limits.CommandIDRetention {
			continue
		}
		if sameRequest(first, c) {
			m.nothing(CommandIgnored, c, ReasonDuplicateCommand, c.Ref)
		} else {
			m.nothing(CommandRejected, c, ReasonConflictingCommand, c.Ref)
		}
		return
	}
	least := int32(1)
	if c.Kind == ChangeBatchQuantity {
		least = 0
	}
	switch {
	case c.Kind != Deallocate && (c.Qty < least || c.Qty > 1e9):
		m.nothing(CommandRejected, c, ReasonQtyOutOfRange, c.Ref)
	case c.ETA != "" && (c.ETA < "1970-01-01" || c.ETA > "2299-12-31"):
		m.nothing(CommandRejected, c, ReasonETAOutOfRange, c.Ref)
	case c.Kind != CreateBatch && len(m.batches) == 0:
		m.nothing(CommandRejected, c, ReasonInvalidSKU, c.Ref)
	case c.Kind == CreateBatch:
		m.create(c)
	case c.Kind == Allocate:
		m.allocate(c)
	case c.Kind == Deallocate:
		m.deallocate(c)
	case c.Kind == ChangeBatchQuantity:
		m.change(c)
	}
}

func (m *model) create(c Command) {
	if i := m.batch(c.Ref); i < 0 {
		m.batches = append(m.batches, Batch{
			Ref: c.Ref, ETA: c.ETA, CreatedVersion: m.version + 1, CreatedQty: c.Qty, Qty: c.Qty, Available: c.Qty,
		})
		m.something(Event{Kind: BatchCreated}, c.Ref)
	} else if m.batches[i].CreatedQty == c.Qty && m.batches[i].ETA == c.ETA {
		m.nothing(CommandIgnored, c, ReasonDuplicateBatch, c.Ref)
	} else {
		m.nothing(CommandRejected, c, ReasonConflictingBatch, c.Ref)
	}
}

func (m *model) allocate(c Command) {
	i := m.line(c.OrderID)
	if i < 0 || m.lines[i].BatchRef == "" {
		m.offer(Line{OrderID: c.OrderID, Qty: c.Qty, Command: c.ID, Position: c.Position, CommandTime: c.Time}, c.Time)
		return
	}
	switch l := m.lines[i]; {
	case l.Qty == c.Qty:
		m.nothing(CommandIgnored, c, ReasonDuplicateLine, l.BatchRef)
	case c.ID.ID != "" && l.Command == c.ID:
		m.nothing(CommandRejected, c, ReasonConflictingCommand, l.BatchRef)
	default:
		m.nothing(CommandRejected, c, ReasonConflictingLine, l.BatchRef)
	}
}

func (m *model) deallocate(c Command) {
	i := m.line(c.OrderID)
	if i < 0 || m.lines[i].BatchRef == "" {
		m.nothing(CommandRejected, c, ReasonNotAllocated, "")
		return
	}
	if c.ID.ID != "" && m.lines[i].Command == c.ID {
		m.nothing(CommandRejected, c, ReasonConflictingCommand, "")
		return
	}
	m.release(i, ReasonRequested)
	m.left(m.lines[i], c.Time)
	m.keep(c)
}

func (m *model) change(c Command) {
	i := m.batch(c.Ref)
	if i < 0 {
		m.nothing(CommandRejected, c, ReasonUnknownBatch, c.Ref)
		return
	}
	if m.batches[i].Qty == c.Qty {
		m.nothing(CommandIgnored, c, ReasonUnchangedQuantity, c.Ref)
		return
	}
	var leaving []int
	for kept := m.allocated(c.Ref); kept > c.Qty; {
		newest := -1
		for j, l := range m.lines {
			if l.BatchRef == c.Ref && !slices.Contains(leaving, j) &&
				(newest < 0 || l.AllocatedVersion > m.lines[newest].AllocatedVersion) {
				newest = j
			}
		}
		leaving = append(leaving, newest)
		kept -= m.lines[newest].Qty
	}
	if len(leaving) > m.limits.CutLinesMax {
		m.nothing(CommandRejected, c, ReasonCutTooLarge, c.Ref)
		return
	}
	for _, j := range leaving {
		m.release(j, ReasonBatchQuantityChanged)
	}
	m.batches[i].Qty = c.Qty
	m.something(Event{Kind: BatchQuantityChanged}, c.Ref)
	for _, j := range leaving {
		m.offer(m.lines[j], c.Time)
	}
	m.keep(c)
}

// offer gives the line to the best batch with enough, if there is one.
func (m *model) offer(l Line, now time.Time) {
	best := -1
	for i, b := range m.batches {
		if b.Qty-m.allocated(b.Ref) >= l.Qty && (best < 0 || b.ETA < m.batches[best].ETA) {
			best = i // of equal ones the first: they stand in the order of their creation
		}
	}
	if best < 0 {
		m.something(Event{Kind: OutOfStock, OrderID: l.OrderID, Qty: l.Qty}, "")
		m.left(l, now)
		return
	}
	l.BatchRef, l.AllocatedVersion = m.batches[best].Ref, m.version+1
	if i := m.line(l.OrderID); i < 0 {
		m.lines = append(m.lines, l)
	} else {
		m.lines[i] = l
	}
	m.something(Event{Kind: Allocated, OrderID: l.OrderID, Qty: l.Qty}, l.BatchRef)
}

func (m *model) release(line int, why Reason) {
	l := &m.lines[line]
	ref := l.BatchRef
	l.BatchRef = ""
	m.something(Event{Kind: Deallocated, OrderID: l.OrderID, Qty: l.Qty, Reason: why}, ref)
}

// left keeps the Allocate command of a line that is without a batch now.
func (m *model) left(l Line, now time.Time) {
	if now.Sub(l.CommandTime) < m.limits.CommandIDRetention {
		m.keep(Command{
			Kind: Allocate, SKU: m.sku, OrderID: l.OrderID, Qty: l.Qty, ID: l.Command, Position: l.Position, Time: l.CommandTime,
		})
	}
}

func (m *model) keep(c Command) {
	if c.ID.ID != "" {
		m.ids = slices.DeleteFunc(m.ids, func(old Command) bool { return old.ID == c.ID })
		m.ids = append(m.ids, c)
	}
}

func (m *model) nothing(kind EventKind, c Command, why Reason, ref string) {
	m.events = append(m.events, Event{Kind: kind, Version: m.version, OrderID: c.OrderID, BatchRef: ref, Reason: why})
}

// something records an event at the next version, with the state after it.
func (m *model) something(e Event, ref string) {
	m.version++
	for i := range m.batches {
		b := &m.batches[i]
		b.Available = b.Qty - m.allocated(b.Ref)
		e.Available += int64(b.Available)
		if b.Ref == ref {
			e.BatchRef, e.BatchQty, e.BatchAvailable, e.ETA = b.Ref, b.Qty, b.Available, b.ETA
		}
	}
	e.Version = m.version
	m.events = append(m.events, e)
}

func (m *model) allocated(ref string) (qty int32) {
	for _, l := range m.lines {
		if l.BatchRef == ref {
			qty += l.Qty
		}
	}
	return qty
}

func (m *model) batch(ref string) int {
	return slices.IndexFunc(m.batches, func(b Batch) bool { return b.Ref == ref })
}

func (m *model) line(orderID string) int {
	return slices.IndexFunc(m.lines, func(l Line) bool { return l.OrderID == orderID })
}

func sameRequest(a, b Command) bool {
	a.ID, a.Position, a.Time = b.ID, b.Position, b.Time
	return a == b
}

// table returns what is to be stored.
func (m *model) table() *table {
	t := newTable()
	t.version = m.version
	for _, b := range m.batches {
		t.batches[b.Ref] = b
		t.available += int64(b.Available)
	}
	for _, l := range m.lines {
		t.lines[l.OrderID] = l
	}
	for _, c := range m.ids {
		t.seen[c.ID] = Seen{Command: c.ID, Body: c.body(), Position: c.Position, Time: c.Time}
	}
	return t
}
