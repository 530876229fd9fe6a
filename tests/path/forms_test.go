//go:build integration

package path

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/tests/verify"
)

// plainForm is an Allocate of one LAMP in JSON with headers; otherForms are the same in other forms. The bytes are
// spelled out: field 1 is the orderid, 2 the sku, 3 the qty.
func plainForm(id string) *kgo.Record {
	return record(id, allocate, "LAMP", fmt.Sprintf(`{"orderid":"o-%s","sku":"LAMP","qty":1}`, id))
}

func otherForms(id string) map[string]*kgo.Record {
	binary := fmt.Sprintf("\x0a%c%s\x12\x04LAMP\x18\x01", len("o-"+id), "o-"+id)
	protobuf := record(id, allocate, "LAMP", binary)
	protobuf.Headers = append(protobuf.Headers, kgo.RecordHeader{Key: "content-type", Value: []byte("application/protobuf")})
	document := func(data string) *kgo.Record {
		return &kgo.Record{
			Key:     []byte("LAMP"),
			Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}},
			Value:   fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/test","type":%q,"tenant":7,%s}`, id, allocate, data),
		}
	}
	return map[string]*kgo.Record{
		"protobuf":                 protobuf,
		"structured":               document(fmt.Sprintf(`"data":{"orderid":"o-%s","sku":"LAMP","qty":1}`, id)),
		"structured with protobuf": document(`"datacontenttype":"application/protobuf","data_base64":"` + base64.StdEncoding.EncodeToString([]byte(binary)) + `"`),
	}
}

func TestCommandsInEveryForm(t *testing.T) {
	onEachKafka(t, func(p *pipeline) {
		p.produce([]*kgo.Record{record("first", createBatch, "LAMP", `{"ref":"b-1","sku":"LAMP","qty":100,"eta":null}`)})
		p.answers("/commands/first", `"outcome":"BatchCreated"`)
		i := 0
		for form := range otherForms("") {
			id := fmt.Sprintf("c-%d", i)
			p.produce([]*kgo.Record{otherForms(id)[form]})
			p.answers("/commands/"+id, `"outcome":"Allocated"`)
			p.produce([]*kgo.Record{plainForm(id)})
			p.selects(fmt.Sprintf("SELECT type, reason FROM outcomes FINAL WHERE commandid = '%s' ORDER BY event_time, kpartition, koffset FORMAT CSV", id),
				"\"Allocated\",\"\"\n\"CommandIgnored\",\"duplicate_line\"")
			p.answers("/allocations/o-"+id, `[{"sku":"LAMP","batchref":"b-1"}]`)
			i++
		}
		p.consume(p.topics.DeadLetters.Name, 0)
		p.selects("SELECT available FROM skus FINAL WHERE sku = 'LAMP'", "97")
	})
}

// TestEventsInBothEncodings: an allocator that is told to write protobuf goes on where one that wrote JSON stopped, and
// back. Everything that reads events reads the topic that has both.
func TestEventsInBothEncodings(t *testing.T) {
	isolation.OnKfake(t, func(t *testing.T, on stack.Servers) {
		encodings := []schemas.Encoding{schemas.JSON, schemas.Protobuf, schemas.JSON}
		for i, encoding := range encodings {
			p, stop := start(t, on, func(c *stack.Config) { c.Allocator.EventContentType = encoding })
			if i == 0 {
				p.produce([]*kgo.Record{record("first", createBatch, "LAMP", `{"ref":"b-1","sku":"LAMP","qty":100,"eta":"2031-01-02"}`)})
				p.answers("/commands/first", `"outcome":"BatchCreated"`)
			}
			p.produce([]*kgo.Record{plainForm(fmt.Sprintf("c-%d", i))})
			p.answers(fmt.Sprintf("/allocations/o-c-%d", i), `[{"sku":"LAMP","batchref":"b-1"}]`)
			status, body := p.post("/allocate", fmt.Sprintf(`{"orderid":"o-http-%d","sku":"LAMP","qty":1}`, i))
			require.Equal(t, 202, status)
			require.Contains(t, body, `"outcome":"Allocated"`, "the gateway sees its outcome on the topic")
			p.selects("SELECT available, eta FROM stock FINAL FORMAT CSV", fmt.Sprintf("%d,\"2031-01-02\"", 98-2*i))
			if i == len(encodings)-1 {
				p.agrees()
				report, err := verify.Run(t.Context(), verify.Target{
					Kafka:       kafkaclient.Config{Brokers: on.Kafka, TopicPrefix: on.TopicPrefix},
					PostgresURL: on.PostgresURL, ClickHouse: on.ClickHouse, Database: on.Database,
				})
				require.NoError(t, err)
				require.NoError(t, report.Err())
				var types []string
				for _, r := range p.consume(p.topics.Events.Name, 7) {
					types = append(types, header(r, "content-type"))
					require.Equal(t, header(r, "content-type") == "application/json", bytes.HasPrefix(r.Value, []byte("{")))
				}
				const json, protobuf = "application/json", "application/protobuf"
				require.Equal(t, []string{json, json, json, protobuf, protobuf, json, json}, types)
			}
			stop()
		}
	})
}
