package httpapi

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// chair has 3 here, 40 in January, none left of a batch that comes first, and 9 in March.
func chair(sku string) *fake {
	return &fake{availability: map[string]readmodel.Availability{sku: {SKU: sku, Version: 7, Available: 52, Batches: []readmodel.Batch{
		{Ref: "here", Qty: 10, Available: 3},
		{Ref: "gone", Qty: 5, ETA: "2030-12-01"},
		{Ref: "jan", Qty: 40, Available: 40, ETA: "2031-01-02"},
		{Ref: "mar", Qty: 9, Available: 9, ETA: "2031-03-01"},
	}}}}
}

func TestAvailability(t *testing.T) {
	const batches = `"version":7,"available":52,"batches":[{"ref":"here","qty":10,"available":3,"eta":null},` +
		`{"ref":"jan","qty":40,"available":40,"eta":"2031-01-02"},{"ref":"mar","qty":9,"available":9,"eta":"2031-03-01"}]`
	for _, sku := range oddIDs {
		t.Run(sku, func(t *testing.T) {
			resp, body := chair(sku).do(t, "GET", "/availability/"+pathSegment(sku), "")
			require.Equal(t, 200, resp.StatusCode)
			require.Contains(t, body, batches)
			require.NotContains(t, body, "promise")

			resp, body = chair(sku).do(t, "GET", "/availability?sku=X&sku="+url.QueryEscape(sku), "")
			require.Equal(t, 200, resp.StatusCode)
			require.True(t, strings.HasPrefix(body, `{"availability":[{"sku":`), body)
			require.Contains(t, body, batches)
			require.True(t, strings.HasSuffix(body, `],"unknown":["X"]}`), body)
		})
	}
}

// A line is allocated whole: what one batch cannot give is not promised, however much there is in all.
func TestAvailabilityPromisesTheEarliestBatchThatHasEnough(t *testing.T) {
	for qty, promise := range map[string]string{
		"1":          `{"qty":1,"possible":true,"eta":null}`,
		"3":          `{"qty":3,"possible":true,"eta":null}`,
		"4":          `{"qty":4,"possible":true,"eta":"2031-01-02"}`,
		"41":         `{"qty":41,"possible":false,"eta":null}`,
		"1000000000": `{"qty":1000000000,"possible":false,"eta":null}`,
	} {
		for _, path := range []string{"/availability/CHAIR?qty=", "/availability?sku=CHAIR&qty="} {
			resp, body := chair("CHAIR").do(t, "GET", path+qty, "")
			require.Equal(t, 200, resp.StatusCode)
			require.Contains(t, body, `"promise":`+promise)
		}
	}
}

func TestAvailabilityOfUnknownOrImpossibleSKUs(t *testing.T) {
	const qty = ` and must be a whole number from 1 to 1000000000`
	tests := map[string]struct {
		path, detail string
		status       int
	}{
		"unknown":      {"/availability/LAMP", "No batch of sku LAMP is known, or not yet", 404},
		"empty":        {"/availability/", "The sku must not be empty", 400},
		"NUL":          {"/availability/a%00", "The sku contains a control character", 400},
		"too long":     {"/availability/" + strings.Repeat("x", 256), "The sku is 256 bytes; at most 255 are accepted", 400},
		"none":         {"/availability", "The query names 0 skus; ask for 1 to 500, each as sku=…", 400},
		"too many":     {"/availability?" + strings.Repeat("sku=a&", 501), "The query names 501 skus; ask for 1 to 500, each as sku=…", 400},
		"one is bad":   {"/availability?sku=a&sku=", "The sku must not be empty", 400},
		"qty 0":        {"/availability/CHAIR?qty=0", `The qty is \"0\"` + qty, 400},
		"qty huge":     {"/availability?sku=CHAIR&qty=1000000001", `The qty is \"1000000001\"` + qty, 400},
		"qty fraction": {"/availability/CHAIR?qty=1.5", `The qty is \"1.5\"` + qty, 400},
		"qty empty":    {"/availability/CHAIR?qty=", `The qty is \"\"` + qty, 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := chair("CHAIR").do(t, "GET", test.path, "")
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
			require.Contains(t, body, `"detail":"`+test.detail+`"`)
		})
	}
}
