package console

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/lotline/lotline/topics"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

var errAway = errors.New("it is away")

// library is a read model with a SKU, an order, a command and a batch, or one that is away.
type library struct {
	away bool
}

func (l *library) fail() error {
	if l.away {
		return errAway
	}
	return nil
}

func (l *library) Allocations(_ context.Context, id string) ([]readmodel.Line, error) {
	if id == "order" {
		return []readmodel.Line{{OrderID: id, SKU: "CHAIR", BatchRef: "b", Qty: 3}}, l.fail()
	}
	return nil, l.fail()
}

func (l *library) Availability(_ context.Context, skus ...string) ([]readmodel.Availability, error) {
	if skus[0] == "CHAIR" || skus[0] == "both" {
		return []readmodel.Availability{{SKU: skus[0], Version: 4, Available: 7, Batches: []readmodel.Batch{{Ref: "b", Qty: 10, Available: 7}}}}, l.fail()
	}
	return make([]readmodel.Availability, len(skus)), l.fail()
}

func (l *library) Outcome(_ context.Context, id string) (readmodel.Outcome, error) {
	if id == "command" || id == "both" {
		return readmodel.Outcome{CommandID: id, Type: "Allocated"}, l.fail()
	}
	return readmodel.Outcome{}, l.fail()
}

func (l *library) SKUs(_ context.Context, ref string) ([]string, error) {
	if ref == "b" {
		return []string{"CHAIR", "SOFA"}, l.fail()
	}
	return nil, l.fail()
}

func (l *library) History(_ context.Context, sku string, before uint64, _ int) ([]readmodel.Change, error) {
	return []readmodel.Change{{Type: "BatchCreated", SKU: sku, Version: max(before, 1)}}, l.fail()
}

func (l *library) Story(_ context.Context, id string, _ int) ([]readmodel.Change, error) {
	if id == "only-refused" || id == "order" {
		return []readmodel.Change{{Type: "OutOfStock", OrderID: id}}, l.fail()
	}
	return nil, l.fail()
}

func newConsole(l *library, opts ...kgo.Opt) *Console {
	return New(Config{Topics: topics.Declared("lotline"), ProjectorGroup: "lotline.projector", ReadModel: "clickhouse", ReadWait: time.Second, Kafka: opts},
		Ports{Reader: l, History: l, Outages: func() []admin.Outage { return nil }, Log: slog.New(slog.DiscardHandler)})
}

func get(c *Console, path string) (status int, body string, header http.Header) {
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String(), w.Header()
}

func TestVendoredFilesAreThoseThatWereChecked(t *testing.T) {
	list, err := static.ReadFile("static/vendor/checksums.txt")
	require.NoError(t, err)
	want := map[string]string{}
	for entry := range strings.Lines(string(list)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(entry), "  ./")
		require.True(t, ok, entry)
		want[name] = sum
	}
	require.NoError(t, fs.WalkDir(static, "static/vendor", func(name string, d fs.DirEntry, err error) error {
		base := strings.TrimPrefix(name, "static/vendor/")
		if err != nil || d.IsDir() || base == "checksums.txt" || base == "README.md" {
			return err
		}
		content, err := static.ReadFile(name)
		sum := sha256.Sum256(content)
		require.Equal(t, want[base], hex.EncodeToString(sum[:]), name)
		delete(want, base)
		return err
	}))
	require.Empty(t, want, "files that are gone")
}

func TestThePageLoadsOnlyFromHere(t *testing.T) {
	c := newConsole(&library{})
	status, page, header := get(c, "/")
	require.Equal(t, 200, status)
	require.Contains(t, page, `<div id="app">`)
	require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'")
	require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")
	require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
	for name, kind := range map[string]string{"js/main.js": "text/javascript", "app.css": "text/css", "vendor/lit-html/lit-html.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		status, _, header = get(c, path.Join("/console/static", name))
		require.Equal(t, 200, status, name)
		require.Contains(t, header.Get("Content-Type"), kind, "what is not a script by its type is not run")
	}
	for _, elsewhere := range []string{"/console/static/nothing.js", "/console/static/../console.go", "/console/nothing", "/allocations/o"} {
		status, _, _ = get(c, elsewhere)
		require.NotEqual(t, 200, status, elsewhere)
	}
}

func TestSearchFindsWhateverHasTheID(t *testing.T) {
	c := newConsole(&library{})
	for q, want := range map[string]string{
		"CHAIR": `{"hits":[{"kind":"sku","id":"CHAIR"}]}`, "order": `{"hits":[{"kind":"order","id":"order"}]}`, "+command+": `{"hits":[{"kind":"command","id":"command"}]}`,
		"both": `{"hits":[{"kind":"sku","id":"both"},{"kind":"command","id":"both"}]}`, "only-refused": `{"hits":[{"kind":"order","id":"only-refused"}]}`,
		"b": `{"hits":[{"kind":"batch","id":"b","sku":"CHAIR"},{"kind":"batch","id":"b","sku":"SOFA"}]}`, "x": `{"hits":[]}`,
	} {
		status, body, _ := get(c, "/console/search?q="+q)
		require.Equal(t, 200, status, body)
		require.JSONEq(t, want, body)
	}
}

func TestBadQuestionsAndServersThatAreAway(t *testing.T) {
	c := newConsole(&library{})
	for _, path := range []string{
		"/console/search?q=", "/console/sku?id=", "/console/order?id=" + strings.Repeat("x", 513), "/console/sku?id=a%00b", "/console/sku?id=%ff",
		"/console/sku?id=CHAIR&before=-1", "/console/sku?id=CHAIR&before=x",
	} {
		status, body, header := get(c, path)
		require.Equal(t, 400, status, path)
		require.Equal(t, "application/problem+json", header.Get("Content-Type"))
		require.Contains(t, body, `"detail":"`)
	}
	c = newConsole(&library{away: true})
	for _, path := range []string{"/console/search?q=x", "/console/sku?id=x", "/console/order?id=x", "/console/sku?id=x&before=3"} {
		status, body, header := get(c, path)
		require.Equal(t, 503, status, path)
		require.Contains(t, body, "The read model does not answer")
		require.Equal(t, "1", header.Get("Retry-After"))
	}
}

func TestAReadModelWithoutAPast(t *testing.T) {
	c := newConsole(&library{})
	c.History = nil
	_, body, _ := get(c, "/console/sku?id=CHAIR")
	require.JSONEq(t, `{"version":4,"available":7,"batches":[{"ref":"b","qty":10,"available":7,"eta":"","version":0}],"changes":[],"kept":false}`, body)
	_, body, _ = get(c, "/console/order?id=order")
	require.JSONEq(t, `{"lines":[{"sku":"CHAIR","batchref":"b","qty":3,"eta":""}],"changes":[],"kept":false}`, body)
	_, body, _ = get(c, "/console/search?q=order")
	require.JSONEq(t, `{"hits":[{"kind":"order","id":"order"}]}`, body)
}

func TestQuestionsAboutThePastAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsole(&library{})
		for range askedMax {
			c.asked <- struct{}{}
		}
		began := time.Now()
		status, body, _ := get(c, "/console/order?id=order")
		require.Equal(t, 503, status)
		require.Contains(t, body, "Too many questions")
		require.Equal(t, time.Second, time.Since(began))
		<-c.asked
		status, _, _ = get(c, "/console/order?id=order")
		require.Equal(t, 200, status)
		require.Len(t, c.asked, askedMax-1, "the place is given back")
	})
}

func TestASlowViewerIsLetGoAndComesBack(t *testing.T) {
	h := newHub(newMeter())
	_, slow, leaveSlow, err := h.join(0)
	require.NoError(t, err)
	_, quick, leaveQuick, err := h.join(0)
	require.NoError(t, err)
	var seen int64
	for range viewerBehindMax + 5 {
		h.publish(&Sample{Time: time.Now().UnixMilli()})
		s := <-quick
		require.Greater(t, s.ID, seen)
		seen = s.ID
	}
	received := 0
	var last int64
	for s := range slow { // it is closed
		received, last = received+1, s.ID
	}
	require.Equal(t, viewerBehindMax, received)
	require.EqualValues(t, 1, h.meter.watched.Load())
	leaveSlow()
	kept, _, leave, err := h.join(last)
	require.NoError(t, err)
	require.Len(t, kept, 5, "what it missed")
	leave()
	leave()
	leaveQuick()
	require.False(t, h.meter.Listening())
}

func TestViewersAndSamplesAreBounded(t *testing.T) {
	c := newConsole(&library{})
	for range viewersMax {
		_, _, _, err := c.hub.join(0)
		require.NoError(t, err)
	}
	status, body, _ := get(c, "/console/live")
	require.Equal(t, 503, status)
	require.Contains(t, body, "64 consoles are open")
	for range samplesKept + 10 {
		c.hub.publish(&Sample{})
	}
	require.Len(t, c.hub.kept, samplesKept)
	c.hub.close()
	require.False(t, c.meter.Listening())
}

// event is one of the meter's, decided so long after its command came.
func event(m *meter, partition int32, offset int64, appended time.Time, took time.Duration) {
	m.Event(&kgo.Record{Partition: partition, Offset: offset, Timestamp: appended}, &cloudevents.Envelope{Time: appended.Add(-took)},
		&schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", Qty: 1})
}

func TestMeter(t *testing.T) {
	m := newMeter()
	now := time.Now()
	for i := range 100 {
		event(m, 0, int64(i), now.Add(time.Duration(i)*10*time.Millisecond), time.Duration(i+1)*time.Millisecond)
	}
	at, ok := m.appended(0, 42)
	require.True(t, ok)
	require.WithinDuration(t, now.Add(420*time.Millisecond), at, markEvery)
	_, ok = m.appended(0, 100)
	require.False(t, ok, "there is none yet")
	_, ok = m.appended(1, 0)
	require.False(t, ok)
	events, latency, recent := m.take()
	require.Equal(t, 100, events)
	require.Equal(t, &Latency{P50: 51, P95: 96, Max: 100}, latency)
	require.Len(t, recent, recentMax)
	events, latency, _ = m.take()
	require.Zero(t, events)
	require.Nil(t, latency)
	for i := range 2 * marksMax {
		event(m, 0, int64(i), now.Add(time.Duration(i)*time.Second), -time.Second)
	}
	require.LessOrEqual(t, len(m.marks[0]), marksMax)
	_, latency, _ = m.take()
	require.Zero(t, latency.Max, "clocks that went back are no time at all")
}

// TestLive watches a Kafka in which a group is behind, then one that is away, and then one that is back.
func TestLive(t *testing.T) {
	set := topics.Declared("lotline")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, set.Commands.Name, set.Events.Name), kfake.SeedTopics(1, set.DeadLetters.Name))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	for range 5 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: set.Commands.Name, Partition: 1}).FirstErr())
	}
	var committed kadm.Offsets
	committed.AddOffset(set.Commands.Name, 1, 2, -1)
	require.NoError(t, kadm.NewClient(client).CommitAllOffsets(t.Context(), set.AllocatorGroup, committed))

	c := newConsole(&library{}, kgo.SeedBrokers(cluster.ListenAddrs()...))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	server := httptest.NewServer(c.Handler())
	defer server.Close()
	response, err := http.Get(server.URL + "/console/live")
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	next := func() (s Sample) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && strings.Contains(data, `"time"`) {
				require.NoError(t, json.Unmarshal([]byte(data), &s))
				return s
			}
		}
		require.Fail(t, "the stream has ended", "%v", lines.Err())
		return s
	}
	s := next()
	require.Equal(t, []int64{0, 3}, s.Allocators.Lag)
	require.Equal(t, []int64{0, 0}, s.Projectors.Lag)
	require.Nil(t, s.Commands, "one look is no rate")
	require.Zero(t, *s.Unprojected)
	for range 7 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: set.Commands.Name, Partition: 0}).FirstErr())
	}
	rate := 0.0
	for s.Allocators.Lag[0] < 7 {
		s = next()
		rate = max(rate, *s.Commands)
	}
	require.Equal(t, []int64{7, 3}, s.Allocators.Lag)
	require.Positive(t, rate)

	stop()
	require.NoError(t, <-done)
	for lines.Scan() { // to the end of the stream: a server that stops waits for nobody
	}
	require.NoError(t, lines.Err())
}

func TestACommandsWayIsTold(t *testing.T) {
	c := newConsole(&library{})
	ask := func(id string) (j journey) {
		status, body, _ := get(c, "/console/command?id="+id)
		require.Equal(t, 200, status, body)
		require.NoError(t, json.Unmarshal([]byte(body), &j))
		return j
	}
	tell := func(id string, seq int32, last bool) {
		at := time.UnixMilli(1_900_000_000_000)
		c.meter.Event(&kgo.Record{Partition: 3, Offset: int64(40 + seq), Timestamp: at.Add(9 * time.Millisecond)}, &cloudevents.Envelope{Time: at},
			&schemas.Event{Type: schemas.EventAllocated, CommandID: id, CommandSource: submit.Source, SKU: "CHAIR", Seq: seq, Last: last})
	}
	c.Acknowledged("unwatched", &kgo.Record{Partition: 1, Offset: 7})
	require.Equal(t, journey{Kept: true}, ask("unwatched"), "nobody looked")

	_, _, leave, err := c.hub.join(0)
	require.NoError(t, err)
	defer leave()
	c.Acknowledged("mine", &kgo.Record{Partition: 1, Offset: 7})
	require.Equal(t, journey{Sent: &place{1, 7, 0}, Kept: true}, ask("mine"))
	tell("mine", 0, false)
	require.False(t, ask("mine").Decided.Last, "there is more to come")
	tell("mine", 1, true)
	j := ask("mine")
	require.Equal(t, []place{{3, 40, 1_900_000_000_009}, {3, 41, 1_900_000_000_009}}, j.Decided.Events)
	require.EqualValues(t, 9, j.Decided.Took)
	require.Nil(t, j.Visible)

	tell("command", 0, true) // which the read model has
	j = ask("command")
	require.Equal(t, "Allocated", j.Outcome.Type)
	require.NotNil(t, j.Visible)
	for i := range 2 * travelEventsMax {
		tell("cut", int32(i), false)
	}
	require.Len(t, ask("cut").Decided.Events, travelEventsMax)
	require.Equal(t, 2*travelEventsMax, ask("cut").Decided.Count)
	for i := range travelsMax {
		c.Acknowledged(fmt.Sprint("other-", i), &kgo.Record{})
	}
	require.Equal(t, journey{Kept: true}, ask("mine"), "the oldest make room")
	require.Len(t, c.meter.travels, travelsMax)
}
