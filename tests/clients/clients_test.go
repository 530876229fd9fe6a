//go:build integration

package clients

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

const readWithin = time.Minute

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	os.Exit(m.Run())
}

func TestClientsOnApacheKafka(t *testing.T) {
	s := newScenario(t)
	running := s.run(schemas.JSON)
	s.Cleanup(func() { require.NoError(s, running.Stop()) })
	prepared := make(chan language, len(languages))
	t.Run("produce", func(t *testing.T) {
		for name, prepare := range languages {
			out := s.TempDir() // outlives the subtest
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				client := prepare(t, out)
				for _, p := range client.producers {
					s.send(t, client, p)
				}
				prepared <- client
			})
		}
	})
	require.Len(t, prepared, len(languages))
	close(prepared)
	var consumers []*consumer
	for client := range prepared {
		for _, p := range client.producers {
			s.sent = append(s.sent, p.workload)
		}
		consumers = append(consumers, s.newConsumer(client))
	}

	s.awaitOutcomes()
	s.checkPartitions()
	s.abortEvents()
	s.killInTheMiddle(consumers)
	s.handleAll(consumers)
	s.handleAllAgain(consumers)
	s.checkHole(consumers)
}

// TestProtobufConsumerOnApacheKafka: the Python consumer for protobuf reads a topic that has events in both encodings.
func TestProtobufConsumerOnApacheKafka(t *testing.T) {
	s := newScenario(t)
	out := t.TempDir()
	client := python(t, out)
	client.consumer = []string{"env", "PYTHONPATH=" + out, client.consumer[0], "-B", "protobuf_consumer.py"}
	for i, encoding := range []schemas.Encoding{schemas.JSON, schemas.Protobuf} {
		running := s.run(encoding)
		s.send(t, client, client.producers[i])
		s.sent, s.events = append(s.sent, client.producers[i].workload), nil
		s.awaitOutcomes()
		require.NoError(t, running.Stop())
	}
	encodings := make(map[string]bool)
	for _, e := range s.events {
		encodings[header(e.record, "content-type")] = true
	}
	require.Len(t, encodings, 2)
	consumers := []*consumer{s.newConsumer(client)}
	s.abortEvents()
	s.killInTheMiddle(consumers)
	s.handleAll(consumers)
	s.handleAllAgain(consumers)
	s.checkHole(consumers)
}

// scenario is a running installation and what its topics say.
type scenario struct {
	*testing.T
	on     stack.Servers
	topics topics.Set
	sent   []workload
	events []event // once awaitOutcomes has them all
}

func newScenario(t *testing.T) *scenario {
	on := isolation.OnApacheKafka(t)
	return &scenario{T: t, on: on, topics: topics.Declared(on.TopicPrefix)}
}

// run starts an installation that writes its events in the encoding.
func (s *scenario) run(events schemas.Encoding) *stack.Stack {
	s.Helper()
	config, err := stack.Configure(s.on)
	require.NoError(s, err)
	config.Allocator.EventContentType = events
	running, err := stack.Start(s.Context(), config)
	require.NoError(s, err)
	return running
}

func (s *scenario) send(t *testing.T, client language, p producer) {
	t.Helper()
	sending := start(t, client.dir, p.command, s.environment(), p.lines)
	require.Zero(t, sending.exit(t, produceWithin), "%s\n%s", p.command, &sending.log)
}

func (s *scenario) environment() []string {
	return []string{"LOTLINE_KAFKA_BROKERS=" + strings.Join(s.on.Kafka, ","), "LOTLINE_KAFKA_TOPIC_PREFIX=" + s.on.TopicPrefix}
}

func (s *scenario) client(opts ...kgo.Opt) *kgo.Client {
	s.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.on.Kafka...))...)
	require.NoError(s, err)
	s.Cleanup(client.Close)
	return client
}

// event is one that was read from the events topic.
type event struct {
	schemas.Event
	ceID   string
	record *kgo.Record
}

func parse(t *testing.T, r *kgo.Record) event {
	t.Helper()
	e, err := schemas.DecodeEvent(header(r, "ce_type"), header(r, "content-type"), r.Value)
	require.NoError(t, err)
	return event{e, header(r, "ce_id"), r}
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// poll hands over what a client reads until done says so.
func (s *scenario) poll(client *kgo.Client, done func() bool, take func(*kgo.Record)) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), readWithin)
	defer cancel()
	for !done() {
		fetches := client.PollFetches(ctx)
		require.NoError(s, fetches.Err())
		fetches.EachRecord(take)
	}
}

// awaitOutcomes reads the events until each command that was sent has its last one, and checks that every kind of event was
// among them, and that what could not be read is a dead letter.
func (s *scenario) awaitOutcomes() {
	s.Helper()
	waiting, unreadable := make(map[string]int), make(map[string]int)
	for _, w := range s.sent {
		for _, id := range w.ids {
			waiting[id]++
		}
		if w.unreadable != "" {
			unreadable[w.unreadable]++
		}
	}
	kinds := make(map[string]int)
	events := s.client(kgo.ConsumeTopics(s.topics.Events.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	s.poll(events, func() bool { return len(waiting) == 0 }, func(r *kgo.Record) {
		e := parse(s.T, r)
		s.events = append(s.events, e)
		kinds[e.Type.String()]++
		if e.Last {
			s.tick(waiting, e.CommandID)
		}
	})
	for _, kind := range []string{
		"BatchCreated", "BatchQuantityChanged", "Allocated", "Deallocated", "OutOfStock", "CommandIgnored", "CommandRejected",
	} {
		require.Positive(s, kinds[kind], "the workload is to have all kinds of events, it has %v", kinds)
	}
	letters := s.client(kgo.ConsumeTopics(s.topics.DeadLetters.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	s.poll(letters, func() bool { return len(unreadable) == 0 }, func(r *kgo.Record) {
		id := header(r, "ce_id")
		if id == "" { // of a document
			var document struct{ ID string }
			require.NoError(s, json.Unmarshal(r.Value, &document))
			id = document.ID
		}
		s.tick(unreadable, id)
	})
}

// tick takes one off what is waited for, which has to be there.
func (s *scenario) tick(waiting map[string]int, id string) {
	s.Helper()
	require.Positive(s, waiting[id], "%s was not sent, or not so often", id)
	if waiting[id]--; waiting[id] == 0 {
		delete(waiting, id)
	}
}

// checkPartitions: every producer puts a SKU's commands where Go's would, and so are the events.
func (s *scenario) checkPartitions() {
	s.Helper()
	check := func(r *kgo.Record) {
		ours := kgo.StickyKeyPartitioner(nil).ForTopic(r.Topic).Partition(r, int(s.topics.Commands.Partitions))
		require.EqualValues(s, ours, r.Partition, "partition of %q, a command or event of %s", r.Key, header(r, "ce_source"))
	}
	for _, e := range s.events {
		check(e.record)
	}
	left := 0
	for _, w := range s.sent {
		left += w.sent
	}
	commands := s.client(kgo.ConsumeTopics(s.topics.Commands.Name))
	s.poll(commands, func() bool { return left <= 0 }, func(r *kgo.Record) {
		check(r)
		left--
	})
	require.Zero(s, left, "more commands than were sent")
}

// abortEvents writes an event more of every SKU in a transaction that is aborted. Whoever reads uncommitted events
// handles them.
func (s *scenario) abortEvents() {
	s.Helper()
	client := s.client(kgo.DefaultProduceTopic(s.topics.Events.Name), kgo.TransactionalID(s.on.TopicPrefix+".aborted"))
	require.NoError(s, client.BeginTransaction())
	var records []*kgo.Record
	for _, sku := range skus() {
		records = append(records, s.oneMore(sku, 1))
	}
	require.NoError(s, client.ProduceSync(s.Context(), records...).FirstErr())
	require.NoError(s, client.EndTransaction(s.Context(), kgo.TryAbort))
}

// oneMore returns an event that nobody has decided: a SKU's last allocation again, with a version past the last.
func (s *scenario) oneMore(sku string, past uint64) *kgo.Record {
	s.Helper()
	var last event
	var version uint64
	for _, e := range s.events {
		if e.SKU != sku {
			continue
		}
		version = max(version, e.Version)
		if e.Type == schemas.EventAllocated {
			last = e
		}
	}
	last.Version = version + past
	made := &kgo.Record{Key: last.record.Key, Value: schemas.AppendEvent(nil, &last.Event), Headers: slices.Clone(last.record.Headers)}
	for i, h := range made.Headers {
		switch h.Key {
		case "ce_id":
			made.Headers[i].Value = []byte("made up of " + last.ceID)
		case "content-type":
			made.Headers[i].Value = []byte(schemas.ContentTypeJSON)
		}
	}
	return made
}
