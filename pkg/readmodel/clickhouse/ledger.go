package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/readmodel"
)

const tableSetAside = "set_aside"

var _ readmodel.Ledger = (*Writer)(nil)

// SetAside notes what is lacking.
func (w *Writer) SetAside(ctx context.Context, what []readmodel.Aside) error {
	return w.note(ctx, what, 0)
}

// Returned takes back some notes, each by a newer row that says so.
func (w *Writer) Returned(ctx context.Context, what []readmodel.Aside) error {
	return w.note(ctx, what, 1)
}

func (w *Writer) note(ctx context.Context, what []readmodel.Aside, deleted uint8) error {
	if len(what) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings)), insertTimeout)
	defer cancel()
	batch, err := w.conn.PrepareBatch(ctx, "INSERT INTO "+tableSetAside+" (sku, what, version, event_id, reason, event, event_time, kpartition, koffset, is_deleted)")
	if err != nil {
		return fmt.Errorf("start an insert into %s: %w", tableSetAside, err)
	}
	for _, a := range what {
		if err := batch.Append(a.SKU, a.What, a.Version, a.EventID, a.Reason, a.Event, a.Time, a.Partition, a.Offset, deleted); err != nil {
			return fmt.Errorf("make a row of %s: %w", tableSetAside, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", tableSetAside, err)
	}
	return nil
}

// Asides returns what is noted.
func (w *Writer) Asides(ctx context.Context, after readmodel.Aside, limit int) (noted []readmodel.Aside, all int, err error) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	var count uint64
	if err := w.conn.QueryRow(ctx, "SELECT count() FROM "+tableSetAside+" FINAL").Scan(&count); err != nil {
		return nil, 0, fmt.Errorf("count the rows of %s: %w", tableSetAside, err)
	}
	rows, err := w.conn.Query(ctx, "SELECT sku, what, version, event_id, reason, event, event_time, kpartition, koffset FROM "+tableSetAside+
		" FINAL WHERE (sku, version, event_id, what) > (@sku, @version, @event, @what) ORDER BY sku, version, event_id, what LIMIT @limit",
		clickhouse.Named("sku", after.SKU), clickhouse.Named("version", after.Version), clickhouse.Named("event", after.EventID),
		clickhouse.Named("what", after.What), clickhouse.Named("limit", limit))
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", tableSetAside, err)
	}
	defer rows.Close()
	for rows.Next() {
		var a readmodel.Aside
		if err := rows.Scan(&a.SKU, &a.What, &a.Version, &a.EventID, &a.Reason, &a.Event, &a.Time, &a.Partition, &a.Offset); err != nil {
			return nil, 0, fmt.Errorf("read a row of %s: %w", tableSetAside, err)
		}
		noted = append(noted, a)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", tableSetAside, err)
	}
	return noted, int(count), nil
}

// Missing returns those versions of which events has no row since a time.
func (w *Writer) Missing(ctx context.Context, of []readmodel.Aside, since time.Time) ([]readmodel.Aside, error) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	type event struct {
		sku     string
		version uint64
	}
	skus, versions := make([]string, len(of)), make([]uint64, len(of))
	for i, a := range of {
		skus[i], versions[i] = a.SKU, a.Version
	}
	skus = slices.Compact(skus) // they come SKU by SKU
	rows, err := w.conn.Query(ctx, "SELECT DISTINCT sku, version FROM events WHERE event_time >= fromUnixTimestamp64Milli({since:Int64}) AND sku IN {skus:Array(String)} AND version IN {versions:Array(UInt64)}",
		clickhouse.Named("since", max(since.UnixMilli(), 0)), clickhouse.Named("skus", skus), clickhouse.Named("versions", versions))
	if err != nil {
		return nil, fmt.Errorf("look for %d events: %w", len(of), err)
	}
	defer rows.Close()
	there := make(map[event]bool)
	for rows.Next() {
		var e event
		if err := rows.Scan(&e.sku, &e.version); err != nil {
			return nil, fmt.Errorf("read an event: %w", err)
		}
		there[e] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for %d events: %w", len(of), err)
	}
	return slices.DeleteFunc(slices.Clone(of), func(a readmodel.Aside) bool { return there[event{a.SKU, a.Version}] }), nil
}
