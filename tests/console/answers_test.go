//go:build integration

package console

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// instead answers questions whose address begins with the key by what the function gives; asked has their addresses.
const instead = `const really = window.fetch; window.asked = []; window.fetch = async (path, options) => {
	for (const [prefix, answer] of Object.entries(window.answers)) if (String(path).startsWith(prefix)) {
		window.asked.push(String(path));
		return new Response(JSON.stringify(await answer()), { headers: { "Content-Type": "application/json" } });
	}
	return really(path, options);
};`

// What comes late, comes again or comes between does not change what a person looks at.
func (s *site) answers(t *testing.T) {
	t.Run("an older answer comes last", s.olderAnswer)
	t.Run("the same search again", s.searchAgain)
	t.Run("another kind of command", s.anotherKind)
	t.Run("a dead letter comes while one is read", s.letterBetween)
}

func (s *site) olderAnswer(t *testing.T) {
	p := s.open(t, "")
	p.SeesIn(".state", "live")
	// The first question is answered after the second, with the version that was then.
	p.Run(`window.turn = 0; window.held = null;
		const sku = (version) => ({ version, available: 50, kept: false, changes: [], batches: [{ ref: "b", qty: 100, available: 50, eta: "", version }] });
		window.answers = { "/console/sku": async () => {
			const mine = ++window.turn;
			if (mine === 1) await new Promise((resolve) => { window.held = resolve; });
			return sku(mine === 1 ? 2 : 1234567);
		} };` + instead + `location.hash = "#/sku/LATE"`)
	p.Until(`window.turn >= 2`) // a sample comes, and it is five seconds old
	p.SeesIn(".figures", "1234567")
	p.Run(`window.held()`)
	p.Run(`window.after = window.turn`)
	p.Until(`window.turn > window.after`)
	p.SeesIn(".figures", "1234567") // exactly, since it is a version
	p.RequireQuiet()
}

func (s *site) searchAgain(t *testing.T) {
	p := s.open(t, "")
	p.SeesIn(".state", "live")
	p.Run(`window.answers = { "/console/search": () => ({ hits: window.asked.length === 1 ? [] : [{ kind: "sku", id: "A" }, { kind: "order", id: "A" }] }) };` + instead)
	for _, sees := range []string{"Nothing has this id", "Found"} {
		p.Fill("#search", "A")
		p.Keys("\r")
		p.SeesIn("main", sees)
	}
	p.RequireQuiet()
}

func (s *site) anotherKind(t *testing.T) {
	p := s.open(t, "#/send")
	p.Sees("Allocate an order line")
	p.Run(`window.bodies = []; const really = window.fetch; window.fetch = (path, options) => { if (path === "/commands") window.bodies.push(options.body); return really(path, options); }`)
	p.Fill("#f-sku", "GREEN-CHAIR")
	p.Run(`const order = document.querySelector("#f-orderid"); order.value = "order-77"; order.dispatchEvent(new InputEvent("input", { bubbles: true }));
		document.querySelector("input[value=CreateBatch]").click()`)
	p.Until(`document.querySelector("#f-ref")?.checkVisibility()`)
	require.Empty(t, p.Text(`document.querySelector("#f-ref").value`), "what was typed was an order")
	p.Fill("#f-ref", "chairs-77")
	p.Click("input[value=Allocate]")
	p.Until(`document.querySelector("#f-orderid")?.checkVisibility()`)
	require.Equal(t, "order-77", p.Text(`document.querySelector("#f-orderid").value`))
	p.Click("form.send button")
	p.Until(`window.bodies.length === 1`)
	require.Contains(t, p.Text(`window.bodies[0]`), `"orderid":"order-77"`)
	p.RequireQuiet()
}

func (s *site) letterBetween(t *testing.T) {
	p := s.open(t, "")
	p.SeesIn(".state", "live")
	p.Run(`window.letter = (n) => ({ place: "0@" + n, status: "open", time: new Date().toISOString(), reason: "reason " + n, topic: "commands", partition: 3, offset: 1234567 + n, key: "", headers: [], value: "value " + n, bytes: 7, shown: 7 });
		window.letters = [window.letter(2), window.letter(1)];
		window.answers = { "/console/dead-letters": () => ({ letters: window.letters, count: window.letters.length, more: false, reasons: [] }) };` + instead + `location.hash = "#/dead-letters"`)
	p.Sees("reason 2")
	require.Contains(t, p.Text(`document.querySelector(".letters .note").innerText`), "3@1234569", "to be looked up by")
	p.Run(`document.querySelector(".letters summary").click()`)
	p.Until(`document.querySelector(".letters details").open`)
	p.Run(`window.letters = [window.letter(3), ...window.letters]; document.querySelector("form.filter button").click()`)
	p.Sees("reason 3")
	for i, open := range []bool{false, true, false} {
		require.Equal(t, strconv.FormatBool(open), p.Text(fmt.Sprintf(`document.querySelectorAll(".letters details")[%d].open`, i)), i)
	}
	p.Run(`document.querySelectorAll(".letters summary")[1].click()`)
	p.Until(`document.querySelectorAll(".letters details[open]").length === 0`)
	p.RequireQuiet()
}
