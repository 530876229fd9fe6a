package verify

import (
	"crypto/sha256"
	"encoding/binary"
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

// sum is what a group of rows comes to.
type sum struct {
	skus, batches, lines int64
	version              uint64 // the highest of any row of a SKU; in a bucket their total
	state                uint64 // of the rows that Postgres and ClickHouse both have
	readModel            uint64 // of the rows that ClickHouse has besides
	events               uint64 // versions in ClickHouse's log of events
}

// sameState leaves out what Postgres does not have.
func (s sum) sameState(other sum) bool {
	s.readModel, s.events = other.readModel, other.events
	return s == other
}

// add adds a SKU to a bucket.
func (s *sum) add(other sum) {
	s.skus += other.skus
	s.batches += other.batches
	s.lines += other.lines
	s.version += other.version
	s.state ^= other.state
	s.readModel ^= other.readModel
	s.events += other.events
}

// sumKey names a group: a bucket, or a SKU (then bucket is 0).
type sumKey struct {
	bucket int32
	sku    string
}
