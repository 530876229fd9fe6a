package verify

import (
	"fmt"
	"hash/maphash"
	"strconv"

	"github.com/lotline/lotline/schemas"
)

// fold is the state that the events come to. Its memory is the SKUs, their batches, and some 30 bytes an allocated line: of
// lines it keeps checksums only.
type fold struct {
	hasher   hasher
	products map[string]*product
	orders   maphash.Seed // of the keys of changes
	faults   []Fault      // what is wrong with the topic itself, at most faultsMax
	more     int          // faults beyond those
}

type product struct {
	version   uint64
	available int64
	parts     [parts]part // of all but the SKU's own row
	batches   map[string]batch
	// changes has the checksum of each line's last event by that of its order: when the line goes, it is taken out.
	changes map[uint64]uint64
	// later are events that came before their turn: once partitions were added a SKU's events are on two, and
	// partitions are read side by side. What is left here at the end follows a hole.
	later map[uint64]logged
	// since are the sums at the version that it had when it was asked to keep them, and at each since; nil if nobody asked.
	since []sum
}

type batch struct {
	qty, available int32
	eta            string
}

const (
	faultsMax = 1000
	laterMax  = 100_000 // events of a SKU that wait for one that is missing
)

func newFold() *fold { return &fold{products: make(map[string]*product), orders: maphash.MakeSeed()} }

func newProduct() *product {
	return &product{batches: make(map[string]batch, 1), changes: make(map[uint64]uint64)}
}

func (f *fold) fault(sku, format string, args ...any) {
	if len(f.faults) == faultsMax {
		f.more++
		return
	}
	f.faults = append(f.faults, Fault{Store: storeEvents, SKU: sku, Row: rowLog, Is: fmt.Sprintf(format, args...)})
}

// add takes the next event that was read.
func (f *fold) add(e *logged) {
	if !e.Type.ChangesState() {
		return
	}
	p := f.products[e.SKU]
	if p == nil {
		p = newProduct()
		f.products[e.SKU] = p
	}
	if _, waiting := p.later[e.Version]; waiting || e.Version <= p.version {
		f.fault(e.SKU, "version %d is there again, at %s", e.Version, e.place())
		return
	}
	if e.Version > p.version+1 {
		if p.later == nil {
			p.later = make(map[uint64]logged)
		}
		if len(p.later) < laterMax { // one that is dropped here is part of the hole that missing reports
			p.later[e.Version] = *e
		}
		return
	}
	f.apply(p, e)
	for len(p.later) > 0 {
		next, ok := p.later[p.version+1]
		if !ok {
			return
		}
		delete(p.later, next.Version)
		f.apply(p, &next)
	}
}

func (f *fold) apply(p *product, e *logged) {
	p.version, p.available = e.Version, e.Available
	p.parts[eventPart].put(f.hasher.Row(eventRow, e.SKU, strconv.FormatUint(e.Version, 10), e.Type.String(), e.OrderID,
		strconv.Itoa(int(e.Qty)), e.BatchRef, strconv.Itoa(int(e.BatchQty)), strconv.Itoa(int(e.BatchAvailable)), e.ETA,
		strconv.FormatInt(e.Available, 10), e.CommandID, e.Reason), 1)
	switch e.Type {
	case schemas.EventAllocated:
		f.change(p, e.OrderID, f.hasher.change(e))
		p.parts[linePart].put(f.hasher.line(e.OrderID, e.SKU, e.BatchRef, e.Qty), 1)
	case schemas.EventDeallocated:
		f.change(p, e.OrderID, 0)
		p.parts[linePart].put(f.hasher.line(e.OrderID, e.SKU, e.BatchRef, e.Qty), -1)
	}
	if e.BatchRef != "" {
		if before, had := p.batches[e.BatchRef]; had {
			p.parts[batchPart].put(f.hasher.batch(e.SKU, e.BatchRef, before), -1)
		} else {
			p.parts[refPart].put(f.hasher.Row(refRow, e.SKU, e.BatchRef), 1)
		}
		after := batch{e.BatchQty, e.BatchAvailable, e.ETA}
		p.parts[batchPart].put(f.hasher.batch(e.SKU, e.BatchRef, after), 1)
		p.batches[e.BatchRef] = after
	}
	if p.since != nil {
		p.since = append(p.since, f.sum(e.SKU, p))
	}
}

// change puts the checksum of a line's last event in the place of the one before; 0: the line has gone.
func (f *fold) change(p *product, orderID string, checksum uint64) {
	key := maphash.String(f.orders, orderID)
	if before, had := p.changes[key]; had {
		p.parts[changePart].put(before, -1)
		delete(p.changes, key)
	}
	if checksum != 0 {
		p.parts[changePart].put(checksum, 1)
		p.changes[key] = checksum
	}
}

// sum is what the rows of a SKU come to at its present version.
func (f *fold) sum(sku string, p *product) sum {
	if p.version == 0 {
		return sum{}
	}
	s := sum{version: p.version, parts: p.parts}
	s.parts[skuPart].put(f.hasher.product(sku, p.version, p.available), 1)
	return s
}

func (f *fold) byBucket() map[sumKey]sum {
	sums := make(map[sumKey]sum, buckets)
	for sku, p := range f.products {
		key := sumKey{bucket: bucketOf(sku)}
		total := sums[key]
		total.add(f.sum(sku, p))
		sums[key] = total
	}
	return sums
}

// missing reports the holes that events were still waiting behind at the end.
func (f *fold) missing() {
	for sku, p := range f.products {
		if len(p.later) > 0 {
			f.fault(sku, "version %d is missing, and %d later ones are there", p.version+1, len(p.later))
		}
	}
}

func (h *hasher) line(orderID, sku, batchRef string, qty int32) uint64 {
	return h.Row(lineRow, orderID, sku, batchRef, strconv.Itoa(int(qty)))
}

func (h *hasher) change(e *logged) uint64 {
	return h.Row(changeRow, e.SKU, e.OrderID, strconv.FormatUint(e.Version, 10), e.ETA, e.CommandID, strconv.FormatInt(e.time, 10))
}

func (h *hasher) batch(sku, ref string, b batch) uint64 {
	return h.Row(batchRow, sku, ref, strconv.Itoa(int(b.qty)), strconv.Itoa(int(b.available)), b.eta)
}

func (h *hasher) product(sku string, version uint64, available int64) uint64 {
	return h.Row(skuRow, sku, strconv.FormatUint(version, 10), strconv.FormatInt(available, 10))
}
