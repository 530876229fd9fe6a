package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// Kinds of rows, for the checksums of rowsum, which Go, Postgres and ClickHouse each compute from their own rows; stores.go
// has the SQL, and a test holds the three against each other.
const (
	lineRow    = "L" // orderid, sku, batchref, qty
	batchRow   = rowsum.Batch
	skuRow     = rowsum.SKU
	refRow     = rowsum.Ref // in ClickHouse only
	eventRow   = "E"        // sku, version, type, orderid, qty, batchref, batch_qty, batch_available, eta, available, commandid, reason: in ClickHouse only
	changeRow  = "D"        // sku, orderid, version, eta, commandid, time in Unix ms: what a line's last event said beside the line, in ClickHouse only
	outcomeRow = "O"        // sku, commandid, commandsource, event_id, type, version, orderid, batchref, reason, message: in ClickHouse only
)

// buckets is how many groups SKUs fall into: by the first ten bits of the SHA-256 of the SKU.
const buckets = 1024

func bucketOf(sku string) int32 {
	h := sha256.Sum256([]byte(sku))
	return int32(binary.BigEndian.Uint16(h[:2]) >> 6)
}

// hasher makes checksums of what a fold has. Not safe for concurrent use.
type hasher struct{ rowsum.Hasher }

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
