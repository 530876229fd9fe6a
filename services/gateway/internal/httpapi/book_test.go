package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/stretchr/testify/require"
)

func TestCommandsAreSent(t *testing.T) {
	tests := map[string]struct {
		path, body string
		outcome    schemas.EventType
		want       schemas.Command
		status     int
		location   string
	}{
		"batch in stock": {
			"/add_batch", `{"ref":"b1","sku":"CHAIR","qty":1000000000,"eta":null}`, schemas.EventBatchCreated,
			schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 1000000000},
			201, "/commands/0199-id",
		},
		"batch with eta": {
			"/add_batch", `{"ref":"b1","sku":"CHAIR","qty":1,"eta":"2299-12-31"}`, schemas.EventBatchCreated,
			schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 1, ETA: "2299-12-31"},
			201, "/commands/0199-id",
		},
		"batch once more": {
			"/add_batch", `{"ref":"b1","sku":"CHAIR","qty":1,"eta":"1970-01-01"}`, schemas.EventCommandIgnored,
			schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 1, ETA: "1970-01-01"},
			201, "/commands/0199-id",
		},
		"allocate": {
			"/allocate", `{"orderid":"o1","sku":"CHAIR","qty":3,"more":{"is":"ignored"}}`, schemas.EventAllocated,
			schemas.Command{Type: schemas.CommandAllocate, OrderID: "o1", SKU: "CHAIR", Qty: 3},
			202, "/allocations/o1",
		},
		"out of stock": {
			"/allocate", `{"orderid":"o1","sku":"CHAIR","qty":3}`, schemas.EventOutOfStock,
			schemas.Command{Type: schemas.CommandAllocate, OrderID: "o1", SKU: "CHAIR", Qty: 3},
			202, "/allocations/o1",
		},
		"quantity": {
			"/change_batch_quantity", `{"ref":"b1","sku":"CHAIR","qty":0}`, schemas.EventBatchQuantityChanged,
			schemas.Command{Type: schemas.CommandChangeBatchQuantity, Ref: "b1", SKU: "CHAIR"},
			202, "/commands/0199-id",
		},
		"not seen in time": {
			"/add_batch", `{"ref":"b1","sku":"CHAIR","qty":1,"eta":null}`, 0,
			schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 1},
			202, "/commands/0199-id",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, outcome := new(fake), "pending"
			if test.outcome != 0 {
				f.outcome, outcome = &schemas.Event{Type: test.outcome, BatchRef: "never told"}, test.outcome.String()
			}
			resp, body := f.do(t, "POST", test.path, test.body)
			require.Equal(t, test.status, resp.StatusCode, body)
			require.Equal(t, test.location, resp.Header.Get("Location"))
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.Equal(t, `{"commandid":"0199-id","outcome":"`+outcome+`"}`, body)
			require.Equal(t, &test.want, f.sent)
			require.Equal(t, 300*time.Millisecond, f.wait)
			require.Empty(t, resp.Header.Get("Preference-Applied"))
		})
	}
}

func TestLocationLeadsBack(t *testing.T) {
	for _, id := range oddIDs {
		t.Run(id, func(t *testing.T) {
			f := &fake{outcome: &schemas.Event{Type: schemas.EventAllocated}}
			body := schemas.AppendCommand(nil, &schemas.Command{Type: schemas.CommandAllocate, OrderID: id, SKU: id, Qty: 1})
			resp, _ := f.do(t, "POST", "/allocate", string(body))
			require.Equal(t, 202, resp.StatusCode)
			require.Equal(t, id, f.sent.OrderID)
			u, err := url.Parse(resp.Header.Get("Location"))
			require.NoError(t, err)
			require.Equal(t, "/allocations/"+id, u.Path)
		})
	}
}

func TestRejections(t *testing.T) {
	statuses := map[string]int{
		"qty_out_of_range": 400, "eta_out_of_range": 400, "unknown_batch": 404, "not_allocated": 404,
		"conflicting_line": 409, "conflicting_batch": 409, "conflicting_command": 409, "cut_too_large": 422, "of_a_later_version": 422,
	}
	for reason, status := range statuses {
		t.Run(reason, func(t *testing.T) {
			f := &fake{outcome: &schemas.Event{Type: schemas.EventCommandRejected, Reason: reason, Message: `No, "never"`}}
			resp, body := f.do(t, "POST", "/allocate", `{"orderid":"o1","sku":"s","qty":3}`, "Prefer", "wait=1")
			require.Equal(t, status, resp.StatusCode)
			require.Equal(t, `{"message":"No, \"never\""}`, body)
			require.Empty(t, resp.Header.Get("Location"))
			require.Equal(t, "wait=1", resp.Header.Get("Preference-Applied"))
		})
	}
	for _, unknownSKU := range []struct {
		path, body string
		status     int
	}{
		{"/allocate", `{"orderid":"o1","sku":"NO-CHAIR","qty":3}`, 400},
		{"/change_batch_quantity", `{"ref":"b1","sku":"NO-CHAIR","qty":3}`, 404},
	} {
		f := &fake{outcome: &schemas.Event{Type: schemas.EventCommandRejected, Reason: "invalid_sku", SKU: "NO-CHAIR", Message: "whatever"}}
		resp, body := f.do(t, "POST", unknownSKU.path, unknownSKU.body)
		require.Equal(t, unknownSKU.status, resp.StatusCode, unknownSKU.path)
		require.Equal(t, `{"message":"Invalid sku NO-CHAIR"}`, body)
		require.Empty(t, resp.Header.Get("Location"))
	}
}

func TestBadInput(t *testing.T) {
	allocate := func(orderid, qty string) string {
		return fmt.Sprintf(`{"orderid":%s,"sku":"s","qty":%s}`, orderid, qty)
	}
	tests := map[string]struct{ path, body, message string }{
		"empty":            {"/allocate", " ", "empty"},
		"no JSON":          {"/allocate", "orderid=o1", "not valid JSON"},
		"cut off":          {"/allocate", `{"orderid":"o1"`, "ends too early"},
		"array":            {"/allocate", `[]`, "must be a JSON object"},
		"null":             {"/allocate", `null`, "must be a JSON object"},
		"null change":      {"/change_batch_quantity", `null`, "must be a JSON object"},
		"two objects":      {"/allocate", allocate(`"o"`, "1") + "{}", "more after the JSON object"},
		"two names":        {"/allocate", `{"orderid":"a","orderid":"b","sku":"s","qty":1}`, "appears twice"},
		"two names change": {"/change_batch_quantity", `{"ref":"a","ref":"b","qty":1}`, "appears twice"},
		"deep":             {"/allocate", `{"x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, "deeper than"},
		"deep change":      {"/change_batch_quantity", `{"x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, "deeper than"},
		"not UTF-8":        {"/allocate", allocate("\"\xff\"", "1"), "not valid UTF-8"},
		"no sku":           {"/allocate", `{"orderid":"o","qty":1}`, "sku is missing"},
		"null sku":         {"/allocate", `{"orderid":"o","sku":null,"qty":1}`, "sku must not be null"},
		"no ref":           {"/change_batch_quantity", `{"qty":1}`, "ref is missing"},
		"orderid number":   {"/allocate", allocate("1", "1"), "orderid must be a string"},
		"orderid empty":    {"/allocate", allocate(`""`, "1"), "orderid must not be empty"},
		"orderid NUL":      {"/allocate", allocate(`"a\u0000b"`, "1"), "control character U+0000"},
		"orderid long":     {"/allocate", allocate(`"`+strings.Repeat("x", 256)+`"`, "1"), "256 bytes"},
		"qty string":       {"/allocate", allocate(`"o"`, `"3"`), "qty must be a number"},
		"qty null":         {"/allocate", allocate(`"o"`, `null`), "qty must not be null"},
		"qty 0":            {"/allocate", allocate(`"o"`, `0`), "qty 0 is not from 1 to 1000000000"},
		"qty -3":           {"/allocate", allocate(`"o"`, `-3`), "qty -3 is not from 1 to 1000000000"},
		"qty 1.5":          {"/allocate", allocate(`"o"`, `1.5`), "qty 1.5 is not a whole number"},
		"qty 1e30":         {"/allocate", allocate(`"o"`, `1e30`), "qty 1e30 is not a whole number"},
		"qty large":        {"/allocate", allocate(`"o"`, `1000000001`), "qty 1000000001 is not from"},
		"qty NaN":          {"/allocate", allocate(`"o"`, `NaN`), "not valid JSON"},
		"batch qty 0":      {"/add_batch", `{"ref":"b","sku":"s","qty":0,"eta":null}`, "qty 0 is not from 1"},
		"change qty -1":    {"/change_batch_quantity", `{"ref":"b","sku":"s","qty":-1}`, "qty -1 is not from 0"},
		"change qty -1 b":  {"/change_batch_quantity", `{"ref":"b","qty":-1}`, "qty -1 is not from 0"},
		"eta no date":      {"/add_batch", `{"ref":"b","sku":"s","qty":1,"eta":"soon"}`, "is not a calendar date"},
		"eta 30 February":  {"/add_batch", `{"ref":"b","sku":"s","qty":1,"eta":"2031-02-30"}`, "is not a calendar date"},
		"eta number":       {"/add_batch", `{"ref":"b","sku":"s","qty":1,"eta":20310102}`, "eta must be"},
		"eta early":        {"/add_batch", `{"ref":"b","sku":"s","qty":1,"eta":"1969-12-31"}`, "eta 1969-12-31 is not from 1970-01-01 to 2299-12-31"},
		"eta late":         {"/add_batch", `{"ref":"b","sku":"s","qty":1,"eta":"2300-01-01"}`, "eta 2300-01-01 is not from"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := &fake{skus: map[string][]string{"b": {"s"}}}
			resp, body := f.do(t, "POST", test.path, test.body)
			require.Equal(t, 400, resp.StatusCode, body)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.Regexp(t, `^\{"message":"[^{}]*"\}$`, body)
			require.Contains(t, body, test.message)
			require.Nil(t, f.sent, "nothing may reach Kafka")
		})
	}
}

func TestBodiesOfAnotherKind(t *testing.T) {
	f := new(fake)
	large := `{"x":"` + strings.Repeat("x", bodyBytesMax) + `"}`
	resp, body := f.do(t, "POST", "/allocate", large)
	require.Equal(t, 413, resp.StatusCode)
	require.Equal(t, `{"message":"The body has more than 65536 bytes"}`, body)

	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "", "application/jsonp", "a/b/c"} {
		resp, body = f.do(t, "POST", "/allocate", `{"orderid":"o","sku":"s","qty":1}`, "Content-Type", contentType)
		require.Equal(t, 415, resp.StatusCode, contentType)
		require.Equal(t, `{"message":"Send the body as Content-Type: application/json"}`, body)
	}
	require.Nil(t, f.sent)
	resp, _ = f.do(t, "POST", "/allocate", `{"orderid":"o","sku":"s","qty":1}`, "Content-Type", "Application/JSON; charset=utf-8")
	require.Equal(t, 202, resp.StatusCode)
}

func TestChangeBatchQuantityWithoutSKU(t *testing.T) {
	skus := map[string][]string{"one": {"CHAIR"}, "two": {"CHAIR", `TABLE "L"`}}
	for name, body := range map[string]string{"absent": `{"ref":"one","qty":7}`, "null": `{"ref":"one","sku":null,"qty":7}`} {
		t.Run(name, func(t *testing.T) {
			f := &fake{skus: skus}
			resp, _ := f.do(t, "POST", "/change_batch_quantity", body)
			require.Equal(t, 202, resp.StatusCode)
			require.Equal(t, &schemas.Command{Type: schemas.CommandChangeBatchQuantity, Ref: "one", SKU: "CHAIR", Qty: 7}, f.sent)
		})
	}
	t.Run("on its way", func(t *testing.T) {
		f := &fake{skus: skus, skusAfter: 1}
		resp, _ := f.do(t, "POST", "/change_batch_quantity", `{"ref":"one","qty":7}`)
		require.Equal(t, 202, resp.StatusCode)
	})
	t.Run("unknown", func(t *testing.T) {
		f := &fake{skus: skus}
		resp, body := f.do(t, "POST", "/change_batch_quantity", `{"ref":"none","qty":7}`)
		require.Equal(t, 404, resp.StatusCode)
		require.Equal(t, `{"message":"No batch with the ref none is known"}`, body)
		require.Nil(t, f.sent)
	})
	t.Run("unknown at once", func(t *testing.T) {
		f := &fake{skus: skus, skusAfter: 1}
		resp, _ := f.do(t, "POST", "/change_batch_quantity", `{"ref":"one","qty":7}`, "Prefer", "respond-async")
		require.Equal(t, 404, resp.StatusCode)
	})
	t.Run("on its way, and the process is to end", func(t *testing.T) {
		f := &fake{skus: skus, skusAfter: 1000, stopping: make(chan struct{})}
		close(f.stopping)
		start := time.Now()
		resp, body := f.do(t, "POST", "/change_batch_quantity", `{"ref":"one","qty":7}`, "Prefer", "wait=3")
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, `{"message":"This gateway is about to stop; try again"}`, body)
		require.Less(t, time.Since(start), 2*time.Second)
	})
	t.Run("ambiguous", func(t *testing.T) {
		f := &fake{skus: skus}
		resp, body := f.do(t, "POST", "/change_batch_quantity", `{"ref":"two","qty":7}`)
		require.Equal(t, 409, resp.StatusCode)
		require.Equal(t, `{"message":"Several SKUs have a batch with the ref two: CHAIR, TABLE \"L\"; say which one with sku"}`, body)
		require.Nil(t, f.sent)
	})
}

func TestKafkaAway(t *testing.T) {
	for _, err := range []error{fmt.Errorf("%w: secret", submit.ErrUnacknowledged), context.Canceled} {
		f := &fake{err: err}
		resp, body := f.do(t, "POST", "/allocate", `{"orderid":"o","sku":"s","qty":1}`)
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "1", resp.Header.Get("Retry-After"))
		require.Equal(t, "/commands/0199-id", resp.Header.Get("Location"), "it may have arrived")
		require.Equal(t, `{"message":"Kafka did not acknowledge the command in time; ask /commands/0199-id, or send it again"}`, body)
	}
	f := &fake{err: errors.New("secret")}
	resp, body := f.do(t, "POST", "/allocate", `{"orderid":"o","sku":"s","qty":1}`)
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, `{"message":"Something went wrong here; it was logged"}`, body)
}

func TestPrefer(t *testing.T) {
	const usual = 300 * time.Millisecond
	tests := []struct {
		prefer  []string
		wait    time.Duration
		applied string
	}{
		{nil, usual, ""},
		{[]string{"respond-async"}, 0, "respond-async"},
		{[]string{"Respond-Async; x=1"}, 0, "respond-async"},
		{[]string{"wait=3"}, 3 * time.Second, "wait=3"},
		{[]string{`return=minimal, Wait = "3"; foo`}, 3 * time.Second, "wait=3"},
		{[]string{"respond-async, wait=3"}, 3 * time.Second, "wait=3"},
		{[]string{"respond-async", "wait=3"}, 3 * time.Second, "wait=3"},
		{[]string{"wait=2, wait=3"}, 2 * time.Second, "wait=2"},
		{[]string{"wait=0"}, 0, "wait=0"},
		{[]string{"wait=600"}, 10 * time.Second, "wait=10"},
		{[]string{"wait=99999999999999999999"}, usual, ""},
		{[]string{"wait=-1"}, usual, ""},
		{[]string{"wait=soon, wait"}, usual, ""},
		{[]string{"handling=strict"}, usual, ""},
		{[]string{`trace="a, wait=0, b", wait=5`}, 5 * time.Second, "wait=5"},
		{[]string{`trace="a\", wait=0", wait=5`}, 5 * time.Second, "wait=5"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.prefer, " | "), func(t *testing.T) {
			f := &fake{outcome: &schemas.Event{Type: schemas.EventAllocated}}
			r := httptest.NewRequest(http.MethodPost, "/allocate", strings.NewReader(`{"orderid":"o","sku":"s","qty":1}`))
			r.Header = http.Header{"Content-Type": {"application/json"}, "Prefer": test.prefer}
			w := httptest.NewRecorder()
			f.handler(t.Output()).ServeHTTP(w, r)
			require.Equal(t, 202, w.Code)
			require.Equal(t, test.wait, f.wait)
			require.Equal(t, test.applied, w.Header().Get("Preference-Applied"))
			if test.wait == 0 {
				require.Equal(t, "/commands/0199-id", w.Header().Get("Location"))
				require.JSONEq(t, `{"commandid":"0199-id","outcome":"pending"}`, w.Body.String())
			} else {
				require.Equal(t, "/allocations/o", w.Header().Get("Location"))
			}
		})
	}
}
