package reads

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// entry is what is left of a SKU, as the cache keeps it.
type entry struct {
	readmodel.Availability
	filled time.Duration // when the store was asked, counted from when the cache was made
}

// packed is an entry in one piece, without its SKU, which is its key.
type packed string

// batchBytes is the memory that a batch takes where it is not packed, beside its ref: measured, and rounded up
// (TestMemoryOfWhatEventsSaid).
const batchBytes = 72

func batchesBytes(batches []readmodel.Batch) (n int) {
	for i := range batches {
		n += batchBytes + len(batches[i].Ref)
	}
	return n
}

// appendTo appends the packed entry to b.
func (e *entry) appendTo(b []byte) []byte {
	b = binary.AppendVarint(b, int64(e.filled))
	b = binary.AppendUvarint(b, e.Version)
	b = binary.AppendVarint(b, e.Available)
	b = binary.AppendUvarint(b, uint64(len(e.Batches)))
	for i := range e.Batches {
		batch := &e.Batches[i]
		b = append(binary.AppendUvarint(b, uint64(len(batch.Ref))), batch.Ref...)
		b = append(binary.AppendUvarint(b, uint64(len(batch.ETA))), batch.ETA...)
		b = binary.AppendVarint(b, int64(batch.Qty))
		b = binary.AppendVarint(b, int64(batch.Available))
		b = binary.AppendUvarint(b, batch.Version)
	}
	return b
}

// unpack is of an entry of sku. The texts are parts of p.
func (p packed) unpack(sku string) entry {
	rest := unpacking(p)
	e := entry{filled: time.Duration(rest.int())}
	e.SKU, e.Version, e.Available = sku, rest.uint(), rest.int()
	if n := rest.uint(); n > 0 {
		e.Batches = make([]readmodel.Batch, n)
	}
	for i := range e.Batches {
		e.Batches[i] = readmodel.Batch{Ref: rest.text(), ETA: rest.text(), Qty: int32(rest.int()), Available: int32(rest.int()), Version: rest.uint()}
	}
	return e
}

// unpacking is what is left of a packed entry to be read.
type unpacking string

func (u *unpacking) uint() uint64 {
	v, n := binary.Uvarint([]byte((*u)[:min(len(*u), binary.MaxVarintLen64)]))
	*u = (*u)[n:]
	return v
}

func (u *unpacking) int() int64 {
	v, n := binary.Varint([]byte((*u)[:min(len(*u), binary.MaxVarintLen64)]))
	*u = (*u)[n:]
	return v
}

func (u *unpacking) text() string {
	n := u.uint()
	text := string((*u)[:n])
	*u = (*u)[n:]
	return text
}

// apply takes in the state after an event that is at most the next one, and reports whether that changed anything.
func (e *entry) apply(event *schemas.Event) bool {
	next := event.Version > e.Version
	if next {
		e.Version, e.Available = event.Version, event.Available
	}
	if event.BatchRef == "" {
		return next
	}
	batches, changed := withBatch(e.Batches, batchOf(event))
	e.Batches = batches
	return next || changed
}

func batchOf(e *schemas.Event) readmodel.Batch {
	return readmodel.Batch{Ref: e.BatchRef, Qty: e.BatchQty, Available: e.BatchAvailable, ETA: e.ETA, Version: e.Version}
}

// withBatch returns batches, which must be in order, with b in its place, unless they have it as new. It leaves what it is
// given as it is: others read it.
func withBatch(batches []readmodel.Batch, b readmodel.Batch) ([]readmodel.Batch, bool) {
	i, found := slices.BinarySearchFunc(batches, b, byETA)
	switch {
	case found && batches[i].Version >= b.Version:
		return batches, false
	case found:
		batches = slices.Clone(batches)
		b.Ref, b.ETA = batches[i].Ref, batches[i].ETA // b's are parts of the text of a whole event
		batches[i] = b
		return batches, true
	default:
		b.Ref, b.ETA = strings.Clone(b.Ref), strings.Clone(b.ETA)
		longer := make([]readmodel.Batch, 0, len(batches)+1) // and no room for more: there may be none for a long time
		return append(append(append(longer, batches[:i]...), b), batches[i:]...), true
	}
}

// byETA is the order of a SKU's batches: in stock first, then by eta, then by ref.
func byETA(a, b readmodel.Batch) int {
	return cmp.Or(strings.Compare(a.ETA, b.ETA), strings.Compare(a.Ref, b.Ref))
}
