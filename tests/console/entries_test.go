//go:build integration

package console

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

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

// shellWords has a shell read every id as one word, as the page quotes it in commands that people paste.
func (s *site) shellWords(t *testing.T) {
	p := s.open(t, "")
	for _, id := range []string{script, emoji, slash, dots, "it's $(id); `id`"} {
		word := p.Text(`import("/console/static/js/format.js").then((format) => format.quoted(` + literal(id) + `))`)
		printed, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+word).Output()
		require.NoError(t, err, word)
		require.Equal(t, id, string(printed))
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
	p.Until(`document.getElementById("f-ref").checkVisibility()`)
	p.Fill("#f-ref", "sent-1")
	p.Fill("#f-sku", "SENT-SOFA")
	p.Fill("#f-qty", "5")
	p.Click("form.send button")
	p.Until(`document.querySelectorAll('.journey .station[data-tone="ok"]').length === 4`)
	p.SeesIn(".journey", "partition and offset")
	p.SeesIn(".journey", "as one event")
	p.SeesIn(".story", "batch sent-1: 5 units, in stock")

	p.Click(`input[value="Allocate"]`)
	p.Until(`document.getElementById("f-orderid").checkVisibility()`)
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
	p.Until(`!document.getElementById("f-qty").checkVisibility()`)
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
