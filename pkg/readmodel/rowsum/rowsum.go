// Package rowsum gives rows of a read model checksums which Go and a store's SQL compute alike, so that what crosses the
// network is a sum instead of rows.
//
// It imports the standard library and readmodel. The comparison of a rebuild, `lotline verify` and stores that add up their
// rows themselves call it.
package rowsum

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/lotline/lotline/pkg/readmodel"
)

// A row's checksum is the first eight bytes, big-endian, of the SHA-256 of its canonical text: a letter for the kind
// of row, then each field with its length in bytes before it, so that no two rows have the same text. Checksums are
// combined by XOR: no order matters, and a row is taken out the way it was put in.
//
// These are the kinds that several callers have; each may have others.
const (
	SKU        = "S" // sku, version, available
	Batch      = "B" // sku, ref, qty, available, eta as YYYY-MM-DD or ""
	Ref        = "R" // sku, ref
	Allocation = "A" // orderid, sku, batchref, qty, eta, version: an order line that has a batch
)

// Hasher makes checksums without garbage. It is not safe for concurrent use; the zero value is ready.
type Hasher struct{ text []byte }

// Row returns the checksum of a row.
func (h *Hasher) Row(kind string, fields ...string) uint64 {
	h.text = append(h.text[:0], kind...)
	for _, f := range fields {
		h.text = strconv.AppendInt(h.text, int64(len(f)), 10)
		h.text = append(h.text, ':')
		h.text = append(h.text, f...)
	}
	digest := sha256.Sum256(h.text)
	return binary.BigEndian.Uint64(digest[:8])
}

// ClickHouse returns the expression of a row's checksum in ClickHouse, of fields that are expressions of a String.
func ClickHouse(kind string, fields ...string) string {
	text := "concat('" + kind + "'"
	for _, f := range fields {
		text += fmt.Sprintf(", toString(length(%[1]s)), ':', %[1]s", f)
	}
	return "reinterpretAsUInt64(reverse(substring(SHA256(" + text + ")), 1, 8)))"
}

// Adder adds rows up, by SKU. It is not safe for concurrent use; the zero value is ready.
type Adder struct {
	Sums   map[string]readmodel.Sum
	hasher Hasher
}

// Add adds rows. Lines without a batch do not count, nor does what the write side has not: times, commands and the versions
// of batches.
func (a *Adder) Add(rows *readmodel.State) {
	if a.Sums == nil {
		a.Sums = make(map[string]readmodel.Sum)
	}
	for i := range rows.SKUs {
		r := &rows.SKUs[i]
		a.add(r.SKU, r.Version, a.hasher.Row(SKU, r.SKU, strconv.FormatUint(r.Version, 10), strconv.FormatInt(r.Available, 10)))
	}
	for i := range rows.Batches {
		r := &rows.Batches[i]
		a.add(r.SKU, 0, a.hasher.Row(Batch, r.SKU, r.Ref, strconv.Itoa(int(r.Qty)), strconv.Itoa(int(r.Available)), r.ETA))
	}
	for i := range rows.Refs {
		r := &rows.Refs[i]
		a.add(r.SKU, 0, a.hasher.Row(Ref, r.SKU, r.Ref))
	}
	for i := range rows.Lines {
		r := &rows.Lines[i]
		if r.BatchRef != "" {
			a.add(r.SKU, 0, a.hasher.Row(Allocation, r.OrderID, r.SKU, r.BatchRef, strconv.Itoa(int(r.Qty)), r.ETA, strconv.FormatUint(r.Version, 10)))
		}
	}
}

func (a *Adder) add(sku string, version, checksum uint64) {
	s, known := a.Sums[sku]
	if !known {
		sku = strings.Clone(sku) // who reads rows may have cut it out of a text of thousands, which would be kept with it
	}
	a.Sums[sku] = readmodel.Sum{Version: max(s.Version, version), Rows: s.Rows + 1, Checksum: s.Checksum ^ checksum}
}
