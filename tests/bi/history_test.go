//go:build bi

package bi

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/lotline/lotline/schemas"
)

// published is an event and when its command came.
type published struct {
	schemas.Event
	at time.Time
}

// shop makes up what an allocator would have published about a furniture shop: batches in the warehouse and on their way,
// customers by day and few by night, pallets that break, mistakes. The same seed and days give the same events.
type shop struct {
	random *rand.Rand
	skus   map[string]*stock
	events []published
	orders int
}

type stock struct {
	version uint64
	batches []*batch // in the order of preference
	lines   []line
}

type batch struct {
	ref, eta       string
	qty, available int32
}

type line struct {
	order string
	qty   int32
	batch *batch
}

// goods are the SKUs, the first asked for most.
var goods = []string{
	"RED-CHAIR", "SMALL-TABLE", "FLOOR-LAMP", "VELVET-SOFA", "WALL-SHELF", "OAK-CHAIR", "BLUE-VASE", "LARGE-RUG", "DOUBLE-BED", "TALL-MIRROR", "BAR-STOOL", "HALL-RUG",
}

func newShop(start time.Time, days int) *shop {
	s := &shop{random: rand.New(rand.NewPCG(7, 7)), skus: make(map[string]*stock)}
	for _, sku := range goods {
		s.skus[sku] = new(stock)
		s.receive(sku, start, "", 60)
	}
	for hour := range 24 * days {
		at := start.Add(time.Duration(hour) * time.Hour)
		customers := int(14 * (1 - math.Cos(float64(at.Hour())/12*math.Pi)) * (0.7 + 0.6*s.random.Float64()))
		for customer := range customers {
			s.serve(at.Add(time.Duration(customer+1) * time.Hour / time.Duration(customers+2)))
		}
		for i, sku := range goods {
			switch pick := s.random.IntN(30 + 4*i); {
			case pick == 0:
				s.receive(sku, at.Add(59*time.Minute), at.AddDate(0, 0, 1+s.random.IntN(9)).Format(time.DateOnly), 150)
			case pick == 1 && hour%5 == 0:
				s.breakPallet(sku, at.Add(58*time.Minute))
			}
		}
	}
	return s
}

// command publishes the events of one command.
func (s *shop) command(at time.Time, sku string, events ...schemas.Event) {
	id := fmt.Sprintf("past-%06d", len(s.events))
	for i, e := range events {
		e.SKU, e.CommandID, e.CommandSource, e.Seq, e.Last = sku, id, "/shop", int32(i), i == len(events)-1
		s.events = append(s.events, published{e, at})
	}
}

// of completes an event with the state after it.
func (s *stock) of(e schemas.Event, b *batch) schemas.Event {
	s.version++
	e.Version = s.version
	if b != nil {
		e.BatchRef, e.BatchQty, e.BatchAvailable, e.ETA = b.ref, b.qty, b.available, b.eta
	}
	for _, b := range s.batches {
		e.Available += int64(b.available)
	}
	return e
}

func (s *shop) receive(sku string, at time.Time, eta string, qty int32) {
	st := s.skus[sku]
	qty += s.random.Int32N(qty)
	b := &batch{ref: fmt.Sprintf("%s-%d", strings.ToLower(sku), len(st.batches)+1), eta: eta, qty: qty, available: qty}
	st.batches = append(st.batches, b)
	slices.SortStableFunc(st.batches, func(a, b *batch) int { return strings.Compare(a.eta, b.eta) })
	s.command(at, sku, st.of(schemas.Event{Type: schemas.EventBatchCreated}, b))
}

func (s *shop) serve(at time.Time) {
	s.orders++
	order := fmt.Sprintf("past-order-%05d", s.orders)
	i := int(float64(len(goods)) * math.Pow(s.random.Float64(), 1.7))
	sku := goods[i]
	switch s.random.IntN(60) {
	case 0:
		s.command(at, "GREEN-CHAIR", schemas.Event{Type: schemas.EventCommandRejected, OrderID: order, Reason: "invalid_sku", Message: "Invalid sku GREEN-CHAIR"})
		return
	case 1:
		s.command(at, sku, schemas.Event{Type: schemas.EventCommandRejected, Version: s.skus[sku].version, OrderID: order, Reason: "conflicting_line", Message: "Line is allocated with another quantity"})
		return
	case 2:
		s.giveBack(sku, at)
		return
	}
	s.command(at, sku, s.skus[sku].allocate(order, 1+s.random.Int32N(6)))
}

func (s *stock) allocate(order string, qty int32) schemas.Event {
	e := schemas.Event{Type: schemas.EventAllocated, OrderID: order, Qty: qty}
	for _, b := range s.batches {
		if b.available >= qty {
			b.available -= qty
			s.lines = append(s.lines, line{order, qty, b})
			return s.of(e, b)
		}
	}
	e.Type = schemas.EventOutOfStock
	return s.of(e, nil)
}

// leave takes the newest line away.
func (s *stock) leave(reason string) (line, schemas.Event) {
	gone := s.lines[len(s.lines)-1]
	s.lines = s.lines[:len(s.lines)-1]
	gone.batch.available += gone.qty
	return gone, s.of(schemas.Event{Type: schemas.EventDeallocated, OrderID: gone.order, Qty: gone.qty, Reason: reason}, gone.batch)
}

func (s *shop) giveBack(sku string, at time.Time) {
	if st := s.skus[sku]; len(st.lines) > 0 {
		_, e := st.leave("requested")
		s.command(at, sku, e)
	}
}

// breakPallet cuts the batch of the newest lines, so that they leave it and look for another.
func (s *shop) breakPallet(sku string, at time.Time) {
	st := s.skus[sku]
	if len(st.lines) == 0 {
		return
	}
	b := st.lines[len(st.lines)-1].batch
	var events []schemas.Event
	var moving []line
	for len(st.lines) > 0 && st.lines[len(st.lines)-1].batch == b && len(moving) < 8 {
		gone, e := st.leave("batch_quantity_changed")
		moving, events = append(moving, gone), append(events, e)
	}
	b.qty, b.available = b.qty-b.available, 0
	events = append(events, st.of(schemas.Event{Type: schemas.EventBatchQuantityChanged}, b))
	for _, l := range moving {
		events = append(events, st.allocate(l.order, l.qty))
	}
	s.command(at, sku, events...)
}
