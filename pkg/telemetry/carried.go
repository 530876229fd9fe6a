package telemetry

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Names of the record headers, those of W3C Trace Context.
const (
	HeaderTraceParent = "traceparent"
	HeaderTraceState  = "tracestate"
)

// traceStateBytesMax is what the specification asks everybody to pass on.
const traceStateBytesMax = 512

// Carried is a W3C trace context as a record's headers, or its document, carry it. TraceParent is valid or empty; without one there is no
// TraceState.
type Carried struct {
	TraceParent, TraceState []byte
}

// FromRecord finds the trace context in a record's headers; the last of each name counts. What is malformed or too long
// is as if it were not there: a producer's fault in tracing must not cost its command. The result points into the
// headers.
func FromRecord(headers []kgo.RecordHeader) Carried {
	var c Carried
	for i := range headers {
		switch headers[i].Key {
		case HeaderTraceParent:
			c.TraceParent = headers[i].Value
		case HeaderTraceState:
			c.TraceState = headers[i].Value
		}
	}
	return c.valid()
}

// FromDocument is the trace context that a document carries as attributes, by the same rules.
func FromDocument(traceParent, traceState string) Carried {
	if traceParent == "" {
		return Carried{}
	}
	return Carried{TraceParent: []byte(traceParent), TraceState: []byte(traceState)}.valid()
}

// requestTraceParent and requestTraceState are the names as net/http keeps them: asked for by others, it makes these each time.
var requestTraceParent, requestTraceState = http.CanonicalHeaderKey(HeaderTraceParent), http.CanonicalHeaderKey(HeaderTraceState)

// FromRequest finds the trace context in a request's headers, by the same rules.
func FromRequest(headers http.Header) Carried {
	return Carried{TraceParent: []byte(headers.Get(requestTraceParent)), TraceState: []byte(headers.Get(requestTraceState))}.valid()
}

// FromContext is the trace context of the span of ctx, if it has one.
func FromContext(ctx context.Context) Carried {
	var c Carried
	propagation.TraceContext{}.Inject(ctx, &c)
	return c.valid()
}

// New begins a trace that whoever meets it is to record. Nobody records its first span, the parent of all others.
func New() Carried {
	var c trace.SpanContextConfig
	_, _ = rand.Read(c.TraceID[:]) // neither fails nor comes to all zeros
	_, _ = rand.Read(c.SpanID[:])
	c.TraceFlags = trace.FlagsSampled
	return FromContext(trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(c)))
}

// TraceID is the trace's id, as people look for it; "" if there is none.
func (c Carried) TraceID() string {
	if len(c.TraceParent) != flagsEnd {
		return ""
	}
	return string(c.TraceParent[traceIDAt:traceIDEnd])
}

// valid returns what of c can be used.
func (c Carried) valid() Carried {
	if !validTraceParent(c.TraceParent) {
		return Carried{}
	}
	if len(c.TraceState) == 0 || !validTraceState(c.TraceState) {
		c.TraceState = nil
	}
	return c
}

// Sampled says whether whoever began the trace wants it recorded. It allocates nothing: every command passes here.
func (c Carried) Sampled() bool {
	if len(c.TraceParent) != flagsEnd {
		return false
	}
	flags := c.TraceParent[flagsEnd-1]
	if flags >= 'a' {
		flags -= 'a' - 10
	}
	return flags&1 == 1
}

// Context returns ctx with the span that c names, somebody else's, as the parent of those to come.
func (c Carried) Context(ctx context.Context) context.Context {
	if len(c.TraceParent) == 0 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, &c)
}

// Get returns the header of that name. With Set and Keys it makes a Carried what the library reads from and writes to.
func (c *Carried) Get(key string) string {
	switch key {
	case HeaderTraceParent:
		return string(c.TraceParent)
	case HeaderTraceState:
		return string(c.TraceState)
	}
	return ""
}

// Set is the opposite of Get.
func (c *Carried) Set(key, value string) {
	switch key {
	case HeaderTraceParent:
		c.TraceParent = []byte(value)
	case HeaderTraceState:
		c.TraceState = []byte(value)
	}
}

// Keys lists what Get knows.
func (*Carried) Keys() []string { return []string{HeaderTraceParent, HeaderTraceState} }

// AppendTo adds the record headers of c, if it has any.
func (c Carried) AppendTo(headers []kgo.RecordHeader) []kgo.RecordHeader {
	if len(c.TraceParent) > 0 {
		headers = append(headers, kgo.RecordHeader{Key: HeaderTraceParent, Value: c.TraceParent})
	}
	if len(c.TraceState) > 0 {
		headers = append(headers, kgo.RecordHeader{Key: HeaderTraceState, Value: c.TraceState})
	}
	return headers
}

// The places in 00-<trace id>-<parent id>-<flags>.
const (
	traceIDAt, traceIDEnd = 3, 35
	spanIDAt, spanIDEnd   = 36, 52
	flagsAt, flagsEnd     = 53, 55
)

// validTraceParent says whether p is one of version 00, the only one there is. It allocates nothing: every command
// passes here.
func validTraceParent(p []byte) bool {
	return len(p) == flagsEnd && p[0] == '0' && p[1] == '0' &&
		p[traceIDAt-1] == '-' && p[spanIDAt-1] == '-' && p[flagsAt-1] == '-' &&
		validID(p[traceIDAt:traceIDEnd]) && validID(p[spanIDAt:spanIDEnd]) && lowerHex(p[flagsAt:flagsEnd])
}

// validID says whether an id is lower-case hexadecimal and not all zero.
func validID(id []byte) bool {
	zero := true
	for _, b := range id {
		zero = zero && b == '0'
	}
	return !zero && lowerHex(id)
}

func lowerHex(p []byte) bool {
	for _, b := range p {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return true
}

func validTraceState(p []byte) bool {
	if len(p) > traceStateBytesMax {
		return false
	}
	for _, b := range p {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return true
}
