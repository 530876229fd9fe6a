package httpapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/stretchr/testify/require"
)

func TestWrites(t *testing.T) {
	const page = "/commands/0199-id"
	create := schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 10, ETA: "2031-01-02"}
	change := schemas.Command{Type: schemas.CommandChangeBatchQuantity, Ref: "b1", SKU: "CHAIR", Qty: 0}
	line := schemas.Command{Type: schemas.CommandAllocate, OrderID: "o1", SKU: "CHAIR", Qty: 3}
	free := schemas.Command{Type: schemas.CommandDeallocate, OrderID: "o1", SKU: "CHAIR"}
	const createBody, lineBody = `{"ref":"b1","sku":"CHAIR","qty":10,"eta":"2031-01-02"}`, `{"sku":"CHAIR","qty":3}`
	tests := map[string]struct {
		method, path, body string
		outcome            schemas.EventType // 0: not seen in time
		sent               schemas.Command
		status             int
		location           string
	}{
		"create":         {"POST", "/batches", createBody, schemas.EventBatchCreated, create, 201, "/batches/CHAIR/b1"},
		"create again":   {"POST", "/batches", createBody, schemas.EventCommandIgnored, create, 200, "/batches/CHAIR/b1"},
		"create later":   {"POST", "/batches", createBody, 0, create, 202, page},
		"change":         {"PATCH", "/batches/CHAIR/b1", `{"qty":0}`, schemas.EventBatchQuantityChanged, change, 200, "/batches/CHAIR/b1"},
		"change, naming": {"PATCH", "/batches/CHAIR/b1", `{"qty":0,"ref":"b1","sku":"CHAIR"}`, schemas.EventAllocated, change, 200, "/batches/CHAIR/b1"},
		"change later":   {"PATCH", "/batches/CHAIR/b1", `{"qty":0}`, 0, change, 202, page},
		"line":           {"POST", "/orders/o1/lines", lineBody, schemas.EventAllocated, line, 201, "/allocations/o1/CHAIR"},
		"line again":     {"POST", "/orders/o1/lines", lineBody, schemas.EventCommandIgnored, line, 200, "/allocations/o1/CHAIR"},
		"out of stock":   {"POST", "/orders/o1/lines", lineBody, schemas.EventOutOfStock, line, 200, page},
		"line later":     {"POST", "/orders/o1/lines", lineBody, 0, line, 202, page},
		"free":           {"DELETE", "/orders/o1/lines/CHAIR", "", schemas.EventDeallocated, free, 200, page},
		"free later":     {"DELETE", "/orders/o1/lines/CHAIR", "", 0, free, 202, page},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, outcome, token := new(fake), "pending", ""
			if test.outcome != 0 {
				f.outcome, outcome, token = &schemas.Event{Type: test.outcome}, test.outcome.String(), projected.Token{3: 40}.String()
			}
			resp, body := f.do(t, test.method, test.path, test.body, "Prefer", "wait=2")
			require.Equal(t, test.status, resp.StatusCode, body)
			require.Equal(t, test.location, resp.Header.Get("Location"))
			require.Equal(t, "wait=2", resp.Header.Get("Preference-Applied"))
			require.Equal(t, token, resp.Header.Get("Lotline-Token"))
			require.Equal(t, testRequestID, resp.Header.Get("X-Request-Id"))
			require.Equal(t, `{"commandid":"0199-id","outcome":"`+outcome+`"}`, body)
			require.Equal(t, []submit.Request{{Command: test.sent}}, f.requests)
		})
	}
}

// What became of a key long ago is told without a place in the events, so there is nothing to wait for.
func TestAnOutcomeOfTheReadModelHasNoToken(t *testing.T) {
	f := &fake{outcome: &schemas.Event{Type: schemas.EventAllocated}, known: true}
	resp, body := f.do(t, "POST", "/orders/o1/lines", `{"sku":"CHAIR","qty":3}`, "Idempotency-Key", "k-1")
	require.Equal(t, 201, resp.StatusCode, body)
	require.Empty(t, resp.Header.Values("Lotline-Token"))
	resp, body = f.do(t, "POST", "/commands", `{"type":"Allocate","id":"k-1","orderid":"o1","sku":"CHAIR","qty":3}`, "Content-Type", ndjsonType)
	require.Equal(t, 200, resp.StatusCode, body)
	require.Empty(t, resp.Header.Values("Lotline-Token"))
}

func TestWritesToOddPaths(t *testing.T) {
	for _, id := range oddIDs {
		t.Run(id, func(t *testing.T) {
			f, at := &fake{outcome: &schemas.Event{Type: schemas.EventBatchCreated}}, pathSegment(id)
			resp, body := f.do(t, "PATCH", "/batches/"+at+"/"+at, `{"qty":7}`)
			require.Equal(t, 200, resp.StatusCode, body)
			require.Equal(t, schemas.Command{Type: schemas.CommandChangeBatchQuantity, SKU: id, Ref: id, Qty: 7}, *f.sent)
			where, err := url.Parse(resp.Header.Get("Location"))
			require.NoError(t, err)
			require.Equal(t, "/batches/"+id+"/"+id, where.Path)

			resp, body = f.do(t, "POST", "/orders/"+at+"/lines", `{"sku":"s","qty":7}`)
			require.Equal(t, 200, resp.StatusCode, body)
			require.Equal(t, schemas.Command{Type: schemas.CommandAllocate, OrderID: id, SKU: "s", Qty: 7}, *f.sent)

			resp, body = f.do(t, "DELETE", "/orders/"+at+"/lines/"+at, "")
			require.Equal(t, 200, resp.StatusCode, body)
			require.Equal(t, schemas.Command{Type: schemas.CommandDeallocate, OrderID: id, SKU: id}, *f.sent)
		})
	}
}

func TestOneBatch(t *testing.T) {
	f := &fake{availability: map[string]readmodel.Availability{"a/b": {SKU: "a/b", Version: 7, Batches: []readmodel.Batch{
		{Ref: "b0", Qty: 1}, {Ref: "/", Qty: 10, Available: 0, ETA: "2031-01-02"},
	}}}}
	resp, body := f.do(t, "GET", "/batches/a%2Fb/%2F", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, `{"sku":"a/b","ref":"/","qty":10,"available":0,"eta":"2031-01-02"}`, body)
	resp, body = f.do(t, "GET", "/batches/a%2Fb/b2", "")
	require.Equal(t, 404, resp.StatusCode)
	require.Equal(t, problem(404, "No batch b2 of sku a/b is known, or not yet"), body)
	for _, path := range []string{"/batches//b", "/batches/a/", "/batches/%0A/b", "/batches/%FF/b", "/batches/a/" + strings.Repeat("x", 256)} {
		resp, _ = f.do(t, "GET", path, "")
		require.Equal(t, 400, resp.StatusCode, path)
	}
}

func TestIdempotencyKey(t *testing.T) {
	const line = `{"sku":"CHAIR","qty":3}`
	for given, key := range map[string]string{
		"k-1": "k-1", `"k-1"`: "k-1", `"say \"so\" \\"`: `say "so" \`, "Größe": "Größe", strings.Repeat("x", 255): strings.Repeat("x", 255),
	} {
		f := &fake{outcome: &schemas.Event{Type: schemas.EventAllocated}}
		resp, body := f.do(t, "POST", "/orders/o1/lines", line, "Idempotency-Key", given)
		require.Equal(t, 201, resp.StatusCode)
		require.Equal(t, key, f.requests[0].Key)
		require.Contains(t, body, `"outcome":"Allocated"`)
	}
	for given, fault := range map[string]string{
		`""`: "must not be empty", `"k`: "begins with a quote", strings.Repeat("x", 256): "256 bytes", "\xff": "not valid UTF-8", "a\tb": "control character",
	} {
		f := new(fake)
		resp, body := f.do(t, "POST", "/orders/o1/lines", line, "Idempotency-Key", given)
		require.Equal(t, 400, resp.StatusCode)
		require.Contains(t, body, fault)
		require.Nil(t, f.sent)
	}
	f := &fake{err: submit.ErrKeyReused}
	const reused = "The id k-1 was used for another command; choose a new one for each"
	resp, body := f.do(t, "POST", "/orders/o1/lines", line, "Idempotency-Key", "k-1")
	require.Equal(t, 422, resp.StatusCode)
	require.Equal(t, problem(422, reused), body)
	resp, body = f.do(t, "POST", "/allocate", `{"orderid":"o1","sku":"CHAIR","qty":3}`, "Idempotency-Key", "k-1")
	require.Equal(t, 422, resp.StatusCode)
	require.Equal(t, `{"message":"`+reused+`"}`, body)
}

func TestManyCommands(t *testing.T) {
	f := &fake{outcome: &schemas.Event{Type: schemas.EventBatchCreated}}
	body := `{"type":"CreateBatch","id":"c-1","ref":"b1","sku":"CHAIR","qty":10,"eta":null}

 {"type":"Allocate","orderid":"o1","sku":"CHAIR","qty":3}
{"type":"Allocate","orderid":"o1","sku":"CHAIR","qty":0}
{"type":"Paint","orderid":"o1"}
{"type":"Allocate","id":7,"orderid":"o1","sku":"CHAIR","qty":3}
{"type":"Allocate","id":"\u0000","orderid":"o1","sku":"CHAIR","qty":3}
{"type":"Deallocate","id":"c-1","orderid":"o1","sku":"CHAIR"}
nonsense
{"type":"Deallocate","id":"c-2","orderid":"o1","sku":"CHAIR"}`
	resp, answer := f.do(t, "POST", "/commands", body, "Content-Type", "application/x-ndjson", "Prefer", "wait=3")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "application/x-ndjson", resp.Header.Get("Content-Type"))
	require.Equal(t, "wait=3", resp.Header.Get("Preference-Applied"))
	require.Equal(t, projected.Token{3: 42}.String(), resp.Header.Get("Lotline-Token"), "the last of all")
	require.Equal(t, []string{
		`{"line":1,"status":201,"commandid":"c-1","outcome":"BatchCreated"}`,
		`{"line":3,"status":200,"commandid":"0199-id","outcome":"BatchCreated"}`,
		`{"line":4,"status":400,"message":"qty 0 is not from 1 to 1000000000"}`,
		`{"line":5,"status":400,"message":"The type is \"Paint\" and must be CreateBatch, Allocate, Deallocate or ChangeBatchQuantity"}`,
		`{"line":6,"status":400,"message":"type and id must be strings"}`,
		`{"line":7,"status":400,"message":"The id contains a control character"}`,
		`{"line":8,"status":400,"commandid":"c-1","message":"The id is that of line 1 too; a command has one of its own"}`,
		`{"line":9,"status":400,"message":"the data is not valid JSON at byte 1: invalid character 'o' in literal null (expecting 'u')"}`,
		`{"line":10,"status":200,"commandid":"c-2","outcome":"BatchCreated"}`,
	}, strings.Split(answer, "\n"))
	require.Len(t, f.requests, 3)
	require.Equal(t, submit.Request{Key: "c-2", Command: schemas.Command{Type: schemas.CommandDeallocate, OrderID: "o1", SKU: "CHAIR"}}, f.requests[2])
}

func TestATokenOfAllThatOneRequestMayHaveIsRead(t *testing.T) {
	token := projected.Token{}
	for partition := range int32(commandsMax) {
		token.Add(partition, 5_000_000_000)
	}
	read, err := projected.ParseToken(token.String())
	require.NoError(t, err)
	require.Equal(t, token, read)
}

func TestManyCommandsWithAByteOrderMark(t *testing.T) {
	f := new(fake)
	const lines = "\uFEFF" + `{"type":"Deallocate","id":"c-1","orderid":"o1","sku":"CHAIR"}` + "\r\n" + `{"type":"Deallocate","id":"c-2","orderid":"o1","sku":"CHAIR"}`
	resp, answer := f.do(t, "POST", "/commands", lines, "Content-Type", "application/x-ndjson")
	require.Equal(t, 200, resp.StatusCode)
	require.NotContains(t, answer, "400")
	require.Len(t, f.requests, 2)
}

func TestManyCommandsHaveBounds(t *testing.T) {
	const one = `{"type":"Deallocate","orderid":"o1","sku":"CHAIR"}` + "\n"
	for name, test := range map[string]struct {
		body   string
		status int
		detail string
	}{
		"none":     {" \n\n", 400, "The body has no commands; send 1 to 1000, each on a line of its own"},
		"1001":     {strings.Repeat(one, 1001), 400, "The body has more than 1000 commands; send 1 to 1000, each on a line of its own"},
		"too long": {strings.Repeat(" ", manyBytesMax+1), 413, "The body has more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f := new(fake)
			resp, body := f.do(t, "POST", "/commands", test.body, "Content-Type", "application/x-ndjson")
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, problem(test.status, test.detail), body)
			require.Nil(t, f.sent)
		})
	}
	f := new(fake)
	resp, body := f.do(t, "POST", "/commands", one, "Content-Type", "application/x-ndjson", "Idempotency-Key", "k")
	require.Equal(t, 400, resp.StatusCode)
	require.Equal(t, problem(400, "An Idempotency-Key names one command; give each line its id instead"), body)
	resp, _ = f.do(t, "POST", "/commands", one)
	require.Equal(t, 415, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Accept"), "application/x-ndjson")
	resp, body = f.do(t, "POST", "/commands", strings.Repeat(one, 1000), "Content-Type", "application/jsonl")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 1000, strings.Count(body, "pending"))
}

func TestEncodedBodies(t *testing.T) {
	f := new(fake)
	for _, coding := range []string{"gzip", "identity, gzip", "x"} {
		resp, body := f.do(t, "POST", "/orders/o1/lines", `{"sku":"CHAIR","qty":3}`, "Content-Encoding", coding)
		require.Equal(t, 415, resp.StatusCode)
		require.Equal(t, "identity", resp.Header.Get("Accept-Encoding"))
		require.Equal(t, problem(415, "Send the body as it is, without a Content-Encoding"), body)
	}
	require.Nil(t, f.sent)
	for _, coding := range []string{"", "Identity"} {
		resp, _ := f.do(t, "POST", "/orders/o1/lines", `{"sku":"CHAIR","qty":3}`, "Content-Encoding", coding)
		require.Equal(t, 202, resp.StatusCode)
	}
}

func TestBadInputToNewPaths(t *testing.T) {
	deep := strings.Repeat("[", 99) + strings.Repeat("]", 99)
	for i, test := range []struct{ method, path, body, detail string }{
		{"POST", "/batches", `{"ref":"b","sku":"s","qty":1.5,"eta":null}`, "qty 1.5 is not a whole number"},
		{"POST", "/batches", `{"ref":"b","sku":"s","qty":1,"eta":"soon"}`, "is not a calendar date"},
		{"POST", "/batches", `{"ref":"b","sku":"s\u0000","qty":1,"eta":null}`, "control character"},
		{"PATCH", "/batches/s/b", `{"qty":-1}`, "qty -1 is not from 0"},
		{"PATCH", "/batches/s/b", `{"qty":1e30}`, "qty 1e30 is not a whole number"},
		{"PATCH", "/batches/s/b", `{}`, "qty is missing"},
		{"PATCH", "/batches/s/b", `[]`, "must be a JSON object"},
		{"PATCH", "/batches/s/b", `null`, "must be a JSON object"},
		{"PATCH", "/batches/s/b", `{"qty":1,"qty":2}`, "appears twice"},
		{"PATCH", "/batches/s/b", `{"qty":1,"x":` + deep + `}`, "deeper than"},
		{"PATCH", "/batches/s/b", `{"qty":1,"sku":"other"}`, "another sku than the path"},
		{"PATCH", "/batches/s/b", `{"qty":1,"ref":null}`, "another ref than the path"},
		{"PATCH", "/batches/s/%00", `{"qty":1}`, "control character"},
		{"PATCH", "/batches/%FF/b", `{"qty":1}`, "not valid UTF-8"},
		{"PATCH", "/batches/" + strings.Repeat("x", 256) + "/b", `{"qty":1}`, "256 bytes"},
		{"POST", "/orders/o/lines", `{"sku":"s","qty":0}`, "qty 0 is not from 1"},
		{"POST", "/orders/o/lines", `{"sku":"s","qty":-3}`, "qty -3 is not from 1"},
		{"POST", "/orders/o/lines", `{"qty":1}`, "sku is missing"},
		{"POST", "/orders/o/lines", `{"sku":"s","qty":1,"orderid":"p"}`, "another orderid than the path"},
		{"POST", "/orders//lines", `{"sku":"s","qty":1}`, "must not be empty"},
		{"POST", "/orders/a%0Ab/lines", `{"sku":"s","qty":1}`, "control character"},
		{"DELETE", "/orders/o/lines/", "", "must not be empty"},
		{"DELETE", "/orders/%FF/lines/s", "", "not valid UTF-8"},
		{"DELETE", "/orders/o/lines/%7F", "", "control character"},
	} {
		t.Run(fmt.Sprint(i, test.path), func(t *testing.T) {
			f := new(fake)
			resp, body := f.do(t, test.method, test.path, test.body)
			require.Equal(t, 400, resp.StatusCode, body)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
			require.Contains(t, body, test.detail)
			require.Nil(t, f.sent, "nothing may reach Kafka")
		})
	}
}
