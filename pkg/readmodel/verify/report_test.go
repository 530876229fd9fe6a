package verify

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
)

// Postgres and ClickHouse agree at version 5 of a SKU. The topic has lost its newest events, or was made anew and has none: there is
// no hole in it, and ClickHouse, which is wrong by it, has the only copy of the others.
func TestTheOnlyCopyIsNotRepaired(t *testing.T) {
	for _, test := range []struct {
		name     string
		topicHas uint64
		quiet    bool // nothing waits to be published; on a busy system something always does
	}{
		{"the tail is lost", 3, true},
		{"the tail is lost, of a busy system", 3, false},
		{"all is lost", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, topic := newFold(), newFold()
			for v := uint64(1); v <= 5; v++ {
				e := logged{Event: schemas.Event{SKU: "CHAIR", Version: v, Type: schemas.EventAllocated, OrderID: fmt.Sprintf("o-%d", v), BatchRef: "b", Qty: 1, BatchQty: 100, BatchAvailable: 100 - int32(v), Available: 100 - int64(v)}}
				if v == 1 {
					e.Type, e.OrderID = schemas.EventBatchCreated, ""
				}
				all.add(&e)
				if v <= test.topicHas {
					topic.add(&e)
				}
			}
			both := all.sum("CHAIR", all.products["CHAIR"])
			j, found := &judge{fold: topic}, new(suspect)
			for range looks {
				mark := j.marks(scope{skus: []string{"CHAIR"}}, map[sumKey]sum{{sku: "CHAIR"}: both})["CHAIR"]
				judgePostgres(&found.postgres, both, topic.products["CHAIR"], mark, test.quiet)
				judgeClickHouse(&found.clickHouse, both, topic.products["CHAIR"], mark, true)
			}
			j.open, j.log = map[string]*suspect{"CHAIR": found}, new(eventLog)
			report := new(Report)
			require.NoError(t, j.report(t.Context(), report, nil))
			require.Equal(t, []string{"CHAIR"}, report.wrongIn(storeClickHouse))
			skus, why := report.Repairable()
			require.Empty(t, skus)
			require.Contains(t, why, "1 SKUs are not repaired: Postgres does not have what the events come to either")
		})
	}
}
