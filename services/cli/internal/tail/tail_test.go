package tail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

func TestStartAt(t *testing.T) {
	for from, want := range map[string]int64{
		"start": 10, "end": 20, "10": 10, "15": 15, "20": 20,
		"0": 10, "99": 20, "-1": 19, "-10": 10, "-99": 10, "-0": 10,
	} {
		got, err := startAt(from, 10, 20)
		require.NoError(t, err, from)
		require.Equal(t, want, got, from)
	}
	for _, from := range []string{"", "begin", "1.5", "-9223372036854775808", "99999999999999999999"} {
		_, err := startAt(from, 10, 20)
		require.ErrorContains(t, err, "is not start, end, an offset", from)
	}
}

// Anyone may write to the commands topic; an operator's terminal obeys control
// characters.
func TestWhatIsPrintedOfAHostileRecordIsOneLineOfPlainJSON(t *testing.T) {
	evil := "\x1b[2J\u009b2J\r\n\x7f\u2028"
	r := &kgo.Record{
		Key: []byte(evil), Value: []byte(evil), Timestamp: time.UnixMilli(0),
		Headers: []kgo.RecordHeader{{Key: evil, Value: []byte("\xff")}, {Key: "ce_type", Value: []byte("a") /* first of two */}, {Key: "ce_type", Value: []byte(evil)}},
	}
	v, sku := view(r, decodeCommand)
	require.Equal(t, evil, sku)
	var out bytes.Buffer
	require.NoError(t, appendLine(&out, v))
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.NotContains(t, strings.TrimSuffix(out.String(), "\n"), "\r")
	for _, r := range strings.TrimSuffix(out.String(), "\n") {
		require.False(t, r < ' ' || r >= 0x7f && r <= 0x9f, "%q", r)
	}
	var back line
	require.NoError(t, json.Unmarshal(out.Bytes(), &back))
	require.Equal(t, evil, *back.Key)
	require.Equal(t, evil, back.Raw)
	require.Equal(t, "the header ce_type has a control character", back.Error)

	r.Value = []byte{0xff, 0x00}
	v, _ = view(r, decodeCommand)
	require.Empty(t, v.Raw)
	require.Equal(t, r.Value, v.RawBase64)
}

func TestEveryFormOfACommandIsPrintedAlike(t *testing.T) {
	c := schemas.Command{Type: schemas.CommandAllocate, OrderID: "o", SKU: "LAMP", Qty: 3}
	for _, encoding := range []schemas.Encoding{schemas.JSON, schemas.Protobuf} {
		e := cloudevents.Envelope{ID: "c-1", Source: "/shop", Type: c.Type.CEType(), ContentType: encoding.ContentType()}
		data := encoding.AppendCommand(nil, &c)
		v, sku := view(&kgo.Record{Headers: cloudevents.Headers(e), Value: data}, decodeCommand)
		require.Equal(t, []string{"LAMP", "Allocate", `{"orderid":"o","sku":"LAMP","qty":3}`}, []string{sku, v.Type, string(v.Value)})
		require.Nil(t, v.Attributes, "they are in the headers")

		headers, document := cloudevents.Structured(e, data)
		v, sku = view(&kgo.Record{Headers: headers, Value: document}, decodeCommand)
		require.Equal(t, []string{"LAMP", "Allocate", `{"orderid":"o","sku":"LAMP","qty":3}`}, []string{sku, v.Type, string(v.Value)})
		require.Equal(t, map[string]string{
			"specversion": "1.0", "id": "c-1", "source": "/shop", "type": "lotline.command.v1.Allocate", "datacontenttype": encoding.ContentType(),
		}, v.Attributes)
	}
}

type topic struct {
	t    *testing.T
	opts []kgo.Opt
	name string
}

func newTopic(t *testing.T, partitions int32) topic {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "events"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return topic{t, []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, "events"}
}

// produce appends events to a partition in a transaction of their own.
func (tp topic) produce(partition int32, end kgo.TransactionEndTry, skus ...string) {
	tp.t.Helper()
	client := tp.begin(partition, skus...)
	defer client.Close()
	require.NoError(tp.t, client.EndTransaction(tp.t.Context(), end))
}

func (tp topic) begin(partition int32, skus ...string) *kgo.Client {
	tp.t.Helper()
	client, err := kgo.NewClient(append(tp.opts, kgo.DefaultProduceTopic(tp.name), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(fmt.Sprint(time.Now().UnixNano())))...)
	require.NoError(tp.t, err)
	require.NoError(tp.t, client.BeginTransaction())
	for i, sku := range skus {
		e := schemas.Event{Type: schemas.EventOutOfStock, SKU: sku, Version: uint64(i) + 1, CommandID: "c", Last: true, OrderID: "o", Qty: 1}
		require.NoError(tp.t, client.ProduceSync(tp.t.Context(), &kgo.Record{
			Partition: partition, Key: []byte(sku), Value: schemas.AppendEvent(nil, &e),
			Headers: cloudevents.Headers(cloudevents.Envelope{ID: "e", Type: e.Type.CEType()}),
		}).FirstErr())
	}
	return client
}

// run tails and returns "partition/offset sku" of each line.
func (tp topic) run(o Options) (lines []string, warnings string) {
	tp.t.Helper()
	o.Kind, o.Topic = Events, tp.name
	if o.From == "" {
		o.From = "start"
	}
	var out, warn bytes.Buffer
	require.NoError(tp.t, Run(tp.t.Context(), tp.opts, o, &out, &warn))
	for dec := json.NewDecoder(&out); ; {
		var l struct {
			line
			Value struct{ SKU string } `json:"value"`
		}
		err := dec.Decode(&l)
		if err == io.EOF {
			return lines, warn.String()
		}
		require.NoError(tp.t, err)
		require.Empty(tp.t, l.Error)
		lines = append(lines, fmt.Sprintf("%d/%d %s", l.Partition, l.Offset, l.Value.SKU))
	}
}

func TestRunEndsAtTheEndThatWasThere(t *testing.T) {
	tp := newTopic(t, 3)
	lines, _ := tp.run(Options{})
	require.Empty(t, lines, "an empty topic")

	tp.produce(0, kgo.TryCommit, "A", "B")
	tp.produce(2, kgo.TryCommit, "C")
	tp.produce(0, kgo.TryAbort, "X", "Y")
	lines, warnings := tp.run(Options{})
	require.ElementsMatch(t, []string{"0/0 A", "0/1 B", "2/0 C"}, lines, "nothing of an aborted transaction")
	require.Empty(t, warnings)

	lines, _ = tp.run(Options{Partitions: []int32{2}})
	require.Equal(t, []string{"2/0 C"}, lines)
	lines, _ = tp.run(Options{From: "1", Partitions: []int32{0}})
	require.Equal(t, []string{"0/1 B"}, lines)
	lines, _ = tp.run(Options{Count: 1, Partitions: []int32{0}})
	require.Equal(t, []string{"0/0 A"}, lines)
	lines, _ = tp.run(Options{SKU: "B"})
	require.Equal(t, []string{"0/1 B"}, lines)
	lines, _ = tp.run(Options{Types: []string{"Allocated"}})
	require.Empty(t, lines)
	lines, _ = tp.run(Options{Types: []string{"Allocated", "lotline.event.v1.OutOfStock"}, SKU: "C"})
	require.Equal(t, []string{"2/0 C"}, lines)
}

func TestRunShowsNothingOfAnOpenTransaction(t *testing.T) {
	tp := newTopic(t, 1)
	tp.produce(0, kgo.TryCommit, "A")
	open := tp.begin(0, "B")
	defer open.Close()
	lines, _ := tp.run(Options{})
	require.Equal(t, []string{"0/0 A"}, lines)
	require.NoError(t, open.EndTransaction(t.Context(), kgo.TryCommit))
	lines, _ = tp.run(Options{})
	require.Equal(t, []string{"0/0 A", "0/2 B"}, lines)
}

// notify tells when a first write has come.
type notify struct {
	bytes.Buffer
	wrote func()
}

func (n *notify) Write(p []byte) (int, error) {
	n.Buffer.Write(p)
	if len(p) > 0 {
		n.wrote()
	}
	return len(p), nil
}

func TestFollowShowsWhatComesAndEndsWithItsContext(t *testing.T) {
	tp := newTopic(t, 1)
	tp.produce(0, kgo.TryCommit, "OLD")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := &notify{wrote: cancel}
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, tp.opts, Options{Kind: Events, Topic: tp.name, From: "end", Follow: true}, out, io.Discard)
	}()
	// It may not have found the end yet: later events are also after it.
	for ctx.Err() == nil {
		tp.produce(0, kgo.TryCommit, "NEW")
		time.Sleep(100 * time.Millisecond)
	}
	require.NoError(t, <-done)
	require.Contains(t, out.String(), `"sku":"NEW"`)
	require.NotContains(t, out.String(), "OLD")
}

func TestMistakesAreAnsweredBySentences(t *testing.T) {
	tp := newTopic(t, 2)
	for want, o := range map[string]Options{
		"the topic nowhere does not exist: create it with `lotline topics apply`": {Kind: Events, Topic: "nowhere", From: "start"},
		"the topic events has no partition 7, only 0 to 1":                        {Kind: Events, Topic: tp.name, From: "start", Partitions: []int32{7}},
		"--from=later is not start":                                               {Kind: Events, Topic: tp.name, From: "later"},
	} {
		require.ErrorContains(t, Run(t.Context(), tp.opts, o, io.Discard, io.Discard), want)
	}
}

func TestTypesThatNobodyKnowsAreNamed(t *testing.T) {
	for kind, want := range map[Kind][]string{Events: {"Alocated", "Allocate"}, Commands: {"Alocated", "lotline.event.v1.Allocated"}, DeadLetters: nil} {
		o := Options{Kind: kind, Types: []string{"Alocated", "Allocate", "lotline.event.v1.Allocated"}}
		require.Equal(t, want, o.unknownTypes(), kind)
	}
	tp := newTopic(t, 1)
	var warned bytes.Buffer
	require.NoError(t, Run(t.Context(), tp.opts, Options{Kind: Events, Topic: tp.name, From: "start", Types: []string{"Alocated"}}, io.Discard, &warned))
	require.Contains(t, warned.String(), "nothing of the type Alocated")
}

// The last record below the end belongs to an aborted transaction whose marker
// is above it: no record will ever show that the end was reached.
func TestRunEndsBelowAnAbortedTransactionAndSaysSo(t *testing.T) {
	t.Parallel()
	tp := newTopic(t, 1)
	tp.produce(0, kgo.TryCommit, "A")
	aborted := tp.begin(0, "X")
	defer aborted.Close()
	open := tp.begin(0, "B")
	defer open.Close()
	require.NoError(t, aborted.EndTransaction(t.Context(), kgo.TryAbort))
	lines, warnings := tp.run(Options{})
	require.Equal(t, []string{"0/0 A"}, lines)
	require.Contains(t, warnings, "Nothing more came for 3s, though the end was not reached")
}
