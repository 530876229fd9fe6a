package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/stretchr/testify/require"
)

func TestMountsAreBesideTheRoutes(t *testing.T) {
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	f := &fake{mounts: []Mount{{"/", open, says("page")}, {"/console/", apikeys.Read, says("console")}}}
	server := httptest.NewServer(f.handler(io.Discard))
	defer server.Close()
	notFound := problem(404, "There is nothing at this path; within an id, a slash is written %2F")
	for path, want := range map[string]string{
		"/": "page", "/console/x/y": "console", "/console/": "console", "/healthz": `{"status":"ok"}`,
		"/nothing": notFound, "/readyz/": notFound, "/console": notFound,
	} {
		_, body := request(t, server.URL, "GET", path, "")
		require.Equal(t, want, body, path)
	}
}

func TestEscapedPathsAreTheSameAsPlainOnes(t *testing.T) {
	resp, _ := new(fake).do(t, "GET", "/%68ealthz", "")
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = new(fake).do(t, "GET", "/healthz%2F", "")
	require.Equal(t, 404, resp.StatusCode)
}

func FuzzRoutes(f *testing.F) {
	for _, path := range []string{"/", "//", "/batches/%2F/%2F", "/orders/../lines", "/allocations/a/b/c", "/commands/a/b", "/%", "*", "/availability?sku=%00"} {
		f.Add("GET", path)
		f.Add("DELETE", path)
	}
	handler := new(fake).handler(io.Discard)
	f.Fuzz(func(t *testing.T, method, path string) {
		r, err := http.NewRequest(method, "http://gateway"+path, nil)
		if err != nil {
			t.Skip("no client can send that")
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Less(t, w.Code, 500, "%s %q: %s", method, path, w.Body)
	})
}

func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		"", "null", "{}", `{"qty":1}`, `{"ref":"b","sku":"s","qty":1,"eta":null}`, `{"sku":"s","qty":1,"qty":2}`, "{\"sku\":\"\xff\"}",
		`{"type":"Allocate","id":"c","orderid":"o","sku":"s","qty":3}` + "\n" + `{"type":"Deallocate"}`, "\n\n", `{"type":1}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/add_batch", "/allocate", "/change_batch_quantity", "/batches", "/orders/o/lines", "/commands", "/batches/s/b"} {
			method, contentType := http.MethodPost, "application/json"
			switch path {
			case "/batches/s/b":
				method = http.MethodPatch
			case "/commands":
				contentType = "application/x-ndjson"
			}
			f := new(fake)
			status, answer := f.record(method, path, contentType, body)
			require.Less(t, status, 500, "%s: %s", path, answer)
			if status >= 400 {
				require.Nil(t, f.sent, "nothing may reach Kafka")
			} else if path != "/commands" { // where each line has a status of its own
				require.NotNil(t, f.sent)
			}
		}
	})
}
