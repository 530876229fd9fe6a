package readmodeltest

import (
	"fmt"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// story makes events one by one, each as an allocator would after the ones before it.
type story struct {
	records []readmodel.Record
	skus    map[string]*storySKU
	at      time.Time
}

type storySKU struct {
	version   uint64
	available int64
	batches   map[string]*readmodel.Batch
	lines     map[string]readmodel.Line
}

func newStory() *story {
	return &story{skus: map[string]*storySKU{}, at: time.Date(2030, 5, 6, 7, 8, 9, 123e6, time.UTC)}
}

func (s *story) sku(name string) *storySKU {
	if s.skus[name] == nil {
		s.skus[name] = &storySKU{batches: map[string]*readmodel.Batch{}, lines: map[string]readmodel.Line{}}
	}
	return s.skus[name]
}

func (s *story) batch(sku, ref string, qty int32, eta string) {
	b := &readmodel.Batch{Ref: ref, ETA: eta}
	s.sku(sku).batches[ref] = b
	s.touch(schemas.Event{Type: schemas.EventBatchCreated, SKU: sku, Last: true}, b, qty, qty)
}

// change sets a batch's purchased quantity.
func (s *story) change(sku, ref string, qty int32) {
	b := s.sku(sku).batches[ref]
	s.touch(schemas.Event{Type: schemas.EventBatchQuantityChanged, SKU: sku, Last: true}, b, qty, b.Available+qty-b.Qty)
}

func (s *story) allocate(orderID, sku, ref string, qty int32) {
	b := s.sku(sku).batches[ref]
	s.sku(sku).lines[orderID] = readmodel.Line{BatchRef: ref, Qty: qty}
	s.touch(schemas.Event{Type: schemas.EventAllocated, SKU: sku, OrderID: orderID, Qty: qty, Last: true}, b, b.Qty, b.Available-qty)
}

func (s *story) deallocate(orderID, sku string) {
	l := s.sku(sku).lines[orderID]
	delete(s.sku(sku).lines, orderID)
	b := s.sku(sku).batches[l.BatchRef]
	s.touch(schemas.Event{
		Type: schemas.EventDeallocated, SKU: sku, OrderID: orderID, Qty: l.Qty, Reason: "requested", Last: true,
	}, b, b.Qty, b.Available+l.Qty)
}

func (s *story) outOfStock(orderID, sku string, qty int32) {
	k := s.sku(sku)
	k.version++
	s.publish(schemas.Event{
		Type: schemas.EventOutOfStock, SKU: sku, Version: k.version, OrderID: orderID, Qty: qty, Available: k.available, Last: true,
	})
}

// touch publishes an event that leaves a batch with qty and available.
func (s *story) touch(e schemas.Event, b *readmodel.Batch, qty, available int32) {
	k := s.sku(e.SKU)
	k.version++
	k.available += int64(available) - int64(b.Available)
	b.Qty, b.Available, b.Version = qty, available, k.version
	e.Version, e.Available = k.version, k.available
	e.BatchRef, e.BatchQty, e.BatchAvailable, e.ETA = b.Ref, qty, available, b.ETA
	s.publish(e)
}

// publish adds an event of a command of its own, unless the event names one.
func (s *story) publish(e schemas.Event) {
	n := len(s.records)
	if e.CommandID == "" {
		e.CommandID, e.CommandSource = fmt.Sprintf("c%d", n), "/test"
	}
	s.at = s.at.Add(time.Millisecond)
	s.records = append(s.records, readmodel.Record{
		Event: e, ID: fmt.Sprintf("topic/0/%d/0", n), Time: s.at, Partition: int32(n % 3), Offset: int64(n / 3),
	})
}
