//go:build integration

// Package console holds the tests of the gateway's console in a real browser, on a pipeline of its own: each view is
// opened, used and looked at, by people with a mouse, with keys only, on a phone and in the dark. It imports the test
// servers, stack and browser, and leaves pictures in bin/console.
package console

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/tests/internal/browser"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	os.Exit(m.Run())
}

// Hostile ids, each a SKU, an order or a batch.
const (
	script = `<script>alert(1)</script><img src=x onerror=alert(2)>"'` + "`" + `${7*7}{{7*7}}\`
	emoji  = `🪑 é`
	slash  = `a/../b?c=d&e#f%2F+`
	dots   = `..`
)

// site is a running pipeline and a browser to look at it.
type site struct {
	gateway string
	config  gateway.Config
	kafka   *servers.Server
	proxy   *toxiproxy.Proxy // between the gateway and ClickHouse
	topics  topics.Set
	browser *browser.Browser
}

func TestConsole(t *testing.T) {
	s := start(t)
	t.Run("overview", s.overview)
	t.Run("sku", s.sku)
	t.Run("order", s.order)
	t.Run("search", s.search)
	t.Run("hostile ids", s.hostileIDs)
	t.Run("shell words", s.shellWords)
	t.Run("send", s.send)
	t.Run("dead letters", s.deadLetters)
	t.Run("answers", s.answers)
	t.Run("phone", s.phone)
	t.Run("docs", s.docs)
	t.Run("keys", s.keys)
	t.Run("outage", s.outage)
}

func start(t *testing.T) *site {
	kafka, err := servers.StartKfake(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "kfake")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Stop()) })
	on := isolation.Databases(t)
	on.Kafka, on.TopicPrefix, on.Replication = []string{kafka.Addr}, on.Database, 1
	config, err := stack.Configure(on)
	require.NoError(t, err)
	proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "clickhouse", "127.0.0.1:0", on.ClickHouse)
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	config.Gateway.ClickHouse.Addrs = []string{proxy.Listen}
	running, err := stack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	s := &site{gateway: "http://" + config.Gateway.HTTPAddr, config: config.Gateway, kafka: kafka, proxy: proxy, topics: topics.Declared(on.TopicPrefix), browser: browser.Start(t)}
	s.trade(t)
	return s
}

// trade sends a shop's commands, and waits until all of them are in the read model.
func (s *site) trade(t *testing.T) {
	s.post(t, "/add_batch", map[string]any{"ref": "chairs-1", "sku": "GREEN-CHAIR", "qty": 20, "eta": nil})
	s.post(t, "/add_batch", map[string]any{"ref": "chairs-2", "sku": "GREEN-CHAIR", "qty": 100, "eta": "2031-01-02"})
	s.post(t, "/add_batch", map[string]any{"ref": "tables-1", "sku": "ROUND-TABLE", "qty": 5, "eta": nil})
	s.post(t, "/allocate", map[string]any{"orderid": "order-1", "sku": "GREEN-CHAIR", "qty": 12})
	s.post(t, "/allocate", map[string]any{"orderid": "order-1", "sku": "ROUND-TABLE", "qty": 6}) // out of stock
	s.post(t, "/change_batch_quantity", map[string]any{"ref": "chairs-1", "sku": "GREEN-CHAIR", "qty": 8})
	for i, id := range []string{script, emoji, slash, dots} {
		s.post(t, "/add_batch", map[string]any{"ref": id, "sku": id, "qty": 50 + i, "eta": nil})
		s.post(t, "/allocate", map[string]any{"orderid": id, "sku": id, "qty": 7})
	}
	require.Eventually(t, func() bool {
		response, err := http.Get(s.gateway + "/console/sku?" + url.Values{"id": {dots}}.Encode())
		require.NoError(t, err)
		defer response.Body.Close()
		var answer struct{ Version int }
		return json.NewDecoder(response.Body).Decode(&answer) == nil && answer.Version == 2
	}, 20*time.Second, 50*time.Millisecond)
}

// post sends a command over HTTP and waits for its outcome.
func (s *site) post(t *testing.T, path string, body map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+path, strings.NewReader(string(text)))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", "wait=10")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Less(t, response.StatusCode, 300, "%s", text)
}

// produce writes records to Kafka.
func (s *site) produce(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Addr))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
}

// open opens a view, which is a hash.
func (s *site) open(t *testing.T, view string) *browser.Page {
	t.Helper()
	return s.browser.Open(t, s.gateway+"/"+view)
}

// inEachTheme holds a view to axe in the light and in the dark, and keeps a picture of both.
func inEachTheme(p *browser.Page, name string) {
	p.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.Prefer(scheme)
		p.RequireAccessible()
		p.RequireFits()
		p.Picture(name + "-" + scheme)
	}
	p.Prefer("light")
}
