//go:build integration

package path

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry/telemetrytest"
	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/stack"
)

// Trace contexts of senders: a client of the gateway, producers, one that does not sample, and one that asks.
const (
	overHTTP   = "0af7651916cd43dd8448eb211c80319c"
	overKafka  = "1bf7651916cd43dd8448eb211c80319c"
	inDocument = "4af7651916cd43dd8448eb211c80319c"
	unsampled  = "2cf7651916cd43dd8448eb211c80319c"
	asking     = "3df7651916cd43dd8448eb211c80319c"
	sender     = "b7ad6b7169203331" // the span in all of them
)

// tree is one trace, as a collector has it.
type tree struct {
	*assert.CollectT
	spans []telemetrytest.Span
}

// child is the only span of that name and service under a parent.
func (tr tree) child(parent, service, name string) telemetrytest.Span {
	var found []telemetrytest.Span
	for _, s := range tr.spans {
		if s.Parent == parent && s.Service == "lotline-"+service && s.Name == name {
			found = append(found, s)
		}
	}
	require.Len(tr, found, 1, "%s of %s under %q, of %d spans", name, service, parent, len(tr.spans))
	return found[0]
}

// decided checks what the allocator and the projector did for a command whose record carried the span from. How many
// spans that is.
func (tr tree) decided(p *pipeline, from string) int {
	process := tr.child(from, "allocator", "process "+p.topics.Commands.Name)
	require.Equal(tr, "CONSUMER", process.Kind)
	require.Equal(tr, "kafka", process.Attributes["messaging.system"])
	require.NotEmpty(tr, process.Attributes["messaging.kafka.offset"])
	require.Equal(tr, []string{"polled"}, process.Events)
	require.Empty(tr, process.Error)
	apply := tr.child(process.ID, "allocator", "apply")
	require.Equal(tr, []string{"decided"}, apply.Events)
	tr.child(apply.ID, "allocator", "load")
	commit := tr.child(apply.ID, "allocator", "Postgres transaction")
	require.Equal(tr, "postgresql", commit.Attributes["db.system.name"])
	publish := tr.child(process.ID, "allocator", "send "+p.topics.Events.Name)
	require.Equal(tr, "1", publish.Attributes["messaging.batch.message_count"])
	require.LessOrEqual(tr, commit.End, publish.End, "visible once Postgres has committed, however early it was sent")
	require.LessOrEqual(tr, publish.End, process.End)

	// The event carries the command's context as it came, so it hangs on the same span.
	event := tr.child(from, "projector", "process "+p.topics.Events.Name)
	block := tr.child(event.ID, "projector", "insert block")
	for _, table := range []string{"events", "outcomes"} {
		insert := tr.child(block.ID, "projector", "INSERT "+table)
		require.Equal(tr, "clickhouse", insert.Attributes["db.system.name"])
		require.Equal(tr, p.on.Database, insert.Attributes["db.namespace"])
	}
	return 9
}

// trace waits until a trace has arrived as check wants it, which says how many spans that is; further ones are a fault.
func (p *pipeline) trace(receiver *telemetrytest.Receiver, id string, check func(tree) int) {
	p.Helper()
	require.EventuallyWithT(p, func(c *assert.CollectT) {
		tr := tree{c, receiver.Spans(id)}
		require.Len(c, tr.spans, check(tr))
	}, answerWithin, lookEvery)
}

func traceparent(trace, flags string) string { return "00-" + trace + "-" + sender + "-" + flags }

func (p *pipeline) request(method, path, body, trace string) {
	p.Helper()
	request, err := http.NewRequestWithContext(p.Context(), method, p.gateway+path, strings.NewReader(body))
	require.NoError(p, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("traceparent", trace)
	response, err := http.DefaultClient.Do(request)
	require.NoError(p, err)
	status, answer := read(p, response)
	require.Less(p, status, http.StatusMultipleChoices, answer)
}

// sendTraced sends commands by `lotline send --trace`, and returns the trace's id, which it prints.
func (p *pipeline) sendTraced(receiver *telemetrytest.Receiver, lines string) (trace string) {
	p.Helper()
	var said bytes.Buffer
	require.Zero(p, cli.Main(p.Context(), []string{
		"send", "--trace", "--otlp-endpoint=" + receiver.URL,
		"--kafka-brokers=" + strings.Join(p.on.Kafka, ","), "--kafka-topic-prefix=" + p.on.TopicPrefix,
	}, strings.NewReader(lines), &said, &said), said.String())
	_, after, found := strings.Cut(said.String(), "; trace ")
	require.True(p, found, said.String())
	trace, _, _ = strings.Cut(after, " ")
	return trace
}

// TestTracesFollowACommand sends commands over HTTP, by a Kafka client and by lotline, and finds, at a collector that speaks OTLP, who
// did what for them, by the spans' ids; and nothing of those that nobody traces.
func TestTracesFollowACommand(t *testing.T) {
	receiver := telemetrytest.Start(t)
	onEachKafka(t, func(p *pipeline) {
		sampled := func(id, order, trace string) *kgo.Record {
			r := record(id, allocate, "RED-CHAIR", `{"orderid":"`+order+`","sku":"RED-CHAIR","qty":1}`)
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte(trace)})
			return r
		}
		// What nobody traces comes first: had it spans, they would be there before those that are waited for.
		p.request(http.MethodPost, "/add_batch", `{"ref":"b-1","sku":"RED-CHAIR","qty":10,"eta":null}`, "")
		p.request(http.MethodPost, "/allocate", `{"orderid":"o-1","sku":"RED-CHAIR","qty":1}`, traceparent(unsampled, "00"))
		p.request(http.MethodPost, "/allocate", `{"orderid":"o-2","sku":"RED-CHAIR","qty":1}`, strings.Repeat("0", 4096))
		p.produce([]*kgo.Record{sampled("c-3", "o-3", "00-"+overKafka+"-"+sender+"-1")}) // no context
		p.answers("/allocations/o-3", "b-1")

		p.request(http.MethodPost, "/allocate", `{"orderid":"o-4","sku":"RED-CHAIR","qty":1}`, traceparent(overHTTP, "01"))
		p.answers("/allocations/o-4", "b-1")
		p.trace(receiver, overHTTP, func(tr tree) int {
			server := tr.child(sender, "gateway", "POST /allocate")
			require.Equal(tr, "SERVER", server.Kind)
			require.Equal(tr, "202", server.Attributes["http.response.status_code"])
			send := tr.child(server.ID, "gateway", "send "+p.topics.Commands.Name)
			require.Equal(tr, "PRODUCER", send.Kind)
			tr.child(server.ID, "gateway", "wait for the outcome")
			return 3 + tr.decided(p, send.ID)
		})
		p.produce([]*kgo.Record{sampled("c-5", "o-5", traceparent(overKafka, "01"))})
		p.answers("/allocations/o-5", "b-1")
		p.trace(receiver, overKafka, func(tr tree) int { return tr.decided(p, sender) })

		p.produce([]*kgo.Record{{
			Key: []byte("RED-CHAIR"), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(cloudevents.ContentTypeStructured)}},
			Value: fmt.Appendf(nil, `{"type":%q,"id":"c-6","source":"/test","traceparent":%q,"data":{"orderid":"o-6","sku":"RED-CHAIR","qty":1}}`,
				allocate, traceparent(inDocument, "01")),
		}})
		p.answers("/allocations/o-6", "b-1")
		p.trace(receiver, inDocument, func(tr tree) int { return tr.decided(p, sender) })

		byLotline := p.sendTraced(receiver, `{"type":"Allocate","orderid":"o-7","sku":"RED-CHAIR","qty":1}`)
		p.answers("/allocations/o-7", "b-1")
		p.trace(receiver, byLotline, func(tr tree) int {
			root := tr.child("", "cli", "send "+p.topics.Commands.Name)
			require.Equal(tr, "PRODUCER", root.Kind)
			require.Equal(tr, "1", root.Attributes["messaging.batch.message_count"])
			return 1 + tr.decided(p, root.ID)
		})

		p.request(http.MethodGet, "/allocations/o-5", "", traceparent(asking, "01"))
		p.trace(receiver, asking, func(tr tree) int {
			server := tr.child(sender, "gateway", "GET /allocations/{orderid}")
			query := tr.child(server.ID, "gateway", "query allocations")
			require.Equal(tr, "clickhouse", query.Attributes["db.system.name"])
			return 2
		})
		require.Zero(p, len(receiver.Spans())-len(receiver.Spans(overHTTP, overKafka, inDocument, byLotline, asking)), "spans of others")

		// On the wire: the same bytes on a command and on its events.
		contexts := make(map[string]int)
		for _, topic := range []string{p.topics.Commands.Name, p.topics.Events.Name} {
			for _, r := range p.consume(topic, 8) {
				contexts[header(r, "traceparent")]++
			}
		}
		invalid := "00-" + overKafka + "-" + sender + "-1"
		require.Equal(p, 1, contexts[invalid], "a malformed context stays on its command only")
		require.Equal(p, 2, contexts[traceparent(unsampled, "00")])
		require.Equal(p, 2, contexts[traceparent(overKafka, "01")])
		require.Equal(p, 6, contexts[""], "an untraced request, one with a malformed context, that of the record's events, and the record of a document")
		require.Equal(p, 1, contexts[traceparent(inDocument, "01")], "on the event of the document")
		require.Len(p, contexts, 7, "and those that the gateway and lotline made")
		receiver.Forget()
	}, func(c *stack.Config) {
		c.Allocator.Telemetry.Endpoint, c.Projector.Telemetry.Endpoint, c.Gateway.Telemetry.Endpoint = receiver.URL, receiver.URL, receiver.URL
		c.Gateway.TraceRatio = 0
	})
}
