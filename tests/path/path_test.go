//go:build integration

package path

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	createBatch = "lotline.command.v1.CreateBatch"
	deallocate  = "lotline.command.v1.Deallocate"
	allocate    = "lotline.command.v1.Allocate"
	changeQty   = "lotline.command.v1.ChangeBatchQuantity"
)

const lines = "SELECT orderid, batchref, qty, ifNull(toString(eta), '-') FROM order_lines FINAL ORDER BY orderid FORMAT CSV"

func TestCommandsOverKafka(t *testing.T) {
	onEachKafka(t, func(p *pipeline) {
		p.produce([]*kgo.Record{
			record("c-1", createBatch, "SMALL-TABLE", `{"ref":"in-stock","sku":"SMALL-TABLE","qty":20,"eta":null}`),
			record("c-2", createBatch, "SMALL-TABLE", `{"ref":"shipment","sku":"SMALL-TABLE","qty":100,"eta":"2031-01-02"}`),
			record("c-3", allocate, "SMALL-TABLE", `{"orderid":"o-1","sku":"SMALL-TABLE","qty":8}`),
			record("c-4", allocate, "SMALL-TABLE", `{"orderid":"o-2","sku":"SMALL-TABLE","qty":9}`),
			record("c-5", changeQty, "SMALL-TABLE", `{"ref":"in-stock","sku":"SMALL-TABLE","qty":10}`),
		})
		p.answers("/commands/c-5", `"outcome":"Allocated"`) // the last event of the cut: the line has moved
		p.answers("/allocations/o-1", `[{"sku":"SMALL-TABLE","batchref":"in-stock"}]`)
		p.answers("/allocations/o-2", `[{"sku":"SMALL-TABLE","batchref":"shipment"}]`)
		p.answers("/availability/SMALL-TABLE?qty=5", `{"sku":"SMALL-TABLE","version":7,"available":93,"batches":[{"ref":"in-stock","qty":10,"available":2,"eta":null},`+
			`{"ref":"shipment","qty":100,"available":91,"eta":"2031-01-02"}],"promise":{"qty":5,"possible":true,"eta":"2031-01-02"}}`)
		p.selects(lines, `"o-1","in-stock",8,"-"`+"\n"+`"o-2","shipment",9,"2031-01-02"`)
		p.selects("SELECT ref, qty, available FROM stock FINAL ORDER BY ref FORMAT CSV", `"in-stock",10,2`+"\n"+`"shipment",100,91`)

		var types []string
		for i, r := range p.consume(p.topics.Events.Name, 7) {
			var event struct{ Version int }
			require.NoError(p, json.Unmarshal(r.Value, &event))
			require.Equal(p, i+1, event.Version)
			require.Equal(p, "SMALL-TABLE", string(r.Key))
			types = append(types, header(r, "ce_type"))
		}
		prefix := "lotline.event.v1."
		require.Equal(p, []string{
			prefix + "BatchCreated", prefix + "BatchCreated", prefix + "Allocated", prefix + "Allocated",
			prefix + "Deallocated", prefix + "BatchQuantityChanged", prefix + "Allocated",
		}, types)
	})
}

func TestCommandsOverHTTP(t *testing.T) {
	onEachKafka(t, func(p *pipeline) {
		status, _ := p.post("/add_batch", `{"ref":"red-1","sku":"RED-CHAIR","qty":10,"eta":null}`)
		require.Equal(p, http.StatusCreated, status)
		status, body := p.post("/allocate", `{"orderid":"o-1","sku":"RED-CHAIR","qty":3}`)
		require.Equal(p, http.StatusAccepted, status)
		require.NotContains(p, body, "red-1", "an answer to a command names no batch")
		p.answers("/allocations/o-1", `[{"sku":"RED-CHAIR","batchref":"red-1"}]`)
		p.selects(lines, `"o-1","red-1",3,"-"`)

		status, _ = p.post("/change_batch_quantity", `{"ref":"red-1","qty":2}`)
		require.Equal(p, http.StatusAccepted, status)
		p.selects("SELECT count() FROM order_lines FINAL", "0")
		status, _ = get(p, p.gateway+"/allocations/o-1")
		require.Equal(p, http.StatusNotFound, status)

		for _, refused := range []struct {
			path, body, answer string
			status             int
		}{
			{"/allocate", `{"orderid":"o-2","sku":"NO-SUCH","qty":1}`, `{"message":"Invalid sku NO-SUCH"}`, http.StatusBadRequest},
			{"/allocate", `{"orderid":"o-2","sku":"RED-CHAIR","qty":-3}`, `{"message":"qty -3 is not from 1 to 1000000000"}`, http.StatusBadRequest},
			{"/allocate", "{\"orderid\":\"\xff\",\"sku\":\"RED-CHAIR\",\"qty\":1}", `{"message":"the data is not valid UTF-8 at byte 12"}`, http.StatusBadRequest},
			{"/change_batch_quantity", `{"ref":"b-9","qty":2}`, `{"message":"No batch with the ref b-9 is known"}`, http.StatusNotFound},
		} {
			status, body := p.post(refused.path, refused.body)
			require.Equal(p, refused.status, status, refused.body)
			require.Equal(p, refused.answer, body)
		}
	})
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
