package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
)

// A row's checksum is the first eight bytes, big-endian, of the SHA-256 of its canonical text: a letter for the kind
// of row, then each field with its length in bytes before it, so that no two rows have the same text. Checksums are
// combined by XOR: no order matters, and a row is taken out the way it was put in. Go, Postgres and ClickHouse each
// compute it from their own rows; stores.go has the SQL, and a test holds the three against each other.
const (
	lineRow    = "L" // orderid, sku, batchref, qty
	batchRow   = "B" // sku, ref, qty, available, eta
	skuRow     = "S" // sku, version, available
	refRow     = "R" // sku, ref: in ClickHouse only
	eventRow   = "E" // sku, version, type, orderid, qty, batchref, batch_qty, batch_available, eta, available, commandid, reason: in ClickHouse only
	changeRow  = "D" // sku, orderid, version, eta, commandid, time in Unix ms: what a line's last event said beside the line, in ClickHouse only
	outcomeRow = "O" // sku, commandid, commandsource, event_id, type, version, orderid, batchref, reason, message: in ClickHouse only
)

// buckets is how many groups SKUs fall into: by the first ten bits of the SHA-256 of the SKU.
const buckets = 1024

func bucketOf(sku string) int32 {
	h := sha256.Sum256([]byte(sku))
	return int32(binary.BigEndian.Uint16(h[:2]) >> 6)
}

// hasher makes checksums without garbage. Not safe for concurrent use.
type hasher struct{ text []byte }

func (h *hasher) row(kind string, fields ...string) uint64 {
	h.text = append(h.text[:0], kind...)
	for _, f := range fields {
		h.text = strconv.AppendInt(h.text, int64(len(f)), 10)
		h.text = append(h.text, ':')
		h.text = append(h.text, f...)
	}
	digest := sha256.Sum256(h.text)
	return binary.BigEndian.Uint64(digest[:8])
}

// The kinds of rows, as a sum has them: those that Postgres and ClickHouse both have, and then what ClickHouse has
// besides. ClickHouse answers for each from one part of one table.
const (
	skuPart = iota
	batchPart
	linePart
	refPart
	changePart
	eventPart
	parts
	sharedParts = refPart
)

// sum is what a group of rows comes to.
type sum struct {
	version uint64 // the highest of any row of a SKU; in a bucket their total
	parts   [parts]part
}

// part is what the rows of one kind come to.
type part struct {
	rows     int64
	checksum uint64
}

// put puts a row in, or, the second time, takes it out.
func (p *part) put(checksum uint64, rows int64) {
	p.checksum ^= checksum
	p.rows += rows
}

// sameState leaves out what Postgres does not have.
func (s sum) sameState(other sum) bool {
	return s.version == other.version && slices.Equal(s.parts[:sharedParts], other.parts[:sharedParts])
}

// isWithin reports whether the rows of each kind come to what they came to at one of the versions, for each kind perhaps
// at another one.
func (s sum) isWithin(versions []sum) bool {
	for kind, is := range s.parts {
		if !slices.ContainsFunc(versions, func(at sum) bool { return at.parts[kind] == is }) {
			return false
		}
	}
	return true
}

// add adds a SKU to a bucket.
func (s *sum) add(other sum) {
	s.version += other.version
	for kind, p := range other.parts {
		s.parts[kind].put(p.checksum, p.rows)
	}
}

// sumKey names a group: a bucket, or a SKU (then bucket is 0).
type sumKey struct {
	bucket int32
	sku    string
}
