//go:build integration

package path

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bad is input that something is wrong with; exactly one of deadLetter and refused says what.
var bad = []struct {
	name               string
	ceType, key, value string
	deadLetter         string // its dlq_reason
	refused            string // the message of its CommandRejected
}{
	{
		name: "unreadable", ceType: allocate, key: "VASE", value: "\x00\x01 no JSON",
		deadLetter: "the data is not valid JSON at byte 0",
	},
	{
		name: "empty", ceType: allocate, key: "VASE", value: "",
		deadLetter: "the data is empty",
	},
	{
		name: "unknown type", ceType: "lotline.command.v1.Paint", key: "VASE", value: `{"sku":"VASE"}`,
		deadLetter: "lotline.command.v1.Paint",
	},
	{
		name: "bad UTF-8", ceType: allocate, key: "VASE", value: "{\"orderid\":\"o\xff\",\"sku\":\"VASE\",\"qty\":1}",
		deadLetter: "the data is not valid UTF-8 at byte 13",
	},
	{
		name: "beyond int32", ceType: allocate, key: "VASE", value: `{"orderid":"o","sku":"VASE","qty":1e30}`,
		deadLetter: "qty 1e30 is not a whole number from -2147483648 to 2147483647",
	},
	{
		name: "negative", ceType: allocate, key: "VASE", value: `{"orderid":"o-negative","sku":"VASE","qty":-3}`,
		refused: "qty -3 is not from 1 to 1000000000",
	},
	{
		name: "too many", ceType: createBatch, key: "VASE", value: `{"ref":"b-many","sku":"VASE","qty":2000000000,"eta":null}`,
		refused: "qty 2000000000 is not from 1 to 1000000000",
	},
	{
		name: "unknown SKU", ceType: allocate, key: "NO-SUCH", value: `{"orderid":"o-no","sku":"NO-SUCH","qty":1}`,
		refused: "Invalid sku NO-SUCH",
	},
}

func TestBadInputHoldsNothingUp(t *testing.T) {
	onEachKafka(t, func(p *pipeline) {
		records := []*kgo.Record{record("first", createBatch, "VASE", `{"ref":"b-1","sku":"VASE","qty":100,"eta":null}`)}
		var unreadable, refusals int
		for i, b := range bad {
			records = append(records, record(fmt.Sprintf("bad-%d", i), b.ceType, b.key, b.value),
				record(fmt.Sprintf("good-%d", i), allocate, "VASE", fmt.Sprintf(`{"orderid":"o-%d","sku":"VASE","qty":1}`, i)))
			if b.deadLetter != "" {
				unreadable++
			} else {
				refusals++
			}
		}
		// All in one partition, so that each bad one is in the way of a good one.
		p.produce(records, kgo.RecordPartitioner(kgo.ManualPartitioner()))

		for i, b := range bad {
			p.answers(fmt.Sprintf("/commands/good-%d", i), `"outcome":"Allocated"`)
			p.answers(fmt.Sprintf("/allocations/o-%d", i), `[{"sku":"VASE","batchref":"b-1"}]`)
			if b.refused != "" {
				p.answers(fmt.Sprintf("/commands/bad-%d", i), `"outcome":"CommandRejected"`, b.refused)
			}
		}
		p.selects("SELECT count(), uniqExact(commandid) FROM outcomes FINAL FORMAT CSV", fmt.Sprintf("%[1]d,%[1]d", len(records)-unreadable))
		p.selects("SELECT available FROM skus FINAL WHERE sku = 'VASE'", fmt.Sprint(100-len(bad)))
		p.consume(p.topics.Events.Name, 1+len(bad)+refusals)
		letters := p.consume(p.topics.DeadLetters.Name, unreadable)
		for i, b := range bad {
			if b.deadLetter == "" {
				continue
			}
			letter := letters[0]
			letters = letters[1:]
			require.Contains(p, header(letter, "dlq_reason"), b.deadLetter, b.name)
			require.Equal(p, p.topics.Commands.Name, header(letter, "dlq_topic"))
			require.Equal(p, "0", header(letter, "dlq_partition"))
			require.Equal(p, fmt.Sprint(1+2*i), header(letter, "dlq_offset"))
			require.Equal(p, fmt.Sprintf("bad-%d", i), header(letter, "ce_id"))
			require.Equal(p, b.key, string(letter.Key))
			require.Equal(p, b.value, string(letter.Value), b.name)
		}
	})
}

func TestKeysThatAreNotTheSKUAreAccepted(t *testing.T) {
	onEachKafka(t, func(p *pipeline) {
		p.produce([]*kgo.Record{record("c-1", createBatch, "MIRROR", `{"ref":"b-1","sku":"MIRROR","qty":10,"eta":null}`)})
		p.answers("/commands/c-1", `"outcome":"BatchCreated"`)
		p.produce([]*kgo.Record{
			record("c-2", allocate, "", `{"orderid":"o-2","sku":"MIRROR","qty":1}`),
			record("c-3", allocate, "o-3", `{"orderid":"o-3","sku":"MIRROR","qty":1}`),
		})
		p.answers("/commands/c-2", `"outcome":"Allocated"`)
		p.answers("/commands/c-3", `"outcome":"Allocated"`)
		p.selects("SELECT available, version FROM skus FINAL FORMAT CSV", "8,3")
		for _, r := range p.consume(p.topics.Events.Name, 3) {
			require.Equal(p, "MIRROR", string(r.Key), "events are keyed by SKU, whatever the command was")
		}
		p.consume(p.topics.DeadLetters.Name, 0)
		_, metrics := get(p, p.metrics)
		require.Regexp(p, `(?m)^lotline_allocator_key_mismatches_total 2$`, metrics)
	})
}
