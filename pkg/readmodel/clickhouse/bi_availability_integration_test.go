//go:build integration

package clickhouse

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// A SKU's commands come over two partitions: that of 11:01 is decided (version 2) before that of 10:59 (version 3). What is left
// from then on is what the last decision left.
func TestAvailabilityOfASKUOnTwoPartitions(t *testing.T) {
	cfg := migrated(t)
	conn, w := connect(t, cfg), newWriter(t, cfg)
	record := func(n int64, clock string, e schemas.Event) readmodel.Record {
		at, err := time.Parse(time.DateTime, "2025-03-03 "+clock+":00")
		require.NoError(t, err)
		e.Last, e.BatchRef, e.BatchQty, e.BatchAvailable, e.CommandID = true, "b", 10, int32(e.Available), clock
		return readmodel.Record{Event: e, ID: clock, Time: at, Offset: n}
	}
	require.NoError(t, w.Apply(t.Context(), []readmodel.Record{
		record(0, "09:00", schemas.Event{SKU: "CUP", Version: 1, Type: schemas.EventBatchCreated, Available: 10}),
		record(1, "11:01", schemas.Event{SKU: "CUP", Version: 2, Type: schemas.EventAllocated, OrderID: "o1", Qty: 4, Available: 6}),
		record(2, "10:59", schemas.Event{SKU: "CUP", Version: 3, Type: schemas.EventAllocated, OrderID: "o2", Qty: 6}),
		record(3, "13:00", schemas.Event{SKU: "POT", Version: 1, Type: schemas.EventBatchCreated, Available: 10}),
	}))
	refresh(t, conn)
	require.Equal(t, []string{"09 10 true", "10 0 false", "11 0 false", "12 0 false", "13 0 false"},
		lines(t, conn, "SELECT formatDateTime(hour, '%H') || ' ' || toString(units_left) || ' ' || toString(available) FROM bi_availability WHERE sku = 'CUP' ORDER BY hour"))
}

// Nothing has happened to thousands of SKUs for ten years. They are counted out within the limits of the role for it.
func TestAvailabilityOfQuietSKUs(t *testing.T) {
	const skus = 5000
	conn := connect(t, migrated(t))
	require.NoError(t, conn.Exec(t.Context(), `INSERT INTO sku_hours (hour, sku, version, available, refreshed_at)
		SELECT toStartOfHour(now()) - INTERVAL if(number = 0, 0, 3650) DAY, 'SKU-' || toString(number), 1, 1, now64(3) FROM numbers(?)`, skus))
	limited := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_memory_usage": 2_000_000_000, "max_threads": 4, "max_execution_time": 60}))
	var left int64
	require.NoError(t, conn.QueryRow(limited, "SELECT sum(units_left) FROM bi_availability WHERE hour >= toStartOfHour(now())").Scan(&left))
	require.EqualValues(t, skus, left)
}
