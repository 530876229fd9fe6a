//go:build integration

package clickhouse

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// newReader returns a Reader of a database of the test's own, and a connection
// to write to it.
func newReader(t *testing.T) (*Reader, driver.Conn) {
	t.Helper()
	cfg := migrated(t)
	r, err := NewReader(cfg, 5*time.Second)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, connect(t, cfg)
}

func insert(t *testing.T, conn driver.Conn, into string, rows ...[]any) {
	t.Helper()
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+into)
	require.NoError(t, err)
	for _, row := range rows {
		require.NoError(t, batch.Append(row...))
	}
	require.NoError(t, batch.Send())
}

// oddIDs would break a query that was put together from text.
var oddIDs = []string{
	"o1", "a/b", `quote"s'`, `back\slash`, `\`, `\'`, `']`, `'], sleep(3), ['`, "{keys:String}", "a,b", "100%", "Größe 🪑", " ", strings.Repeat("x", 255),
}

func TestOrdersAndLines(t *testing.T) {
	r, conn := newReader(t)
	const into = "events (sku, version, type, event_time, orderid, qty, batchref)"
	now := time.Now()
	event := func(sku string, version uint64, kind, orderID, ref string) []any {
		return []any{sku, version, kind, now, orderID, int32(1), ref}
	}
	for range 2 { // as after a redelivery
		for _, id := range oddIDs {
			insert(t, conn, into,
				event("TABLE "+id, 2, "Allocated", id, "b2"),
				event("CHAIR "+id, 3, "Allocated", id, "late"),
				event("LAMP "+id, 2, "Allocated", id, "b3"))
			insert(t, conn, into, event("CHAIR "+id, 2, "Deallocated", id, "early"), event("LAMP "+id, 3, "Deallocated", id, "b3"))
		}
	}
	orders, err := r.Orders(t.Context(), append(oddIDs, "nobody's"))
	require.NoError(t, err)
	require.Len(t, orders, len(oddIDs))
	for _, id := range oddIDs {
		table := readmodel.Line{OrderID: id, SKU: "TABLE " + id, BatchRef: "b2", Qty: 1, Version: 2}
		require.Equal(t, []readmodel.Line{{OrderID: id, SKU: "CHAIR " + id, BatchRef: "late", Qty: 1, Version: 3}, table}, orders[id])
		key := readmodel.LineKey{OrderID: id, SKU: "TABLE " + id}
		lines, err := r.Lines(t.Context(), []readmodel.LineKey{key, {OrderID: id, SKU: "LAMP " + id}, {OrderID: "o1", SKU: "nothing"}})
		require.NoError(t, err)
		require.Equal(t, map[readmodel.LineKey]readmodel.Line{key: table}, lines)
	}
}

func TestOrderOfTooManyLines(t *testing.T) {
	r, conn := newReader(t)
	add := func(from, count int) {
		require.NoError(t, conn.Exec(t.Context(), fmt.Sprintf(
			"INSERT INTO order_lines_g1 (orderid, sku, version, batchref) SELECT 'large', toString(number), 1, 'b' FROM numbers(%d, %d)", from, count)))
	}
	add(0, readmodel.OrderLinesMax+10)
	orders, err := r.Orders(t.Context(), []string{"large"})
	require.NoError(t, err)
	require.Len(t, orders["large"], readmodel.OrderLinesMax+1, "one more shows that there are too many")
}

func TestFirstOutcomeCounts(t *testing.T) {
	r, conn := newReader(t)
	const into = "outcomes (commandid, event_id, type, sku, event_time, kpartition, koffset, commandsource, version, orderid, batchref, reason, message)"
	at := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	outcome := func(id, eventID, kind string, at time.Time, partition int32, offset int64) []any {
		return []any{id, eventID, kind, "CHAIR", at, partition, offset, "/shop", uint64(1 << 63), "o1", "b1", "r", "m " + kind}
	}
	for range 2 {
		for _, id := range append(oddIDs, "lotline.commands/3/7") {
			insert(t, conn, into,
				outcome(id, "0", "CommandIgnored", at.Add(time.Millisecond), 0, 1),
				outcome(id, "1", "CommandRejected", at, 3, 0),
				outcome(id, "2", "OutOfStock", at, 2, 10))
			insert(t, conn, into, outcome(id, "3", "Allocated", at, 2, 9))
		}
	}
	got, err := r.Outcomes(t.Context(), append(oddIDs, "lotline.commands/3/7", "unknown"))
	require.NoError(t, err)
	require.Len(t, got, len(oddIDs)+1)
	for id, outcome := range got {
		require.Equal(t, readmodel.Outcome{
			CommandID: id, CommandSource: "/shop", Type: "Allocated", SKU: "CHAIR", Version: 1 << 63, OrderID: "o1", BatchRef: "b1",
			Reason: "r", Message: "m Allocated", EventTime: at,
		}, outcome)
	}
}

func TestSKUsOfARef(t *testing.T) {
	r, conn := newReader(t)
	const into = "events (sku, version, type, event_time, batchref)"
	for range 2 {
		for _, id := range oddIDs {
			insert(t, conn, into,
				[]any{"TABLE", uint64(1), "BatchCreated", time.Now(), id}, []any{id, uint64(1), "BatchCreated", time.Now(), id})
		}
	}
	skus, err := r.SKUs(t.Context(), append(oddIDs, "unknown"))
	require.NoError(t, err)
	require.Len(t, skus, len(oddIDs))
	for id, of := range skus {
		require.ElementsMatch(t, []string{"TABLE", id}, of)
		require.IsIncreasing(t, of)
	}
}

func TestAvailability(t *testing.T) {
	r, conn := newReader(t)
	const into = "events (sku, version, type, event_time, batchref, batch_qty, batch_available, eta, available)"
	soon := time.Date(2031, 1, 2, 0, 0, 0, 0, time.UTC)
	for range 2 {
		for _, id := range oddIDs {
			insert(t, conn, into,
				[]any{id, uint64(2), "BatchCreated", time.Now(), "later", int32(10), int32(10), soon, int64(30)},
				[]any{id, uint64(1), "BatchCreated", time.Now(), "now", int32(20), int32(20), nil, int64(20)},
				[]any{id, uint64(3), "Allocated", time.Now(), "now", int32(20), int32(15), nil, int64(25)})
		}
	}
	got, err := r.Availability(t.Context(), append(oddIDs, "unknown"))
	require.NoError(t, err)
	require.Len(t, got, len(oddIDs))
	for _, id := range oddIDs {
		require.Equal(t, readmodel.Availability{SKU: id, Version: 3, Available: 25, Batches: []readmodel.Batch{
			{Ref: "now", Qty: 20, Available: 15, Version: 3}, {Ref: "later", Qty: 10, Available: 10, ETA: "2031-01-02", Version: 2},
		}}, got[id])
	}
}

func TestReaderCheckNamesWhatIsMissing(t *testing.T) {
	r, conn := newReader(t)
	require.NoError(t, r.Check(t.Context()))
	require.NoError(t, conn.Exec(t.Context(), "DROP TABLE outcomes"))
	require.ErrorContains(t, r.Check(t.Context()), "outcomes")
	_, err := r.Orders(t.Context(), []string{"o1"})
	require.NoError(t, err, "other questions go on")
}
