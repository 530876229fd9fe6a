package verify

import (
	"fmt"
	"strings"
)

const (
	rowSKU      = "sku"
	linePrefix  = "line "
	batchPrefix = "batch "
	refPrefix   = "ref "
)

func (r row) isLine() bool { return strings.HasPrefix(r.name, linePrefix) }

func (r row) orderID() string { return strings.TrimPrefix(r.name, linePrefix) }

// auditKeys is what both stores are asked about.
type auditKeys struct {
	skus        []string
	orders, ofs []string // lines: an order, and beside it the SKU
}

func newAuditKeys() auditKeys {
	return auditKeys{skus: []string{}, orders: []string{}, ofs: []string{}} // a nil slice would be NULL to Postgres
}

func (k *auditKeys) add(r row) {
	if r.isLine() {
		k.orders, k.ofs = append(k.orders, r.orderID()), append(k.ofs, r.sku)
	} else {
		k.skus = append(k.skus, r.sku)
	}
}

// auditRows is what a store says of some SKUs and lines.
type auditRows struct {
	rows     map[row]said
	ofSKU    map[string][]row  // rows that are no lines
	versions map[string]uint64 // of SKUs, also of those of lines
	waiting  []place           // of Postgres: the commands whose events may not be published yet
	anyWaits bool              // of Postgres: some command is not known
	at       int64             // of Postgres: when it was asked, in Unix seconds
}

// said is what a row says, and the SKU's version at which it came to that; 0 if the store does not keep it.
type said struct {
	text    string
	version uint64
}

// place is where a command is in the commands topic.
type place struct {
	partition int32
	offset    int64
}

func newAuditRows() *auditRows {
	return &auditRows{rows: make(map[row]said), ofSKU: make(map[string][]row), versions: make(map[string]uint64)}
}

func (a *auditRows) add(sku, name string, version uint64, text string) {
	r := row{sku, name}
	a.rows[r] = said{text, version}
	if name == rowSKU {
		a.versions[sku] = version
	}
	if !r.isLine() {
		a.ofSKU[sku] = append(a.ofSKU[sku], r)
	}
}

// auditEvent is what an event says of its SKU and of its batch.
type auditEvent struct{ sku, ref, batch string }

// skuVersion names an event.
type skuVersion struct {
	sku     string
	version uint64
}

// verdict is what a look says of a SKU or a line. unknown: it changed meanwhile, and cannot be told.
type verdict struct {
	faults  []Fault
	unknown bool
}

func (v *verdict) wrong(r row, is, should string) {
	v.faults = append(v.faults, Fault{SKU: r.sku, Row: r.name, Is: is, Should: should})
}

// compare judges the read model, which has all that Postgres said before, and was asked before Postgres said after.
func compare(keys auditKeys, before, is, after *auditRows, between map[skuVersion]auditEvent) map[row]verdict {
	verdicts := make(map[row]verdict, len(keys.skus)+len(keys.orders))
	for _, sku := range keys.skus {
		verdicts[row{sku, rowSKU}] = compareSKU(sku, before, is, after, between)
	}
	for i, orderID := range keys.orders {
		r := row{keys.ofs[i], linePrefix + orderID}
		var v verdict
		switch should := before.rows[r]; {
		case should != after.rows[r]:
			v.unknown = true
		case is.rows[r] != should:
			v.wrong(r, is.rows[r].text, should.text)
		}
		verdicts[r] = v
	}
	return verdicts
}

// compareSKU judges each row at its own version, since a block does not reach the tables at one moment: one that is no
// newer than what Postgres said before must say the same; a newer one what the event of its version says, if Postgres
// has that version by now.
func compareSKU(sku string, before, is, after *auditRows, between map[skuVersion]auditEvent) (v verdict) {
	for _, r := range before.ofSKU[sku] {
		if _, there := is.rows[r]; !there {
			v.wrong(r, "", before.rows[r].text)
		}
	}
	for _, r := range is.ofSKU[sku] {
		row, should := is.rows[r], before.rows[r]
		event, published := between[skuVersion{sku, row.version}]
		expected := event.sku
		if r.name != rowSKU {
			expected = event.batch
		}
		switch {
		case row.version > after.versions[sku]:
			v.wrong(r, fmt.Sprintf("%s (version %d)", row.text, row.version), fmt.Sprintf("%s (Postgres is at version %d)", should.text, after.versions[sku]))
		case row.version <= before.versions[sku]:
			if row.text != should.text {
				v.wrong(r, row.text, should.text)
			}
		case !published || r.name != rowSKU && event.ref != r.name:
			v.unknown = true
		case row.text != expected:
			v.wrong(r, row.text, expected)
		}
	}
	return v
}
