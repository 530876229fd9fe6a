//go:build integration

package path

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/stack"
)

// TestTheJourneyThroughEachReadModel is the book's: batches come, orders are allocated, a quantity is cut and a line has to
// move; whoever asks gets the same answers, whichever store they come from.
func TestTheJourneyThroughEachReadModel(t *testing.T) {
	for _, store := range []string{"clickhouse", "postgres", "redis", "write-side"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			isolation.OnKfake(t, func(t *testing.T, on stack.Servers) {
				on.ReadModel, on.Redis = store, isolation.Setting(t, "LOTLINE_TEST_REDIS")
				onServers(t, on, journey)
			})
		})
	}
}

func journey(p *pipeline) {
	p.produce([]*kgo.Record{
		record("c-1", createBatch, "SMALL-TABLE", `{"ref":"in-stock","sku":"SMALL-TABLE","qty":20,"eta":null}`),
		record("c-2", createBatch, "SMALL-TABLE", `{"ref":"shipment","sku":"SMALL-TABLE","qty":100,"eta":"2031-01-02"}`),
		record("c-3", createBatch, "RED-CHAIR", `{"ref":"chairs","sku":"RED-CHAIR","qty":10,"eta":null}`),
		record("c-4", allocate, "SMALL-TABLE", `{"orderid":"o-1","sku":"SMALL-TABLE","qty":8}`),
		record("c-5", allocate, "RED-CHAIR", `{"orderid":"o-1","sku":"RED-CHAIR","qty":1}`),
		record("c-6", allocate, "SMALL-TABLE", `{"orderid":"o-2","sku":"SMALL-TABLE","qty":9}`),
		record("c-7", allocate, "RED-CHAIR", `{"orderid":"o-3","sku":"RED-CHAIR","qty":100}`), // out of stock
	})
	p.answers("/allocations/o-1", `[{"sku":"RED-CHAIR","batchref":"chairs"},{"sku":"SMALL-TABLE","batchref":"in-stock"}]`)
	p.answers("/allocations/o-2", `[{"sku":"SMALL-TABLE","batchref":"in-stock"}]`)
	p.answers("/availability/RED-CHAIR", `"version":3,"available":9`, `"ref":"chairs","qty":10,"available":9,"eta":null`)

	// By the reference alone; the newest line leaves, and is offered to the SKU's other batches.
	status, body := p.post("/change_batch_quantity", `{"ref":"in-stock","qty":10}`)
	require.Equal(p, http.StatusAccepted, status, body)
	p.answers("/allocations/o-2", `[{"sku":"SMALL-TABLE","batchref":"shipment"}]`)
	p.answers("/availability/SMALL-TABLE", `"available":93`,
		`{"ref":"in-stock","qty":10,"available":2,"eta":null},{"ref":"shipment","qty":100,"available":91,"eta":"2031-01-02"}`)
	status, body = p.post("/change_batch_quantity", `{"ref":"shipment","qty":5}`)
	require.Equal(p, http.StatusAccepted, status, body)
	p.answers("/availability/SMALL-TABLE", `"available":7`)
	for _, nobody := range []string{"/allocations/o-2", "/allocations/o-3", "/availability/NO-SUCH"} {
		require.EventuallyWithT(p, func(c *assert.CollectT) { // a store may show the SKU's row before the line's
			status, body := get(c, p.gateway+nobody)
			require.Equal(c, http.StatusNotFound, status, body)
		}, answerWithin, lookEvery)
	}
	if p.on.ReadModel == "write-side" {
		status, body := get(p, p.gateway+"/commands/c-7")
		require.Equal(p, http.StatusNotImplemented, status)
		require.Contains(p, body, "does not keep what became of commands")
		return
	}
	p.answers("/commands/c-7", `"outcome":"OutOfStock"`)
}
