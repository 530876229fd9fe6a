package commandlog

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// A trace context comes in the record's headers or in its document; that of the headers is nearer to who sent it.
func TestTraceContextsOfCommands(t *testing.T) {
	header, document := telemetry.New(), telemetry.New()
	e := cloudevents.Envelope{Type: "lotline.command.v1.Allocate", ContentType: "application/json"}
	const data = `{"orderid":"o","sku":"s","qty":1}`
	read := func(headers []kgo.RecordHeader, value []byte) outbox.Headers {
		in := Decode(&kgo.Record{Headers: headers, Value: value})
		require.Empty(t, in.DeadLetter)
		return in.Headers
	}
	of := func(c telemetry.Carried) outbox.Headers { return outbox.Headers{TraceParent: c.TraceParent} }

	plain := cloudevents.Headers(e)
	require.Zero(t, read(plain, []byte(data)))
	require.Equal(t, of(header), read(header.AppendTo(plain), []byte(data)))

	e.TraceParent = string(document.TraceParent)
	headers, value := cloudevents.Structured(e, []byte(data))
	require.Equal(t, of(document), read(headers, value))
	require.Equal(t, of(header), read(header.AppendTo(headers), value))

	e.TraceParent, e.TraceState = "00-no trace", "a=b"
	headers, value = cloudevents.Structured(e, []byte(data))
	require.Zero(t, read(headers, value), "it costs the trace, not the command")
}
