package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"
)

const (
	testID        = "0199-id"
	testRequestID = "request-7"
)

// problem is the body of an error.
func problem(status int, detail string) string {
	return fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d,"detail":%q,"request_id":%q}`, http.StatusText(status), status, detail, testRequestID)
}

// fake is both ports: it remembers what was sent and answers what it was told.
type fake struct {
	anew bool // what was asked last was asked so

	outcome *schemas.Event
	known   bool // the outcomes are the read model's, which have no place in the events
	err     error
	block   chan struct{} // Submit and Wait wait until it is closed, if it is set
	entered chan struct{}

	requests []submit.Request
	sent     *schemas.Command // the last
	wait     time.Duration

	allocations  map[string][]readmodel.Line
	availability map[string]readmodel.Availability
	outcomes     map[string]readmodel.Outcome
	skus         map[string][]string
	skusAfter    int // SKUs finds nothing that many times
	readErr      error
	outages      []admin.Outage
	mounts       []Mount
	behind       bool
	token        projected.Token // what was waited for
	patience     time.Duration   // how long at most
	config       func(*Config)
	keys         Keys
	stopping     chan struct{}
	panics       bool
}

func (f *fake) Submit(_ context.Context, wait time.Duration, requests ...submit.Request) []submit.Result {
	if f.panics {
		panic("planted")
	}
	results := make([]submit.Result, len(requests))
	for i, request := range requests {
		results[i].CommandID = cmp.Or(request.Key, testID)
	}
	if f.block != nil {
		f.entered <- struct{}{}
		<-f.block
		return results // the fields below are one caller's
	}
	f.requests, f.wait = requests, wait
	for i := range requests {
		f.sent, results[i].Err = &requests[i].Command, f.err
		if f.outcome != nil && wait > 0 {
			results[i].Outcome = &submit.Outcome{Event: *f.outcome, Partition: 3, Offset: int64(40 + i)}
			if f.known {
				results[i].Outcome = &submit.Outcome{Event: *f.outcome, Offset: -1}
			}
		}
	}
	return results
}

func (f *fake) Allocations(ctx context.Context, orderID string) (found []readmodel.Allocation, _ error) {
	f.anew = reads.IsAnew(ctx)
	for _, l := range f.allocations[orderID] {
		found = append(found, l.Allocation())
	}
	return found, f.readErr
}

func (f *fake) Lines(ctx context.Context, keys ...readmodel.LineKey) (found []readmodel.Line, _ error) {
	f.anew = reads.IsAnew(ctx)
	for _, l := range f.allocations[keys[0].OrderID] {
		if l.SKU == keys[0].SKU {
			found = append(found, l)
		}
	}
	return found, f.readErr
}

func (f *fake) Availability(ctx context.Context, skus ...string) ([]readmodel.Availability, error) {
	f.anew = reads.IsAnew(ctx)
	found := make([]readmodel.Availability, len(skus))
	for i, sku := range skus {
		found[i] = f.availability[sku]
	}
	return found, f.readErr
}

func (f *fake) Outcome(ctx context.Context, commandID string) (readmodel.Outcome, error) {
	f.anew = reads.IsAnew(ctx)
	return f.outcomes[commandID], f.readErr
}

func (f *fake) SKUs(_ context.Context, ref string) ([]string, error) {
	if f.skusAfter--; f.skusAfter >= 0 {
		return nil, f.readErr
	}
	return f.skus[ref], f.readErr
}

func (f *fake) Wait(ctx context.Context, token projected.Token) error {
	if f.block != nil {
		f.entered <- struct{}{}
		<-f.block
		return nil
	}
	f.token = token
	if deadline, bounded := ctx.Deadline(); bounded {
		f.patience = time.Until(deadline)
	}
	if f.behind {
		<-ctx.Done()
		return projected.ErrBehind
	}
	return nil
}

func (f *fake) handler(log io.Writer) http.Handler {
	cfg := Config{OutcomeWait: 300 * time.Millisecond, OutcomeWaitMax: 10 * time.Second, ReadWait: time.Second, RequestsMax: 2}
	if f.config != nil {
		f.config(&cfg)
	}
	return New(cfg, Ports{
		Submitter: f, Reader: f, Projected: f, Keys: f.keys, Outages: func() []admin.Outage { return f.outages }, ReadModel: "clickhouse", Mounts: f.mounts, Stopping: f.stopping,
		Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: prometheus.NewRegistry(), Tracer: noop.NewTracerProvider().Tracer(""),
	})
}

// record answers a request without a connection.
func (f *fake) record(method, path, contentType string, body []byte) (status int, answer string) {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	f.handler(io.Discard).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// do sends a request over a real connection: paths are not what they seem
// before net/http has parsed them.
func (f *fake) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(f.handler(io.Discard))
	t.Cleanup(server.Close)
	return request(t, server.URL, method, path, body, header...)
}

func request(t *testing.T, base, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-Request-Id", testRequestID)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	require.NoError(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, strings.TrimSuffix(string(content), "\n")
}

func TestMethodsAndPaths(t *testing.T) {
	tests := []struct {
		method, path, allow, contentType, body string
		status                                 int
	}{
		{"GET", "/allocate", "POST", "application/json", `{"message":"This path answers POST only"}`, 405},
		{"DELETE", "/allocations/o1", "GET, HEAD", "application/json", `{"message":"This path answers GET, HEAD only"}`, 405},
		{"POST", "/commands/a/b", "GET, HEAD", "application/problem+json", problem(405, "This path answers GET, HEAD only"), 405},
		{"PUT", "/batches/a/b", "GET, HEAD, PATCH", "application/problem+json", problem(405, "This path answers GET, HEAD, PATCH only"), 405},
		{"GET", "/orders/o1/lines", "POST", "application/problem+json", problem(405, "This path answers POST only"), 405},
		{"GET", "/batches/a/b/c", "", "application/problem+json", problem(404, "There is nothing at this path; within an id, a slash is written %2F"), 404},
		{"HEAD", "/healthz", "", "application/json", "", 200},
		{"GET", "/", "", "application/problem+json", problem(404, "There is nothing at this path; within an id, a slash is written %2F"), 404},
		{"GET", "/nothing", "", "application/problem+json", problem(404, "There is nothing at this path; within an id, a slash is written %2F"), 404},
		{"GET", "/healthz", "", "application/json", `{"status":"ok"}`, 200},
		{"GET", "/readyz", "", "application/json", `{"status":"ready"}`, 200},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			resp, body := new(fake).do(t, test.method, test.path, "")
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, test.allow, resp.Header.Get("Allow"))
			require.Equal(t, test.contentType, resp.Header.Get("Content-Type"))
			require.Equal(t, test.body, body)
		})
	}
}

func TestReadyNamesComponentsButNoReasons(t *testing.T) {
	f := &fake{outages: []admin.Outage{{Component: "clickhouse"}, {Component: "kafka"}}}
	resp, body := f.do(t, "GET", "/readyz", "")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	require.Equal(t, problem(503, "Not ready: clickhouse, kafka"), body)
}

func TestPanicIsOneRequestsFault(t *testing.T) {
	f := &fake{panics: true}
	var log bytes.Buffer
	server := httptest.NewServer(f.handler(&log))
	defer server.Close()
	for range 3 { // more than there are slots: none is lost
		resp, body := request(t, server.URL, "POST", "/allocate", `{"orderid":"o","sku":"s","qty":1}`)
		require.Equal(t, 500, resp.StatusCode)
		require.Equal(t, `{"message":"Something went wrong here; it was logged"}`, body)
	}
	require.Contains(t, log.String(), "planted")
	resp, _ := request(t, server.URL, "GET", "/healthz", "")
	require.Equal(t, 200, resp.StatusCode)
}

func TestReadFailures(t *testing.T) {
	tests := map[string]struct {
		err    error
		status int
		text   string
	}{
		"away":    {errors.Join(reads.ErrUnavailable, errors.New("secret")), 503, "The read model does not answer; try again"},
		"timeout": {context.DeadlineExceeded, 503, "The read model does not answer; try again"},
		"large":   {reads.ErrTooLarge, 422, "The order has more than 10000 lines"},
		"bug":     {errors.New("secret"), 500, "Something went wrong here; it was logged"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := &fake{readErr: test.err}
			resp, body := f.do(t, "GET", "/allocations/o1", "")
			require.Equal(t, test.status, resp.StatusCode)
			require.JSONEq(t, `{"message":"`+test.text+`"}`, body)
			resp, body = f.do(t, "GET", "/commands/c1", "")
			require.Equal(t, test.status, resp.StatusCode)
			require.Contains(t, body, `"detail":"`+test.text+`"`)
			resp, _ = f.do(t, "POST", "/change_batch_quantity", `{"ref":"b","qty":1}`)
			require.Equal(t, test.status, resp.StatusCode)
			require.Nil(t, f.sent)
			resp, _ = f.do(t, "POST", "/change_batch_quantity", `{"ref":"b","sku":"s","qty":1}`)
			require.Equal(t, 202, resp.StatusCode, "a command that needs no look-up goes on")
		})
	}
}

func TestReadFailuresSaySinceWhen(t *testing.T) {
	since := time.Date(2031, 1, 2, 3, 4, 5, 6, time.FixedZone("here", 3600))
	f := &fake{readErr: reads.ErrUnavailable, outages: []admin.Outage{{Component: "kafka", Since: time.Now()}, {Component: "clickhouse", Since: since}}}
	resp, body := f.do(t, "GET", "/allocations/o1", "")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "1", resp.Header.Get("Retry-After"))
	require.Equal(t, `{"message":"The read model has not answered since 2031-01-02T02:04:05Z; try again"}`, body)
	resp, body = f.do(t, "GET", "/availability/CHAIR", "")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, problem(503, "The read model has not answered since 2031-01-02T02:04:05Z; try again"), body)
}
