package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// rowLog marks a fault in the topic itself, which has no rows of state.
const rowLog = "log"

// rowsMax bounds the rows of state that are held in memory to name the ones that differ.
const rowsMax = 2_000_000

// row is one row of a store's state: "line o-1" of a SKU, and what it says.
type row struct{ sku, name string }

// ofReadModel reports whether only ClickHouse has such rows.
func (r row) ofReadModel() bool {
	return strings.HasPrefix(r.name, "event ") || strings.HasPrefix(r.name, refPrefix) || strings.HasPrefix(r.name, lastChange)
}

type rowSet map[row]string

func (s rowSet) add(sku, name, says string) error {
	if len(s) >= rowsMax {
		return fmt.Errorf("the SKUs that differ have more than %d rows: list those of fewer SKUs with --skus-max", rowsMax)
	}
	s[row{sku, name}] = says
	return nil
}

// lastChange begins the name of what ClickHouse repeats with a line of its last event.
const lastChange = "change of line "

func changeSays(version uint64, eta, commandID string, unixMilli int64) string {
	if eta == "" {
		eta = "in stock"
	}
	return fmt.Sprintf("version %d, %s, by command %q at %s", version, eta, commandID, cloudevents.FormatTime(time.UnixMilli(unixMilli)))
}

func lineSays(batchRef string, qty int32) string { return fmt.Sprintf("%d in batch %q", qty, batchRef) }

func batchSays(qty, available int32, eta string) string {
	if eta == "" {
		eta = "in stock"
	}
	return fmt.Sprintf("%d of %d available, %s", available, qty, eta)
}

func skuSays(version uint64, available int64) string {
	return fmt.Sprintf("version %d, %d available", version, available)
}

// listRows puts rows in place of the SKUs that are wrong, for the first SKUsMax of them in each store, and adds the
// outcomes that differ in some buckets.
func (j *judge) listRows(ctx context.Context, r *Report, outcomeBuckets []int32) error {
	postgres, clickHouse := first(r.wrongIn(storePostgres), j.SKUsMax), first(r.wrongIn(storeClickHouse), j.SKUsMax)
	skus := slices.Compact(slices.Sorted(slices.Values(slices.Concat(postgres, clickHouse))))
	if len(skus) == 0 && len(outcomeBuckets) == 0 {
		return nil
	}
	// The stores before the events, so that what they have is among them.
	inPostgres, err := j.postgresRows(ctx, postgres)
	if err != nil {
		return fmt.Errorf("read the rows that differ from Postgres: %w", err)
	}
	inClickHouse, err := j.clickHouseRows(ctx, clickHouse)
	if err != nil {
		return fmt.Errorf("read the rows that differ from ClickHouse: %w", err)
	}
	should, outcomes, err := j.readAgain(ctx, skus, outcomeBuckets)
	if err != nil {
		return err
	}
	listed := slices.Concat(should.differences(storePostgres, postgres, inPostgres), should.differences(storeClickHouse, clickHouse, inClickHouse))
	// A SKU whose rows agree by now, or that differs in what has no row here, keeps its sentence.
	named := make(map[[2]string]bool)
	for _, f := range listed {
		named[[2]string{f.Store, f.SKU}] = true
	}
	r.Wrong = slices.DeleteFunc(r.Wrong, func(f Fault) bool { return f.Row == "" && named[[2]string{f.Store, f.SKU}] })
	if len(outcomeBuckets) > 0 {
		differing, err := j.listOutcomes(ctx, outcomeBuckets, outcomes)
		if err != nil {
			return err
		}
		listed = append(listed, differing...)
	}
	r.Wrong = append(r.Wrong, listed...)
	if len(r.Wrong) > faultsMax {
		r.WrongMore += len(r.Wrong) - faultsMax
		r.Wrong = r.Wrong[:faultsMax]
	}
	return nil
}

func first(skus []string, n int) []string { return skus[:min(n, len(skus))] }

// folded are the rows that the events come to.
type folded struct {
	rows rowSet
	// moved are those that changed after the SKU was last looked at: a store may have what they were before, or since.
	moved map[row]bool
}

// differences compares both ways, for the SKUs given.
func (f *folded) differences(store string, skus []string, is rowSet) []Fault {
	should, keys := f.rows, make(map[row]bool, len(is))
	for _, set := range []rowSet{is, should} {
		for key := range set {
			if _, ok := slices.BinarySearch(skus, key.sku); ok && is[key] != should[key] && !f.moved[key] && (store == storeClickHouse || !key.ofReadModel()) {
				keys[key] = true
			}
		}
	}
	var faults []Fault
	for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b row) int {
		if a.sku != b.sku {
			return strings.Compare(a.sku, b.sku)
		}
		return strings.Compare(a.name, b.name)
	}) {
		faults = append(faults, Fault{Store: store, SKU: key.sku, Row: key.name, Is: is[key], Should: should[key]})
	}
	return faults
}

// readAgain reads the events once more, for the rows of a few SKUs and the outcomes in a few buckets.
func (j *judge) readAgain(ctx context.Context, skus []string, outcomeBuckets []int32) (should *folded, outcomes rowSet, err error) {
	events, err := openEventLog(ctx, j.Kafka, j.EventsTopic)
	if err != nil {
		return nil, nil, err
	}
	defer events.close()
	should, outcomes = &folded{rows: make(rowSet), moved: make(map[row]bool)}, make(rowSet)
	var failed error
	add := func(e *logged) {
		if _, wanted := slices.BinarySearch(skus, e.SKU); wanted && failed == nil {
			failed = should.add(e, e.Version > j.open[e.SKU].mark)
		}
	}
	if len(skus) > 0 {
		if _, err := j.history(ctx, events, skus, add); err != nil {
			return nil, nil, err
		}
	}
	err = events.advance(ctx, func(e *logged) {
		add(e)
		if _, wanted := slices.BinarySearch(outcomeBuckets, bucketOf(e.SKU)); wanted && j.outcomes.covers(e) && failed == nil {
			failed = outcomes.addOutcome(e)
		}
	}, func(string, error) {}) // reported when it was read first
	return should, outcomes, errors.Join(err, failed)
}

// add takes the rows of state over an event.
func (f *folded) add(e *logged, moved bool) error {
	if !e.Type.ChangesState() {
		return nil
	}
	var errs []error
	set := func(name, says string) {
		if moved {
			f.moved[row{e.SKU, name}] = true
		}
		if says == "" {
			delete(f.rows, row{e.SKU, name})
			return
		}
		errs = append(errs, f.rows.add(e.SKU, name, says))
	}
	set(rowSKU, skuSays(e.Version, e.Available))
	set(fmt.Sprintf("event %d", e.Version), eventSays(e.Type.String(), e.OrderID, e.Qty, e.BatchRef, e.Available))
	switch e.Type {
	case schemas.EventAllocated:
		set(linePrefix+e.OrderID, lineSays(e.BatchRef, e.Qty))
		set(lastChange+e.OrderID, changeSays(e.Version, e.ETA, e.CommandID, e.time))
	case schemas.EventDeallocated:
		set(linePrefix+e.OrderID, "")
		set(lastChange+e.OrderID, "")
	case schemas.EventBatchCreated:
		set(refPrefix+e.BatchRef, "there")
	}
	if e.BatchRef != "" {
		set(batchPrefix+e.BatchRef, batchSays(e.BatchQty, e.BatchAvailable, e.ETA))
	}
	return errors.Join(errs...)
}

func eventSays(kind, orderID string, qty int32, batchRef string, available int64) string {
	return fmt.Sprintf("%s order %q, %d of batch %q, %d available", kind, orderID, qty, batchRef, available)
}

func (j *judge) postgresRows(ctx context.Context, skus []string) (rowSet, error) {
	found := make(rowSet)
	each := func(sql string, fields []any, keep func() error) error {
		rows, err := j.Postgres.Query(ctx, sql, skus)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, fields, keep)
		return err
	}
	var sku, name, batchRef, eta string
	var qty, left int32
	var version uint64
	var available int64
	return found, errors.Join(
		each(`SELECT sku, version, available FROM products WHERE sku = ANY($1)`, []any{&sku, &version, &available},
			func() error { return found.add(sku, rowSKU, skuSays(version, available)) }),
		each(`SELECT sku, ref, qty, qty - allocated, coalesce(to_char(eta, 'YYYY-MM-DD'), '') FROM batches WHERE sku = ANY($1)`, []any{&sku, &name, &qty, &left, &eta},
			func() error { return found.add(sku, batchPrefix+name, batchSays(qty, left, eta)) }),
		each(`SELECT sku, orderid, batchref, qty FROM order_lines WHERE batchref IS NOT NULL AND sku = ANY($1)`, []any{&sku, &name, &batchRef, &qty},
			func() error { return found.add(sku, linePrefix+name, lineSays(batchRef, qty)) }),
	)
}

func (j *judge) clickHouseRows(ctx context.Context, skus []string) (rowSet, error) {
	found := make(rowSet)
	if len(skus) == 0 {
		return found, nil
	}
	var failed error
	each := func(sql string, fields []any, keep func() error) error {
		return eachRow(ctx, j.ClickHouse, sql, []any{clickhouse.Named("skus", skus)}, fields, func() { failed = errors.Join(failed, keep()) })
	}
	var sku, name, kind, orderID, batchRef, eta, commandID string
	var qty, left int32
	var version, copies uint64
	var available, at int64
	err := errors.Join(
		each(`SELECT sku, version, available FROM skus FINAL WHERE sku IN {skus:Array(String)}`, []any{&sku, &version, &available},
			func() error { return found.add(sku, rowSKU, skuSays(version, available)) }),
		each(`SELECT sku, ref, qty, available, ifNull(toString(eta), '') FROM stock FINAL WHERE sku IN {skus:Array(String)}`, []any{&sku, &name, &qty, &left, &eta},
			func() error { return found.add(sku, batchPrefix+name, batchSays(qty, left, eta)) }),
		each(`SELECT sku, orderid, batchref, qty, version, ifNull(toString(eta), ''), commandid, toUnixTimestamp64Milli(event_time) FROM order_lines FINAL WHERE sku IN {skus:Array(String)}`,
			[]any{&sku, &name, &batchRef, &qty, &version, &eta, &commandID, &at}, func() error {
				return errors.Join(found.add(sku, linePrefix+name, lineSays(batchRef, qty)),
					found.add(sku, lastChange+name, changeSays(version, eta, commandID, at)))
			}),
		each(`SELECT sku, ref FROM batches_by_ref FINAL WHERE sku IN {skus:Array(String)}`, []any{&sku, &name},
			func() error { return found.add(sku, refPrefix+name, "there") }),
		each(`SELECT sku, version, toString(any(type)), any(orderid), any(qty), any(batchref), any(available), count() FROM events FINAL WHERE sku IN {skus:Array(String)} GROUP BY sku, version`,
			[]any{&sku, &version, &kind, &orderID, &qty, &batchRef, &available, &copies}, func() error {
				says := eventSays(kind, orderID, qty, batchRef, available)
				if copies > 1 {
					says += fmt.Sprintf(", %d times", copies)
				}
				return found.add(sku, fmt.Sprintf("event %d", version), says)
			}),
	)
	return found, errors.Join(err, failed)
}
