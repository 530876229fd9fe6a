// Package readmodeltest makes up the events of an allocator, with what a read model must say after them.
//
// Only tests import it: those of the stores, of the projector and of the gateway. It may import readmodel and schemas.
package readmodeltest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// History makes up what an allocator would publish, and keeps the state that the read model must come to.
type History struct {
	// Records are the events in order. Whoever publishes them sets each one's Partition and Offset to where it went.
	Records []readmodel.Record

	random  *rand.Rand
	lines   map[string]string // orderid|sku -> row of order_lines; absent: not allocated
	batches map[string]*batch // sku|ref
	skus    map[string]*sku
	byRef   map[string]bool // ref|sku
}

type batch struct {
	ref, eta       string
	qty, available int32
	version        uint64
	changed        time.Time
}

type sku struct {
	name      string
	version   uint64
	available int64
	changed   time.Time
	refs      []string
	open      map[string]line // orderid -> allocated line
}

type line struct {
	qty int32
	ref string
}

// New returns a history of at least so many events; the same seed gives the same one.
func New(seed uint64, events int) *History {
	h := &History{
		random: rand.New(rand.NewPCG(seed, 0)), lines: map[string]string{}, batches: map[string]*batch{},
		skus: map[string]*sku{}, byRef: map[string]bool{},
	}
	at := time.Date(2026, 11, 30, 21, 30, 0, 0, time.UTC)
	for len(h.Records) < events {
		at = at.Add(time.Duration(h.random.IntN(4000)) * time.Millisecond) // over hours, and over a month's end
		h.step(at)
	}
	return h
}

func (h *History) step(at time.Time) {
	name := fmt.Sprintf("SKU-%02d", h.random.IntN(20))
	s := h.skus[name]
	if s == nil {
		s = &sku{name: name, open: map[string]line{}}
	}
	e := schemas.Event{SKU: name, CommandID: fmt.Sprintf("c%d", len(h.Records)), CommandSource: "/test", Last: h.random.IntN(5) > 0}
	switch pick := h.random.IntN(10); {
	case len(s.refs) == 0 || pick == 0:
		h.skus[name] = s
		h.createBatch(s, &e, at)
	case pick < 6:
		h.allocate(s, &e, at)
	case pick < 8:
		h.deallocate(s, &e, at)
	case pick == 8:
		b := h.batches[name+"|"+s.refs[0]]
		b.qty, b.available, s.available = b.qty+1, b.available+1, s.available+1
		e.Type = schemas.EventBatchQuantityChanged
		h.publishBatch(s, b, &e, at)
	default:
		e.Type, e.Version, e.Last = schemas.EventCommandRejected, s.version, true
		e.Reason, e.Message = "conflicting_line", "Line is allocated with another quantity"
		h.publish(&e, at)
	}
}

func (h *History) createBatch(s *sku, e *schemas.Event, at time.Time) {
	b := &batch{ref: fmt.Sprintf("b%d", len(s.refs)), qty: 10 + int32(h.random.IntN(90))}
	b.available = b.qty
	if h.random.IntN(2) == 0 {
		b.eta = fmt.Sprintf("%d-02-28", 1970+h.random.IntN(330))
	}
	s.refs = append(s.refs, b.ref)
	s.available += int64(b.qty)
	h.batches[s.name+"|"+b.ref] = b
	h.byRef[b.ref+"|"+s.name] = true
	e.Type = schemas.EventBatchCreated
	h.publishBatch(s, b, e, at)
}

func (h *History) allocate(s *sku, e *schemas.Event, at time.Time) {
	e.OrderID, e.Qty = fmt.Sprintf("o%d", h.random.IntN(len(h.Records)+1)), 1+int32(h.random.IntN(9))
	if _, taken := s.open[e.OrderID]; taken {
		e.Type, e.Version, e.Last, e.Reason = schemas.EventCommandIgnored, s.version, true, "duplicate_line"
		h.publish(e, at)
		return
	}
	for _, ref := range s.refs {
		if b := h.batches[s.name+"|"+ref]; b.available >= e.Qty {
			b.available, s.available = b.available-e.Qty, s.available-int64(e.Qty)
			s.open[e.OrderID] = line{e.Qty, ref}
			e.Type = schemas.EventAllocated
			h.lines[e.OrderID+"|"+s.name] = fmt.Sprintf("%s|%s|%d|%s|%d|%s|%s|%s", e.OrderID, s.name, s.version+1, ref, e.Qty, b.eta, e.CommandID, stamp(at))
			h.publishBatch(s, b, e, at)
			return
		}
	}
	e.Type = schemas.EventOutOfStock
	h.publishSKU(s, e, at)
}

func (h *History) deallocate(s *sku, e *schemas.Event, at time.Time) {
	if len(s.open) == 0 {
		return
	}
	orders := slices.Sorted(maps.Keys(s.open))
	e.OrderID = orders[h.random.IntN(len(orders))]
	gone := s.open[e.OrderID]
	delete(s.open, e.OrderID)
	delete(h.lines, e.OrderID+"|"+s.name)
	b := h.batches[s.name+"|"+gone.ref]
	b.available, s.available = b.available+gone.qty, s.available+int64(gone.qty)
	e.Type, e.Qty, e.Reason = schemas.EventDeallocated, gone.qty, "requested"
	h.publishBatch(s, b, e, at)
}

func (h *History) publishBatch(s *sku, b *batch, e *schemas.Event, at time.Time) {
	b.version, b.changed = s.version+1, at
	e.BatchRef, e.BatchQty, e.BatchAvailable, e.ETA = b.ref, b.qty, b.available, b.eta
	h.publishSKU(s, e, at)
}

func (h *History) publishSKU(s *sku, e *schemas.Event, at time.Time) {
	s.version++
	s.changed = at
	e.Version, e.Available = s.version, s.available
	h.publish(e, at)
}

func (h *History) publish(e *schemas.Event, at time.Time) {
	n := len(h.Records)
	h.Records = append(h.Records, readmodel.Record{
		Event: *e, ID: fmt.Sprintf("topic/0/%d/0", n), Time: at, Partition: int32(n % 3), Offset: int64(n / 3),
	})
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// Tables returns the queries for the read model's content, and the rows that each must answer, sorted.
func (h *History) Tables() map[string][]string {
	var stock, skus, events, outcomes []string
	for key, b := range h.batches {
		name, _, _ := strings.Cut(key, "|")
		stock = append(stock, fmt.Sprintf("%s|%s|%d|%d|%d|%s|%s", name, b.ref, b.version, b.qty, b.available, b.eta, stamp(b.changed)))
	}
	for _, s := range h.skus {
		skus = append(skus, fmt.Sprintf("%s|%d|%d|%s", s.name, s.version, s.available, stamp(s.changed)))
	}
	for _, r := range h.Records {
		e := r.Event
		if e.Type.ChangesState() {
			events = append(events, fmt.Sprintf("%s|%d|%v|%s|%s|%s|%d|%t|%s|%d|%s|%d|%d|%s|%d|%s|%d|%d", e.SKU, e.Version, e.Type, stamp(r.Time),
				e.CommandID, e.CommandSource, e.Seq, e.Last, e.OrderID, e.Qty, e.BatchRef, e.BatchQty, e.BatchAvailable, e.ETA, e.Available,
				e.Reason, r.Partition, r.Offset))
		}
		if e.Last {
			outcomes = append(outcomes, fmt.Sprintf("%s|%s|%s|%v|%s|%d|%s|%s|%s|%s|%s|%d|%d", e.CommandID, e.CommandSource, r.ID, e.Type, e.SKU, e.Version,
				e.OrderID, e.BatchRef, e.Reason, e.Message, stamp(r.Time), r.Partition, r.Offset))
		}
	}
	query := func(table string, columns ...string) string {
		return "SELECT concat(" + strings.Join(columns, ", '|', ") + ") AS line FROM " + table + " FINAL"
	}
	const eta = "ifNull(toString(eta), '')"
	expected := map[string][]string{
		query("order_lines", "orderid", "sku", "version", "batchref", "qty", eta, "commandid", "event_time"): slices.Collect(maps.Values(h.lines)),
		query("stock", "sku", "ref", "version", "qty", "available", eta, "event_time"):                       stock,
		query("skus", "sku", "version", "available", "event_time"):                                           skus,
		query("batches_by_ref", "ref", "sku"):                                                                slices.Collect(maps.Keys(h.byRef)),
		query("events", "sku", "version", "type", "event_time", "commandid", "commandsource", "seq", "last", "orderid", "qty", "batchref",
			"batch_qty", "batch_available", eta, "available", "reason", "kpartition", "koffset"): events,
		query("outcomes", "commandid", "commandsource", "event_id", "type", "sku", "version", "orderid", "batchref", "reason", "message",
			"event_time", "kpartition", "koffset"): outcomes,
	}
	for _, rows := range expected {
		slices.Sort(rows)
	}
	return expected
}
