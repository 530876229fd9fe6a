//go:build integration

package clickhouse

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

var dawn = time.Date(2031, 2, 3, 4, 5, 6, 7e6, time.UTC)

// happened is an event of a SKU, a minute after the one of the version before.
func happened(e schemas.Event) readmodel.Record {
	e.CommandID, e.CommandSource, e.Last = fmt.Sprintf("c-%s-%d", e.SKU, e.Version), "/test", true
	return readmodel.Record{
		Event: e, ID: fmt.Sprintf("%s/%d/%s", e.SKU, e.Version, e.Type), Time: dawn.Add(time.Duration(e.Version) * time.Minute), Offset: int64(e.Version),
	}
}

func refused(e schemas.Event, minute int) readmodel.Record {
	r := happened(e)
	r.Time, r.ID = dawn.Add(time.Duration(minute)*time.Minute), fmt.Sprint("refused-", minute)
	return r
}

func TestHistoryAndStory(t *testing.T) {
	cfg := migrated(t)
	w, r := newWriter(t, cfg), newReader(t, cfg)
	chairs := []readmodel.Record{
		happened(schemas.Event{Type: schemas.EventBatchCreated, SKU: "CHAIR", Version: 1, BatchRef: "b", BatchQty: 9, BatchAvailable: 9, ETA: "2032-01-02", Available: 9}),
		happened(schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", Version: 2, OrderID: "o", Qty: 5, BatchRef: "b", BatchQty: 9, BatchAvailable: 4, ETA: "2032-01-02", Available: 4}),
		happened(schemas.Event{Type: schemas.EventOutOfStock, SKU: "CHAIR", Version: 3, OrderID: "other", Qty: 5, Available: 4}),
		happened(schemas.Event{Type: schemas.EventDeallocated, SKU: "CHAIR", Version: 4, OrderID: "o", Qty: 5, BatchRef: "b", BatchQty: 9, BatchAvailable: 9, ETA: "2032-01-02", Available: 9, Reason: "requested"}),
	}
	rejected := refused(schemas.Event{Type: schemas.EventCommandRejected, SKU: "SOFA", OrderID: "o", Reason: "invalid_sku", Message: "Invalid sku SOFA"}, 3)
	table := happened(schemas.Event{Type: schemas.EventOutOfStock, SKU: "TABLE", Version: 1, OrderID: "o", Qty: 2})
	require.NoError(t, w.Apply(t.Context(), append(chairs, rejected, table)))
	require.NoError(t, w.Apply(t.Context(), []readmodel.Record{chairs[3], chairs[1], rejected}), "events come again, and answers are the same")

	versions := func(changes []readmodel.Change, err error) (told []string) {
		require.NoError(t, err)
		for _, c := range changes {
			told = append(told, fmt.Sprintf("%s %s %d", c.Type, c.SKU, c.Version))
		}
		return told
	}
	require.Equal(t, []string{"BatchCreated CHAIR 1", "Allocated CHAIR 2", "OutOfStock CHAIR 3", "Deallocated CHAIR 4"}, versions(r.History(t.Context(), "CHAIR", 0, 10)))
	require.Equal(t, []string{"OutOfStock CHAIR 3", "Deallocated CHAIR 4"}, versions(r.History(t.Context(), "CHAIR", 0, 2)), "the newest")
	require.Equal(t, []string{"BatchCreated CHAIR 1", "Allocated CHAIR 2"}, versions(r.History(t.Context(), "CHAIR", 3, 2)), "those before")
	require.Empty(t, versions(r.History(t.Context(), "CHAIR", 1, 10)))
	require.Empty(t, versions(r.History(t.Context(), "nobody's", 0, 10)))

	require.Equal(t, []string{"OutOfStock TABLE 1", "Allocated CHAIR 2", "CommandRejected SOFA 0", "Deallocated CHAIR 4"}, versions(r.Story(t.Context(), "o", 10)), "in order of time")
	require.Equal(t, []string{"OutOfStock TABLE 1", "Allocated CHAIR 2"}, versions(r.Story(t.Context(), "o", 2)), "the first")
	require.Empty(t, versions(r.Story(t.Context(), "nobody's", 10)))
	story, err := r.Story(t.Context(), "o", 10)
	require.NoError(t, err)
	require.Equal(t, readmodel.Change{
		Type: "Allocated", SKU: "CHAIR", Version: 2, CommandID: "c-CHAIR-2", CommandSource: "/test", OrderID: "o", Qty: 5, BatchRef: "b",
		BatchQty: 9, BatchAvailable: 4, ETA: "2032-01-02", Available: 4, EventTime: chairs[1].Time,
	}, story[1])
	require.Equal(t, "Invalid sku SOFA", story[2].Message)
}

// Questions about the past read the granules that may know, not the whole log.
func TestThePastIsFoundByIndex(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	// 200,000 events in a part, of 500 SKUs and 100,000 orders, of one hour.
	require.NoError(t, conn.Exec(t.Context(), `INSERT INTO events (sku, version, type, event_time, commandid, orderid, qty, batchref, koffset)
		SELECT 'sku-' || toString(intDiv(number, 400)), number % 400 + 1, 'Allocated', toDateTime64('2031-01-02 03:00:00', 3, 'UTC'), toString(number), 'order-' || toString(intDiv(number, 2)), 1, 'b', number
		FROM numbers(200000)`))
	for question, sql := range map[string]string{"history": "sku = 'sku-77' AND version >= 300 AND version < 401", "story": "orderid = 'order-77777'"} {
		var plan strings.Builder
		for _, line := range lines(t, conn, "EXPLAIN indexes = 1 SELECT version FROM events WHERE "+sql) {
			plan.WriteString(line + "\n")
		}
		require.Regexp(t, `Skip[\s\S]*ix_(sku|orderid)[\s\S]*Granules: [12]/`, plan.String(), question)
	}
}
