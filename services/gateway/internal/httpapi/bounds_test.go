package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/stretchr/testify/require"
)

// asks is a request.
type asks struct {
	method, path, contentType, body string
	status                          int // of the answer, when it is let in
}

// send sends the request and gives its status once it is answered.
func (a asks) send(t *testing.T, base string) <-chan int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), a.method, base+a.path, strings.NewReader(a.body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", a.contentType)
	answered := make(chan int, 1)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	return answered
}

// As many as may be under way are let in and no more, and what is not of their kind is let in all the same: each kind has slots of
// its own.
func TestTooManyRequests(t *testing.T) {
	command := asks{"POST", "/allocate", "application/json", `{"orderid":"o","sku":"s","qty":1}`, 202}
	many := asks{"POST", "/commands", ndjsonType, `{"type":"Deallocate","orderid":"o","sku":"s"}`, 200}
	question := asks{"GET", "/availability/CHAIR", "", "", 200}
	waiting := asks{"GET", "/availability/CHAIR?after=" + projected.Token{3: 40}.String(), "", "", 200}
	for _, test := range []struct {
		name   string
		kind   asks
		most   int
		bound  int    // RequestsMax
		others []asks // that are under way beside them
	}{
		{"commands", command, 2, 2, []asks{many, waiting}},
		{"many commands, in a small gateway", many, 1, 2, []asks{command, waiting}},
		{"many commands", many, 3, 3 * requestsPerBatch, []asks{command, waiting}},
		{"questions with a token", waiting, 2, 2, []asks{command, many}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := knowing()
			f.block, f.entered = make(chan struct{}), make(chan struct{}, 10)
			f.config = func(c *Config) { c.RequestsMax = test.bound }
			server := httptest.NewServer(f.handler(io.Discard))
			defer server.Close()
			proceed := sync.OnceFunc(func() { close(f.block) })
			defer time.AfterFunc(10*time.Second, proceed).Stop() // one too many is let in: it fails, and does not hang
			defer proceed()
			var finish []func()
			letIn := func(one asks) {
				answered := one.send(t, server.URL)
				select {
				case <-f.entered:
				case status := <-answered:
					require.FailNow(t, "it was not let in", "%s %s is answered with %d", one.method, one.path, status)
				}
				finish = append(finish, func() { require.Equal(t, one.status, <-answered, one.path) })
			}
			for range test.most {
				letIn(test.kind)
			}
			resp, body := request(t, server.URL, test.kind.method, test.kind.path, test.kind.body, "Content-Type", test.kind.contentType)
			require.Equal(t, 503, resp.StatusCode, body)
			require.Equal(t, "1", resp.Header.Get("Retry-After"))
			require.Contains(t, body, "Too many requests are under way; try again")
			for _, other := range test.others {
				letIn(other)
			}
			require.Equal(t, question.status, <-question.send(t, server.URL))
			proceed()
			for _, one := range finish {
				one()
			}
		})
	}
}
