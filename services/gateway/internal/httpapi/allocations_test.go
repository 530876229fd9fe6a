package httpapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/stretchr/testify/require"
)

// oddIDs are ids that the wire format allows and paths make hard.
var oddIDs = []string{
	"o1", "a/b", "a//b", "/", "..", ".", "../readyz", "a b", "a+b", "100%", "%2F", "a?b=c#d", `quote"s'`, `back\slash`,
	"Größe", "🪑/🛋️", "<script>", "a;b", strings.Repeat("x", 255),
}

func TestAllocations(t *testing.T) {
	for _, id := range oddIDs {
		t.Run(id, func(t *testing.T) {
			f := &fake{allocations: map[string][]readmodel.Line{id: {{SKU: "CHAIR", BatchRef: "b<1>"}, {SKU: "TABLE", BatchRef: "b2"}}}}
			resp, body := f.do(t, "GET", "/allocations/"+pathSegment(id), "")
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.Equal(t, `[{"sku":"CHAIR","batchref":"b<1>"},{"sku":"TABLE","batchref":"b2"}]`, body)
		})
	}
}

func TestOneLine(t *testing.T) {
	for _, id := range oddIDs {
		t.Run(id, func(t *testing.T) {
			f := &fake{allocations: map[string][]readmodel.Line{id: {
				{OrderID: id, SKU: "other", BatchRef: "b1"},
				{OrderID: id, SKU: id, BatchRef: "b2", Qty: 3, ETA: "2031-01-02", Version: 18446744073709551615},
			}}}
			resp, body := f.do(t, "GET", "/allocations/"+pathSegment(id)+"/"+pathSegment(id), "")
			require.Equal(t, 200, resp.StatusCode, body)
			var line allocatedLine
			require.NoError(t, json.Unmarshal([]byte(body), &line))
			eta := "2031-01-02"
			require.Equal(t, allocatedLine{OrderID: id, SKU: id, Qty: 3, BatchRef: "b2", ETA: &eta, Version: 18446744073709551615}, line)
		})
	}
	f := &fake{allocations: map[string][]readmodel.Line{"o1": {{OrderID: "o1", SKU: "CHAIR", BatchRef: "b1"}}}}
	resp, body := f.do(t, "GET", "/allocations/o1/CHAIR", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, `{"orderid":"o1","sku":"CHAIR","qty":0,"batchref":"b1","eta":null,"version":0}`, body)
	resp, body = f.do(t, "GET", "/allocations/o1/TABLE", "")
	require.Equal(t, 404, resp.StatusCode)
	require.Equal(t, problem(404, "No line of order o1 for sku TABLE is allocated"), body)
	for _, path := range []string{"/allocations//CHAIR", "/allocations/o1/", "/allocations/o1/%00", "/allocations/%FF/CHAIR"} {
		resp, _ = f.do(t, "GET", path, "")
		require.Equal(t, 400, resp.StatusCode, path)
	}
}

func TestAllocationsOfUnknownOrImpossibleOrders(t *testing.T) {
	tests := map[string]struct {
		path, body string
		status     int
	}{
		"unknown":     {"o1", `{"message":"No line of order o1 is allocated"}`, 404},
		"unknown odd": {"%3Cb%3E%22", `{"message":"No line of order <b>\" is allocated"}`, 404},
		"NUL":         {"o%001", `{"message":"The orderid contains a control character"}`, 400},
		"newline":     {"o%0A1", `{"message":"The orderid contains a control character"}`, 400},
		"not UTF-8":   {"o%FF", `{"message":"The orderid is not valid UTF-8"}`, 400},
		"too long":    {strings.Repeat("x", 256), `{"message":"The orderid is 256 bytes; at most 255 are accepted"}`, 400},
		"empty":       {"", `{"message":"The orderid must not be empty"}`, 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := new(fake).do(t, "GET", "/allocations/"+test.path, "")
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, test.body, body)
		})
	}
}
