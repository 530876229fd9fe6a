//go:build integration

package allocator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// raw is a record with a value that no encoder of ours makes.
func (b *bench) raw(id, ceType, value string) *kgo.Record {
	r := b.command(id, allocate("o1", "CHAIR", 1))
	r.Value = []byte(value)
	r.Headers = cloudevents.Headers(cloudevents.Envelope{ID: id, Source: "test", Type: ceType, ContentType: schemas.ContentTypeJSON})
	return r
}

// in is the record of a command in one of the forms that a producer can choose.
func (b *bench) in(encoding schemas.Encoding, structured bool, id string, c schemas.Command) *kgo.Record {
	r := b.command(id, c)
	e := cloudevents.Envelope{ID: id, Source: "test", Type: c.Type.CEType(), ContentType: encoding.ContentType()}
	r.Headers, r.Value = cloudevents.Headers(e), encoding.AppendCommand(nil, &c)
	if structured {
		r.Headers, r.Value = cloudevents.Structured(e, r.Value)
	}
	return r
}

// document is a record in structured mode, or of whatever else contentType says.
func (b *bench) document(contentType, value string) *kgo.Record {
	r := b.command("", allocate("o1", "CHAIR", 1))
	r.Headers, r.Value = []kgo.RecordHeader{{Key: cloudevents.HeaderContentType, Value: []byte(contentType)}}, []byte(value)
	return r
}

// A command is what it means, not its bytes: sent again in any other form it is a repeat, and with one id and another
// meaning it is a conflict, in any form.
func TestARepeatInAnotherFormIsARepeat(t *testing.T) {
	forms := []struct {
		encoding   schemas.Encoding
		structured bool
	}{{schemas.JSON, false}, {schemas.Protobuf, false}, {schemas.JSON, true}, {schemas.Protobuf, true}}
	b := onKfake(t)
	b.start()
	change := func(qty int32) schemas.Command {
		return schemas.Command{Type: schemas.CommandChangeBatchQuantity, SKU: "CHAIR", Ref: "b1", Qty: qty}
	}
	b.send(b.command("c1", create("b1", "CHAIR", 100)))
	for i, first := range forms {
		id := name("change", i)
		b.send(b.in(first.encoding, first.structured, id, change(int32(10+i))))
		for _, again := range forms {
			b.send(b.in(again.encoding, again.structured, id, change(int32(10+i))), b.in(again.encoding, again.structured, id, change(0)))
		}
	}
	b.send(b.command("o1", allocate("o1", "CHAIR", 13)))
	events := b.events(1 + len(forms)*(1+2*len(forms)) + 1)
	require.Empty(t, b.records(b.topics.DeadLetters.Name, 0))
	for i := range forms {
		own := events[1+i*(1+2*len(forms)):][:1+2*len(forms)]
		require.Equal(t, schemas.EventBatchQuantityChanged, own[0].Type)
		require.Equal(t, int32(10+i), own[0].BatchQty)
		for j := range forms {
			require.Equal(t, "duplicate_command", own[1+2*j].Reason)
			require.Equal(t, "conflicting_command", own[2+2*j].Reason)
		}
	}
	require.Equal(t, schemas.EventAllocated, events[len(events)-1].Type)
}

// Each of these is a dead letter, exactly one, with the original bytes and a sentence that says what is wrong; the
// good commands before and after it are not held up.
func TestUnreadableCommandsAreDeadLetters(t *testing.T) {
	const allocateType = "lotline.command.v1.Allocate"
	b := onKfake(t)
	bad := []struct {
		record *kgo.Record
		says   string
	}{
		{b.raw("x1", allocateType, "\x00\xff garbage"), "JSON"},
		{b.raw("x2", allocateType, `{"orderid":"o1","sku":"CHAIR"`), "JSON"},
		{b.raw("x3", "lotline.command.v1.Destroy", `{}`), "not a known command"},
		{b.raw("x4", allocateType, "{\"orderid\":\"o\xff1\",\"sku\":\"CHAIR\",\"qty\":1}"), "UTF-8"},
		{b.raw("x5", allocateType, `{"orderid":"o1","sku":"CHAIR","qty":1e30}`), "qty 1e30 is not a whole number"},
		{b.raw("x6", allocateType, `{"orderid":"o1","sku":"CHAIR","qty":"3"}`), "qty"},
		{b.raw("x7", allocateType, `{"orderid":"o1","qty":1}`), "sku is missing"},
		{b.raw("x8", allocateType, `{"orderid":"`+strings.Repeat("o", 256)+`","sku":"CHAIR","qty":1}`), "orderid"},
		{b.raw("x9", allocateType, `{"orderid":"a\u0000b","sku":"CHAIR","qty":1}`), "control character"},
		{b.raw("x10", allocateType, strings.Repeat("[", 40)+strings.Repeat("]", 40)), ""},
		{b.document("application/cloudevents+json", `{"type":"`+allocateType+`","data":{"orderid":"o1","sku":"CHAIR"}}`), "qty is missing"},
		{b.document("application/cloudevents+json; charset=utf-8", `{"id":"x","data":{}}`), "the attribute type is missing"},
		{b.document("application/cloudevents+json", `{"type":"`+allocateType+`","id":"a","id":"b"}`), `the name "id" appears twice`},
		{b.document("application/cloudevents+json", `{"data":`+strings.Repeat("[", 1000)), "nested deeper than 17 levels"},
		{b.document("application/cloudevents+json", `{"type":"`+allocateType+`","datacontenttype":"application/protobuf","data_base64":"Cgn/"}`), "the protobuf ends too early"},
		{b.document("application/cloudevents-batch+json", `[]`), "is a batch of messages: send each as a record of its own"},
		{b.document("application/protobuf", "\x0a\x02o1"), "ce_type is missing"},
		{&kgo.Record{Topic: b.topics.Commands.Name, Key: []byte("CHAIR"), Value: []byte(`{}`)}, "ce_type is missing"},
		{&kgo.Record{Topic: b.topics.Commands.Name, Value: nil, Key: nil}, "ce_type is missing"},
	}
	b.start()
	b.send(b.command("c1", create("b1", "CHAIR", 100)))
	for i, c := range bad {
		b.send(c.record, b.command(name("good", i), allocate(name("o", i), "CHAIR", 1)))
	}
	dead := b.records(b.topics.DeadLetters.Name, len(bad))
	require.Len(t, dead, len(bad))
	for i, r := range dead {
		headers := make(map[string]string)
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		var at int
		for at = range bad { // dead letters of several partitions come in any order
			if place(bad[at].record) == headers["dlq_partition"]+"/"+headers["dlq_offset"] {
				break
			}
		}
		sent := bad[at].record
		require.Equal(t, place(sent), headers["dlq_partition"]+"/"+headers["dlq_offset"], "dead letter %d has an origin that was sent", i)
		require.Contains(t, headers["dlq_reason"], bad[at].says)
		require.NotEmpty(t, headers["dlq_reason"])
		require.Equal(t, b.topics.Commands.Name, headers["dlq_topic"])
		require.NotEmpty(t, headers["dlq_timestamp"])
		require.Equal(t, string(sent.Value), string(r.Value), "the original bytes")
		require.Equal(t, string(sent.Key), string(r.Key))
		require.Subset(t, r.Headers, sent.Headers, "the original headers")
	}
	require.Len(t, b.events(1+len(bad)), 1+len(bad), "one outcome for each good command, none for a dead letter")
}

// The largest record that the client reads, nothing but zeros under compression, still fits into a dead letter with
// the headers that say why. If it did not, its partition would stand still.
func TestTheLargestReadableRecordBecomesADeadLetter(t *testing.T) {
	b := onKfake(t)
	b.start()
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("huge"),
		kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(17<<20))...)
	require.NoError(t, err)
	defer client.Close()
	huge := b.raw("huge", "lotline.command.v1.Allocate", string(make([]byte, 16<<20-300)))
	require.NoError(t, client.ProduceSync(t.Context(), huge).FirstErr())
	b.send(b.command("c1", create("b1", "CHAIR", 10)))
	b.events(1)
	require.Len(t, b.records(b.topics.DeadLetters.Name, 1), 1)
}

// A command that can be read and asks for something impossible is answered, by name and with the reason.
func TestImpossibleCommandsAreRejected(t *testing.T) {
	b := onKfake(t)
	b.start()
	for _, c := range []struct {
		command schemas.Command
		reason  string
		message string
	}{
		{allocate("o1", "CHAIR", -3), "qty_out_of_range", "-3"},
		{allocate("o1", "CHAIR", 0), "qty_out_of_range", "0"},
		{allocate("o1", "CHAIR", 2_000_000_000), "qty_out_of_range", "2000000000"},
		{allocate("o1", "NO-SUCH", 1), "invalid_sku", "Invalid sku NO-SUCH"},
		{schemas.Command{Type: schemas.CommandCreateBatch, SKU: "CHAIR", Ref: "b9", Qty: 1, ETA: "9999-01-01"}, "eta_out_of_range", "9999-01-01"},
		{schemas.Command{Type: schemas.CommandChangeBatchQuantity, SKU: "CHAIR", Ref: "b8", Qty: 1}, "unknown_batch", "b8"},
		{schemas.Command{Type: schemas.CommandDeallocate, SKU: "CHAIR", OrderID: "o7"}, "not_allocated", "o7"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			id := "id-" + c.reason + c.message
			b.send(b.command("known-"+id, create("b1", "CHAIR", 10)), b.command(id, c.command))
			var answers []published
			require.Eventually(t, func() bool {
				answers = answers[:0]
				for _, r := range b.records(b.topics.Events.Name, 2) {
					e, err := schemas.DecodeEvent(headerOf(r, cloudevents.HeaderType), schemas.ContentTypeJSON, r.Value)
					require.NoError(t, err)
					if e.CommandID == id {
						answers = append(answers, published{Event: e})
					}
				}
				return len(answers) > 0
			}, waitMax, tick)
			require.Len(t, answers, 1)
			require.Equal(t, schemas.EventCommandRejected, answers[0].Type)
			require.Equal(t, c.reason, answers[0].Reason)
			require.Contains(t, answers[0].Message, c.message)
			require.True(t, answers[0].Last)
		})
	}
}

// A key is for spreading commands over partitions and never decides anything: commands with another key, or none, of
// the same SKU are decided as any other, from whichever partition they come.
func TestKeysDoNotDecide(t *testing.T) {
	b := onKfake(t)
	b.start()
	records := b.orders("CHAIR", 40)
	b.send(records[0])
	b.events(1)
	for i, r := range records[1:] {
		switch i % 3 {
		case 0:
			r.Key = nil
		case 1:
			r.Key = []byte(name("other", i))
		}
	}
	b.send(records[1:]...)
	versions := make(map[uint64]bool)
	for _, e := range b.events(41) {
		require.False(t, versions[e.Version], "version %d is there twice", e.Version)
		versions[e.Version] = true
	}
	for v := range uint64(41) {
		require.True(t, versions[v+1], "version %d is missing", v+1)
	}
}

// A command without an id is named by its place and is never taken for a repeat.
func TestCommandsWithoutAnIDAreNamedByTheirPlace(t *testing.T) {
	b := onKfake(t)
	b.start()
	record := b.command("", allocate("o1", "CHAIR", 1))
	b.send(b.command("c1", create("b1", "CHAIR", 10)), record)
	got := b.events(2)
	require.Equal(t, b.topics.Commands.Name+"/"+place(record), got[1].CommandID)
}

// The time of an event is the broker's: a producer's clock decides nothing. (kfake keeps the producer's timestamps
// whatever the topic says, so only the real broker can show this.)
func TestEventsCarryTheBrokersTimeOnApacheKafka(t *testing.T) {
	b := onKafka(t)
	b.start()
	record := b.command("c1", create("b1", "CHAIR", 10))
	record.Timestamp = time.Now().AddDate(-20, 0, 0)
	b.send(record)
	require.WithinDuration(t, time.Now(), b.events(1)[0].at, waitMax)
}
