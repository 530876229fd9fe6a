package console

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

var errAway = errors.New("it is away")

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
	visible := *j.Visible
	require.Equal(t, &visible, ask("command").Visible, "it stays")
	c.meter.travels["command"].visibleAt, c.meter.travels["command"].decidedAt = time.Time{}, time.Now().Add(-10*time.Minute)
	require.Nil(t, ask("command").Visible, "who looks ten minutes later has not seen it")
	c.meter.travels["command"].lackedAt = time.Now().Add(-100 * time.Millisecond)
	require.InDelta(t, (10 * time.Minute).Milliseconds(), *ask("command").Visible, 1000, "who looked in vain a moment ago has")
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
