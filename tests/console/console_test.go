//go:build integration

// Package console holds the tests of the gateway's console in a real browser, on a pipeline of its own: each view is
// opened, used and looked at, by people with a mouse, with keys only, on a phone and in the dark. It imports the test
// servers, stack and browser, and leaves pictures in bin/console.
package console

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/chromedp/chromedp/kb"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/tests/internal/browser"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/internal/ports"
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
	t.Run("send", s.send)
	t.Run("dead letters", s.deadLetters)
	t.Run("phone", s.phone)
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

func (s *site) overview(t *testing.T) {
	p := s.open(t, "")
	p.SeesIn(".state", "live")
	p.SeesIn(".station", "2 at work") // the allocator's sessions
	p.Sees("Nothing is happening")
	for i := range 6 {
		s.post(t, "/allocate", map[string]any{"orderid": fmt.Sprint("seen-", i), "sku": "GREEN-CHAIR", "qty": 1})
	}
	p.SeesIn(".feed", "seen-5")
	p.SeesIn(".station", "up to date")
	p.SeesIn(".legend", "half decided in")
	p.Until(`document.querySelectorAll("lot-chart canvas").length === 2`)
	p.Until(`[...document.querySelectorAll(".bars li")].length === 24`) // twelve partitions of each topic
	p.Until(`/decided within \d+/.test(document.querySelectorAll("lot-chart")[1].getAttribute("aria-label"))`)
	inEachTheme(p, "overview")

	// The button wins over the system, and is remembered.
	paper := func() string { return p.Text(`getComputedStyle(document.documentElement).backgroundColor`) }
	light := paper()
	for range 2 {
		p.Click(`button[title="Theme"]`)
	}
	require.NotEqual(t, light, paper())
	dark := paper()
	p.Go(s.gateway + "/")
	p.SeesIn(".state", "live")
	require.Equal(t, dark, paper())
	p.RequireQuiet()
}

func (s *site) sku(t *testing.T) {
	p := s.open(t, "#/sku/GREEN-CHAIR")
	p.SeesIn("h1", "GREEN-CHAIR")
	p.SeesIn(".batches", "chairs-2")
	p.SeesIn(".story", "Quantity changed")
	p.Sees("Available to promise, by day")
	p.SeesIn("output", "chairs-1")
	p.Fill("#qty", "50")
	p.SeesIn("output", "Jan 2, 2031")
	p.Fill("#qty", "101")
	p.SeesIn("output", "no single batch")
	p.Until(`document.querySelectorAll("lot-chart canvas").length === 2`)
	s.post(t, "/allocate", map[string]any{"orderid": "fresh", "sku": "GREEN-CHAIR", "qty": 2})
	p.SeesIn(".story", "fresh") // without reloading
	inEachTheme(p, "sku")

	p.Go(s.gateway + "/#/sku/NEVER-SEEN")
	p.Sees("No batch of this SKU was ever created")
	p.RequireAccessible()
	p.RequireQuiet()
}

func (s *site) order(t *testing.T) {
	p := s.open(t, "#/order/order-1")
	p.Sees("1 of 2 lines have a batch")
	p.Until(`[...document.querySelectorAll(".tale")].map((tale) => [...tale.querySelectorAll(".badge")].map((b) => b.innerText).join()).sort().join(";")
		=== "Allocated,Deallocated,Allocated;Out of stock"`)
	p.Sees("it holds less now")
	inEachTheme(p, "order")
	p.Click(".tale a")
	p.SeesIn(".journey", "in the read model")
	p.SeesIn(".story", "batch chairs-1")
	inEachTheme(p, "command")
	p.Back()
	p.SeesIn("h1", "order-1")
	p.Click(".grid h2 a")
	p.Until(`location.hash.startsWith("#/sku/")`)
	p.Go(s.gateway + "/#/command/nobody's")
	p.Sees("No outcome of this command is known")
	p.RequireAccessible()
	p.RequireQuiet()
}

// search goes with keys only, from the overview to what is searched.
func (s *site) search(t *testing.T) {
	p := s.open(t, "")
	p.SeesIn(".state", "live")
	for _, c := range []struct{ id, hash, sees string }{
		{"GREEN-CHAIR", "#/sku/GREEN-CHAIR", "In stock"},
		{"order-1", "#/order/order-1", "of 2 lines"},
		{"chairs-2", "#/sku/GREEN-CHAIR?batch=chairs-2", "In stock"},
	} {
		p.Press("/")
		p.Keys(c.id, kb.Enter)
		p.Until("location.hash === " + fmt.Sprintf("%q", c.hash))
		p.Sees(c.sees)
		p.Keys(kb.Tab)
		p.Run(`document.activeElement.blur(); document.getElementById("search").value = ""`)
	}
	p.Until(`document.querySelector(".batches [data-found]") !== null`)
	p.Press("/")
	p.Keys("nobody", kb.Enter)
	p.Sees("Nothing has this id")
	p.Run(`document.activeElement.blur()`)
	p.Press("?")
	p.Until(`document.getElementById("keys").open`)
	p.RequireAccessible()
	p.Keys(kb.Escape)
	p.Until(`!document.getElementById("keys").open`)
	// A dialog that has just been closed keeps the focus until the next frame. Keys are for the page already.
	p.Press("?")
	p.Until(`document.getElementById("keys").open`)
	p.Run(`
		document.getElementById("keys").close();
		for (const key of ["g", "d"]) document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }))`)
	p.Until(`location.hash === "#/dead-letters"`)
	for key, hash := range map[string]string{"o": "#/", "s": "#/send", "d": "#/dead-letters"} {
		p.Press("g", key)
		p.Until("location.hash === " + literal(hash))
	}
	p.RequireQuiet()
}

// Every id is shown as the text that it is, wherever it comes from, and leads back to what it names.
func (s *site) hostileIDs(t *testing.T) {
	for _, id := range []string{script, emoji, slash, dots} {
		p := s.open(t, "")
		p.Sees("Lotline")
		p.Run(fmt.Sprintf(`document.getElementById("search").value = %s; document.querySelector("form[role=search]").requestSubmit()`, literal(id)))
		p.Until(`document.querySelectorAll(".hits a").length === 3`) // a SKU, an order and a batch
		for i, kind := range []string{"SKU", "Order"} {              // the batch leads to the SKU again
			p.Run(fmt.Sprintf(`document.querySelectorAll(".hits a")[%d].click()`, i))
			p.SeesIn(".kind", strings.ToUpper(kind)) // as it is shown
			p.Until("document.querySelector('h1').innerText === " + literal(id))
			p.Until("[...document.querySelectorAll('main .card .id')].filter((e) => e.innerText === " + literal(id) + ").length >= 2")
			require.Contains(t, p.Text("document.title"), id)
			p.Back()
			p.Until(`document.querySelectorAll(".hits a").length === 3`)
		}
		p.RequireQuiet()
	}
}

func literal(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}

// send watches commands travel: one by mouse, one with keys only.
func (s *site) send(t *testing.T) {
	p := s.open(t, "#/send")
	p.SeesIn(".state", "live")
	p.Sees("Here you will see it travel")
	p.RequireAccessible()
	p.Click(`input[value="CreateBatch"]`)
	p.Fill("#f-ref", "sent-1")
	p.Fill("#f-sku", "SENT-SOFA")
	p.Fill("#f-qty", "5")
	p.Click("form.send button")
	p.Until(`document.querySelectorAll('.journey .station[data-tone="ok"]').length === 4`)
	p.SeesIn(".journey", "partition and offset")
	p.SeesIn(".journey", "as one event")
	p.SeesIn(".story", "batch sent-1: 5 units, in stock")

	p.Click(`input[value="Allocate"]`)
	p.Until(`document.getElementById("f-orderid") !== null`)
	p.Run(`document.getElementById("f-orderid").focus()`)
	p.Keys("keyed-order", kb.Tab, kb.Tab, kb.Backspace, "3", kb.Enter) // the SKU is still there
	p.SeesIn(".story", "3 units from batch sent-1")
	p.Sees("Before that")
	inEachTheme(p, "send")

	p.Fill("#f-sku", "NO-SUCH-SKU")
	p.Click("form.send button")
	p.SeesIn(".story", "Rejected")
	p.Run(`const f = document.getElementById("f-sku"); f.value = "ß".repeat(200); f.dispatchEvent(new Event("input"))`)
	p.Click("form.send button")
	p.SeesIn(`.notice[role="alert"]`, "255")
	p.Click(`input[value="Deallocate"]`)
	p.Until(`document.getElementById("f-qty") === null`)
	p.Fill("#f-sku", "SENT-SOFA")
	p.Click("form.send button")
	p.SeesIn(".story", "3 units back to batch sent-1")
	p.RequireQuiet()
}

// deadLetters answers dead letters: one that is still unreadable, one that nobody needs, and one that can be read now.
func (s *site) deadLetters(t *testing.T) {
	p := s.open(t, "#/dead-letters")
	p.Sees("There are none")
	s.produce(t, &kgo.Record{Topic: s.topics.Commands.Name, Value: []byte(script), Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte("lotline.command.v1.Allocate")}}})
	s.produce(t, &kgo.Record{Topic: s.topics.Commands.Name, Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte("lotline.command.v1." + script)}}})
	// As if an older allocator could not read it.
	s.produce(t, &kgo.Record{Topic: s.topics.DeadLetters.Name, Key: []byte("MENDED-LAMP"), Value: []byte(`{"ref":"lamps","sku":"MENDED-LAMP","qty":4,"eta":null}`), Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: []byte("mended")},
		{Key: "ce_type", Value: []byte("lotline.command.v1.CreateBatch")},
		{Key: "dlq_reason", Value: []byte("unknown type")},
		{Key: "dlq_topic", Value: []byte(s.topics.Commands.Name)},
		{Key: "dlq_partition", Value: []byte("3")},
		{Key: "dlq_offset", Value: []byte("0")},
		{Key: "dlq_timestamp", Value: []byte("2031-01-02T03:04:05.000Z")},
	}})
	p.Until(`document.querySelectorAll(".letters > li").length === 3`) // without reloading
	p.SeesIn(".badge", "can be read now")
	p.Run(`for (const d of document.querySelectorAll(".letters details")) d.open = true`)
	p.SeesIn(".letters pre", script)
	inEachTheme(p, "dead-letters")

	choose := func(text string) {
		p.Run("[...document.querySelectorAll('.letters > li')].find((li) => li.innerText.includes(" + literal(text) + ") && li.querySelector('input')).querySelector('input').click()")
		p.Until(`!document.querySelector(".toolbar button").disabled`)
	}
	choose("unknown type")
	p.Click(".toolbar button")
	p.Until(`document.getElementById("confirm").open`)
	p.SeesIn("#confirm", "Replay 1 dead letter?")
	p.RequireAccessible()
	p.Picture("dead-letters-confirm")
	p.Keys(kb.Escape)
	p.Until(`!document.getElementById("confirm").open`)
	p.Click(".toolbar button")
	p.Until(`document.getElementById("confirm").open`)
	p.Keys("the allocator is new", kb.Enter)
	p.Sees("1 dead letter was replayed")
	p.Until(`document.querySelectorAll(".letters > li").length === 2`)

	choose("<script>") // one of the two; the other is the same mistake
	p.Click(".toolbar button.second")
	p.SeesIn("#confirm", "Discard 1 dead letter?")
	p.Fill("#why", "nobody knows who sent it")
	p.Keys(kb.Enter)
	p.Sees("1 dead letter was discarded")
	p.Until(`document.querySelectorAll(".letters > li").length === 1`)
	choose("@")
	p.Click(".toolbar button")
	p.SeesIn("#confirm", "would be dead letters again")
	p.Keys(kb.Enter)
	p.Sees("1 dead letter was replayed")
	p.Until(`document.querySelectorAll(".letters > li").length === 1`) // it is one again, at another place
	p.Click(`.check input`)
	p.Until(`document.querySelectorAll(".letters > li").length === 4`)

	p.Go(s.gateway + "/#/sku/MENDED-LAMP")
	p.SeesIn(".batches", "lamps")
	p.RequireQuiet()
}

func (s *site) phone(t *testing.T) {
	p := s.open(t, "")
	p.Width(360)
	for view, sees := range map[string]string{
		"#/": "up to date", "#/sku/GREEN-CHAIR": "In stock", "#/order/order-1": "of 2 lines", "#/search?q=nobody": "Nothing has this id",
		"#/send": "Here you will see it travel", "#/dead-letters": "Why",
	} {
		p.Go(s.gateway + "/" + view)
		p.Sees(sees)
		name, _, _ := strings.Cut(strings.TrimPrefix(view, "#/"), "/")
		p.RequireAccessible()
		p.RequireFits()
		p.Picture("phone-" + strings.Split(name+"?", "?")[0])
	}
	p.RequireQuiet()
}

// keys goes to a gateway that wants an API key: the page asks for one, and says what a key may not.
func (s *site) keys(t *testing.T) {
	config, file := s.config, filepath.Join(t.TempDir(), "keys")
	port, err := ports.Free()
	require.NoError(t, err)
	config.HTTPAddr, config.AdminAddr, config.HTTPKeysFile = fmt.Sprintf("127.0.0.1:%d", port), "", file
	reader, readerLine, err := apikeys.New("reader", apikeys.Read)
	require.NoError(t, err)
	chief, chiefLine, err := apikeys.New("chief", apikeys.Read, apikeys.Write, apikeys.Admin)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(readerLine+"\n"+chiefLine+"\n"), 0o600))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- gateway.Run(ctx, config) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	address := "http://" + config.HTTPAddr
	require.Eventually(t, func() bool { return stack.Probe(t.Context(), address+"/healthz") == nil }, 20*time.Second, 50*time.Millisecond)

	s.produce(t, &kgo.Record{Topic: s.topics.Commands.Name, Value: []byte("no JSON")})
	p := s.browser.Open(t, address+"/#/dead-letters")
	give := func(key string) {
		p.Until(`document.getElementById("key").open`)
		p.Fill("#key-input", key)
		p.Keys(kb.Enter)
	}
	p.Sees("A key, please")
	p.RequireAccessible()
	p.Picture("key")
	give("nonsense")
	p.Sees("The gateway does not take that key")
	give(reader)
	p.SeesIn(".state", "live")
	p.Until(`document.querySelector(".letters input") !== null`)
	p.Click(".letters input")
	p.Until(`!document.querySelector(".toolbar button").disabled`)
	p.Click(".toolbar button")
	p.Sees("The API key reader does not have the scope admin")
	for _, complaint := range p.Complaints() { // the browser's own, about answers that were 401 and 403
		require.Regexp(t, "40[13]", complaint)
	}

	p.Click(".tools button") // forgets the key, and asks for one
	give(chief)
	p.SeesIn(".state", "live")
	p.Until(`document.querySelector(".letters input") !== null`)
	p.Click(".letters input")
	p.Until(`!document.querySelector(".toolbar button").disabled`)
	p.Click(".toolbar button")
	p.Until(`document.getElementById("confirm").open`)
	require.Equal(t, "0", p.Text("localStorage.length"), "keys are for the tab")
}

// The page says what is away and since when, keeps what it has, and goes on by itself.
func (s *site) outage(t *testing.T) {
	p := s.open(t, "#/order/order-1")
	p.Sees("1 of 2 lines")
	s.proxy.Stop()
	p.SeesIn(".troubles", "The read model (clickhouse) is away since")
	p.SeesIn(".notice", "What is below may be old")
	p.Sees("1 of 2 lines")
	p.RequireAccessible()
	require.NoError(t, s.proxy.Start())
	p.Until(`document.querySelector(".troubles") === null && document.querySelector("main > .notice") === null`)
	for _, complaint := range p.Complaints() { // the browser's own, about answers that were 503
		require.Contains(t, complaint, "503")
	}

	p.Go(s.gateway + "/")
	require.NoError(t, s.kafka.Stop())
	p.SeesIn(".troubles", "Kafka is away since")
	p.SeesIn(".state", "impaired")
	p.RequireAccessible()
	p.Picture("outage")
	require.NoError(t, s.kafka.Restart(t.Context()))
	p.Until(`document.querySelector(".troubles") === null`)
	p.SeesIn(".station", "2 at work")
	p.RequireQuiet()
}
