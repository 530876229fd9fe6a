//go:build integration

package console

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator"
)

// atWork is what the allocator's station says of its sessions.
func atWork() string { return fmt.Sprintf("%d at work", allocator.DefaultConfig().Sessions) }

func (s *site) overview(t *testing.T) {
	p := s.open(t, "")
	p.SeesIn(".state", "live")
	p.SeesIn(".station", atWork())
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
