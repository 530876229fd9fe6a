package verify

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

// AuditedReader is a read model that is asked as the gateway asks it, by keys. So what it has of SKUs and orders that Postgres has
// not at all is not found, and a version between two answers of Postgres cannot be told: of a SKU that changes all the time,
// no verdict may come of a pass.
func AuditedReader(r readmodel.Reader) AuditedStore { return auditedReader{r} }

type auditedReader struct{ readmodel.Reader }

func (auditedReader) strangeSKUs(context.Context, string, string, []string, int) ([]string, error) {
	return nil, nil
}

func (auditedReader) events(context.Context, []string, []uint64, time.Time) (map[skuVersion]auditEvent, error) {
	return nil, nil
}

// before reports whether a line comes before another in a walk over them.
func (w walk) before(orderID, sku string) bool {
	return w.orderID < orderID || w.orderID == orderID && w.sku < sku
}

func (a auditedReader) linesBetween(ctx context.Context, after, upto walk, orders []string, limit int, each func(orderID, sku, batchRef string, qty int32, version uint64)) error {
	for ids := range slices.Chunk(orders, readmodel.KeysMax) {
		found, err := a.Orders(ctx, ids)
		if err != nil {
			return err
		}
		var between []readmodel.LineKey
		for _, id := range ids {
			for _, l := range found[id] {
				if after.before(id, l.SKU) && (upto.ended || !upto.before(id, l.SKU)) {
					between = append(between, readmodel.LineKey{OrderID: id, SKU: l.SKU})
				}
			}
		}
		if limit, err = a.eachLine(ctx, between, limit, each); err != nil || limit == 0 {
			return err
		}
	}
	return nil
}

// eachLine calls each with those lines that are allocated, in the order of their keys, at most limit, and returns how many more
// it might have been.
func (a auditedReader) eachLine(ctx context.Context, keys []readmodel.LineKey, limit int, each func(orderID, sku, batchRef string, qty int32, version uint64)) (int, error) {
	for some := range slices.Chunk(keys, readmodel.KeysMax) {
		if limit == 0 {
			break
		}
		found, err := a.Lines(ctx, some)
		if err != nil {
			return 0, err
		}
		for _, key := range some {
			if l, ok := found[key]; ok && limit > 0 {
				each(l.OrderID, l.SKU, l.BatchRef, l.Qty, l.Version)
				limit--
			}
		}
	}
	return limit, nil
}

func (a auditedReader) now(ctx context.Context, keys auditKeys, should *auditRows) (*auditRows, error) {
	is := newAuditRows()
	for skus := range slices.Chunk(keys.skus, readmodel.KeysMax) {
		found, err := a.Availability(ctx, skus)
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			is.add(k.SKU, rowSKU, k.Version, skuSays(k.Version, k.Available))
			for _, b := range k.Batches {
				is.add(k.SKU, batchPrefix+b.Ref, b.Version, batchSays(b.Qty, b.Available, b.ETA))
			}
		}
	}
	if err := a.refsNow(ctx, is, should); err != nil {
		return nil, err
	}
	lines := make([]readmodel.LineKey, len(keys.orders))
	for i, orderID := range keys.orders {
		lines[i] = readmodel.LineKey{OrderID: orderID, SKU: keys.ofs[i]}
	}
	_, err := a.eachLine(ctx, lines, len(lines), func(orderID, sku, batchRef string, qty int32, version uint64) {
		is.add(sku, linePrefix+orderID, version, lineAt(batchRef, qty, version))
	})
	return is, err
}

// refsNow asks about the references that should be there. One that more SKUs have than are named is taken as it should be.
func (a auditedReader) refsNow(ctx context.Context, is, should *auditRows) error {
	of := make(map[string][]row)
	var refs []string
	for _, rows := range should.ofSKU {
		for _, r := range rows {
			if ref, ok := strings.CutPrefix(r.name, refPrefix); ok {
				if of[ref] == nil {
					refs = append(refs, ref)
				}
				of[ref] = append(of[ref], r)
			}
		}
	}
	for some := range slices.Chunk(refs, readmodel.KeysMax) {
		found, err := a.SKUs(ctx, some)
		if err != nil {
			return err
		}
		for _, ref := range some {
			for _, r := range of[ref] {
				if len(found[ref]) == readmodel.RefSKUsMax || slices.Contains(found[ref], r.sku) {
					is.add(r.sku, r.name, 0, "there")
				}
			}
		}
	}
	return nil
}
