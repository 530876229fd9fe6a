// Package telemetrytest is a collector for tests: it takes spans as OTLP over HTTP, in protobuf, and shows them.
//
// Tests of services and of the whole path start one.
package telemetrytest

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is one as it arrived. Ids are hexadecimal.
type Span struct {
	Service    string
	Resource   map[string]string
	Name, Kind string
	Trace, ID  string
	Parent     string   // "" = a root
	Links      []string // ids of spans
	Events     []string // names
	Attributes map[string]string
	Error      string // the status' description, "" = none
	Start, End uint64 // Unix ns
}

// Receiver takes spans. Its methods may be called concurrently.
type Receiver struct {
	URL string // for --otlp-endpoint

	mu    sync.Mutex
	spans []Span
}

// Start runs a receiver until the test ends.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, request *http.Request) {
		if err := r.take(request); err != nil {
			t.Errorf("the receiver got what is no export of spans: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // an empty body is an empty ExportTraceServiceResponse
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *Receiver) take(request *http.Request) error {
	var body io.Reader = request.Body
	if request.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var export collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &export); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.ResourceSpans {
		of := attributes(resource.Resource.Attributes)
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans = append(r.spans, span(of, s))
			}
		}
	}
	return nil
}

func span(resource map[string]string, s *otlp.Span) Span {
	out := Span{
		Service: resource["service.name"], Resource: resource,
		Name: s.Name, Kind: s.Kind.String()[len("SPAN_KIND_"):],
		Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId),
		Attributes: attributes(s.Attributes), Start: s.StartTimeUnixNano, End: s.EndTimeUnixNano,
	}
	for _, link := range s.Links {
		out.Links = append(out.Links, hex.EncodeToString(link.SpanId))
	}
	for _, event := range s.Events {
		out.Events = append(out.Events, event.Name)
	}
	if s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
		out.Error = s.Status.Message
	}
	return out
}

func attributes(list []*common.KeyValue) map[string]string {
	out := make(map[string]string, len(list))
	for _, a := range list {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			out[a.Key] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			out[a.Key] = fmt.Sprint(v.BoolValue)
		default:
			out[a.Key] = fmt.Sprint(a.Value)
		}
	}
	return out
}

// Spans returns what has arrived, of the given traces; without one, of all.
func (r *Receiver) Spans(traces ...string) []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Span
	for _, s := range r.spans {
		wanted := len(traces) == 0
		for _, trace := range traces {
			wanted = wanted || s.Trace == trace
		}
		if wanted {
			out = append(out, s)
		}
	}
	return out
}

// Forget drops what has arrived.
func (r *Receiver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = nil
}
