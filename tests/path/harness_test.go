//go:build integration

// Package path holds the tests that follow a command along the whole pipeline, as its users do: in by a Kafka client or
// over HTTP, the answer out of ClickHouse and of the gateway. They import the test servers and stack, and of the rest
// only what a client would: the topics' names.
package path

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

const (
	answerWithin = 20 * time.Second
	lookEvery    = 50 * time.Millisecond
	oneMoreWait  = 500 * time.Millisecond // for a record that must not come
)

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	code := m.Run()
	os.RemoveAll(lotlineDir)
	os.Exit(code)
}

// pipeline is a running installation of one test's own.
type pipeline struct {
	*testing.T
	on         stack.Servers
	topics     topics.Set
	gateway    string   // URL
	metrics    string   // URL of the allocator's
	admins     []string // addresses of every service's health and metrics
	clickhouse string   // URL
}

// onEachKafka runs a test on a pipeline on kfake and on one on Apache Kafka.
func onEachKafka(t *testing.T, test func(p *pipeline), change ...func(*stack.Config)) {
	t.Helper()
	isolation.OnEachKafka(t, func(t *testing.T, on stack.Servers) { onServers(t, on, test, change...) })
}

// onKfake runs a test to which it does not matter which Kafka it has. Tests that wait more than they work say so by t.Parallel,
// and run two at a time after the others: each has topics and databases of its own. Those under load (busy) do not.
func onKfake(t *testing.T, test func(p *pipeline), change ...func(*stack.Config)) {
	t.Helper()
	isolation.OnKfake(t, func(t *testing.T, on stack.Servers) { onServers(t, on, test, change...) })
}

func onServers(t *testing.T, on stack.Servers, test func(p *pipeline), change ...func(*stack.Config)) {
	t.Helper()
	p, stop := start(t, on, change...)
	t.Cleanup(stop)
	test(p)
}

// start boots a pipeline with the default configuration, less the changes.
func start(t *testing.T, on stack.Servers, changes ...func(*stack.Config)) (p *pipeline, stop func()) {
	t.Helper()
	config, err := stack.Configure(on)
	require.NoError(t, err)
	for _, change := range changes {
		change(&config)
	}
	running, err := stack.Start(t.Context(), config)
	require.NoError(t, err)
	p = &pipeline{
		T: t, on: on, topics: topics.Declared(on.TopicPrefix),
		gateway: "http://" + config.Gateway.HTTPAddr, metrics: "http://" + config.Allocator.AdminAddr + "/metrics",
		admins:     []string{config.Allocator.AdminAddr, config.Projector.AdminAddr, config.Gateway.AdminAddr},
		clickhouse: "http://" + isolation.Setting(t, "LOTLINE_TEST_CLICKHOUSE_HTTP"),
	}
	return p, func() { require.NoError(t, running.Stop()) }
}

// record is a command as an upstream system in any language would produce it; the wire is spelled out here on purpose.
func record(id, ceType, key, value string) *kgo.Record {
	r := &kgo.Record{Value: []byte(value), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(id)},
		{Key: "ce_source", Value: []byte("/test")},
		{Key: "ce_type", Value: []byte(ceType)},
	}}
	if key != "" {
		r.Key = []byte(key)
	}
	return r
}

// produce sends records in order, with the default partitioner unless the options have another.
func (p *pipeline) produce(records []*kgo.Record, opts ...kgo.Opt) {
	p.Helper()
	opts = append(opts, kgo.SeedBrokers(p.on.Kafka...), kgo.DefaultProduceTopic(p.topics.Commands.Name))
	client, err := kgo.NewClient(opts...)
	require.NoError(p, err)
	defer client.Close()
	require.NoError(p, client.ProduceSync(p.Context(), records...).FirstErr())
}

// consume reads a topic, read_committed, until n records are there, and a moment more for one too many.
func (p *pipeline) consume(topic string, n int) []*kgo.Record {
	p.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.NoError(p, err)
	defer client.Close()
	var got []*kgo.Record
	for end := time.Now().Add(answerWithin); ; {
		wait := time.Until(end)
		if len(got) >= n {
			wait = oneMoreWait
		}
		ctx, cancel := context.WithTimeout(p.Context(), wait)
		fetches := client.PollFetches(ctx)
		cancel()
		got = append(got, fetches.Records()...)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			require.Len(p, got, n, "records of %s", topic)
			return got
		}
		require.NoError(p, fetches.Err())
	}
}

// post returns the status and body of a POST of JSON.
func (p *pipeline) post(path, body string) (status int, answer string) {
	p.Helper()
	response, err := http.Post(p.gateway+path, "application/json", strings.NewReader(body))
	require.NoError(p, err)
	return read(p, response)
}

func get(t require.TestingT, address string) (status int, answer string) {
	response, err := http.Get(address)
	require.NoError(t, err)
	return read(t, response)
}

func read(t require.TestingT, response *http.Response) (status int, body string) {
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, strings.TrimSpace(string(text))
}

// answers waits until the gateway answers a question with 200 and a body that contains each of the texts.
func (p *pipeline) answers(path string, texts ...string) {
	p.Helper()
	require.EventuallyWithT(p, func(c *assert.CollectT) {
		status, body := get(c, p.gateway+path)
		require.Equal(c, http.StatusOK, status, body)
		for _, text := range texts {
			require.Contains(c, body, text)
		}
	}, answerWithin, lookEvery, path)
}

// selects waits until ClickHouse answers a query with these lines.
func (p *pipeline) selects(query, want string) {
	p.Helper()
	address := fmt.Sprintf("%s/?database=%s&query=%s", p.clickhouse, p.on.Database, url.QueryEscape(query))
	require.EventuallyWithT(p, func(c *assert.CollectT) {
		_, body := get(c, address)
		require.Equal(c, want, body)
	}, answerWithin, lookEvery, query)
}
