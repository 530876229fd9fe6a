package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	within    = 20 * time.Second
	lookEvery = 50 * time.Millisecond
	nodeDepth = 300 // characters of an element that axe names
)

// Browser is a running Chromium.
type Browser struct {
	ctx context.Context //nolint:containedctx // chromedp keeps a browser in its context
	axe string          // its source
}

// Start starts a Chromium that ends with the test.
func Start(t *testing.T) *Browser {
	t.Helper()
	path, env, err := Installed(t.Context())
	require.NoError(t, err)
	dir, err := axe.Dir(t.Context())
	require.NoError(t, err)
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	require.NoError(t, err)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Env(env...),
		chromedp.NoSandbox) // which neither root nor a container may have; the pages are ours
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { cancel(); stop() })
	require.NoError(t, chromedp.Do(ctx))
	return &Browser{ctx: ctx, axe: string(source)}
}

// Page is a tab.
type Page struct {
	*testing.T
	ctx context.Context //nolint:containedctx // and a tab in this one
	axe string

	mu         sync.Mutex
	complaints []string
}

// Open opens a tab on an address, as wide as a desk's screen. It is closed with the test.
func (b *Browser) Open(t *testing.T, address string) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &Page{T: t, ctx: ctx, axe: b.axe}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.mu.Lock()
			p.complaints = append(p.complaints, m.String())
			p.mu.Unlock()
		}
	}()
	p.Width(1360)
	p.Prefer("light")
	p.Go(address)
	return p
}

// Go opens an address.
func (p *Page) Go(address string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, within)
	defer cancel()
	require.NoError(p, chromedp.Do(ctx, chromedp.Navigate(address)))
}

// Back is the browser's button.
func (p *Page) Back() {
	p.Helper()
	p.Run("history.back()")
}

// Width makes the tab as wide as a screen; one that is narrow is a phone's.
func (p *Page) Width(pixels int64) {
	p.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: pixels, Height: 800, DeviceScaleFactor: 1, Mobile: pixels < 500,
	})
	require.NoError(p, err)
}

// Prefer says which colours the person's system has, light or dark. Nothing moves, as for people who asked for that.
func (p *Page) Prefer(scheme string) {
	p.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	require.NoError(p, err)
}

// Text evaluates an expression to a string.
func (p *Page) Text(expression string) string {
	p.Helper()
	text, err := p.evaluate(expression)
	require.NoError(p, err, expression)
	return text
}

// Run runs a script and forgets what comes of it.
func (p *Page) Run(script string) {
	p.Helper()
	p.Text("(() => {" + script + "; return '' })()")
}

func (p *Page) evaluate(expression string) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, within)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[string]("(async () => String(await ("+expression+")))()", chromedp.EvalAwaitPromise))
}

// Until waits until an expression is true.
func (p *Page) Until(expression string) {
	p.Helper()
	deadline := time.Now().Add(within)
	for {
		text, err := p.evaluate(expression)
		if err == nil && text == "true" {
			return
		}
		if time.Now().After(deadline) {
			p.Picture("failed")
			seen, _ := p.evaluate("document.body.innerText")
			require.FailNow(p, "this did not become true: "+expression, "it is %s (%v); the page shows:\n%s", text, err, seen)
		}
		time.Sleep(lookEvery)
	}
}

// Sees waits until the page shows a text.
func (p *Page) Sees(text string) {
	p.Helper()
	p.Until("document.body.innerText.includes(" + quoted(text) + ")")
}

// SeesIn waits until an element that a CSS selector finds shows a text.
func (p *Page) SeesIn(selector, text string) {
	p.Helper()
	p.Until("[...document.querySelectorAll(" + quoted(selector) + ")].some((e) => e.innerText.includes(" + quoted(text) + "))")
}

// Keys types text, or keys of chromedp's kb.
func (p *Page) Keys(keys ...string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, within)
	defer cancel()
	for _, k := range keys {
		require.NoError(p, chromedp.Do(ctx, chromedp.KeyEvent(k)))
	}
}

// Press presses and lets go of keys, each with its letter, as a keyboard does: what the page prevents is not typed.
func (p *Page) Press(keys ...string) {
	p.Helper()
	for _, key := range keys {
		for _, e := range []input.DispatchKeyEventParams{{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key}, {Type: input.DispatchKeyEventTypeKeyUp, Key: key}} {
			_, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, e)
			require.NoError(p, err)
		}
	}
}

// Click clicks on what a CSS selector finds.
func (p *Page) Click(selector string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, within)
	defer cancel()
	require.NoError(p, chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector))), selector)
}

// Fill types text into the field that a CSS selector finds, over what is in it.
func (p *Page) Fill(selector, text string) {
	p.Helper()
	p.Until("document.querySelector(" + quoted(selector) + ") !== null")
	p.Run("const field = document.querySelector(" + quoted(selector) + "); field.focus(); field.select()")
	p.Keys(text)
}

// Picture keeps a picture of the whole page, for people: bin/console/NAME.png.
func (p *Page) Picture(name string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, within)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	require.NoError(p, err)
	dir := filepath.Join("..", "..", "bin", "console")
	require.NoError(p, os.MkdirAll(dir, 0o755))
	require.NoError(p, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644))
}

// RequireFits holds that nothing is wider than the screen.
func (p *Page) RequireFits() {
	p.Helper()
	require.Equal(p, "true", p.Text("document.scrollingElement.scrollWidth <= innerWidth"), "the page is wider than the screen: %s", p.Text(`
		[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 150)).join("\n")`))
}

// RequireAccessible asks axe about the page as it is shown now, by the rules of WCAG 2.2, levels A and AA, and axe's best
// practices, but for those that are named.
func (p *Page) RequireAccessible(except ...string) {
	p.Helper()
	p.Run("if (!window.axe) {" + p.axe + "}")
	var found []struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	rules := map[string]map[string]bool{}
	for _, rule := range except {
		rules[rule] = map[string]bool{"enabled": false}
	}
	off, err := json.Marshal(rules)
	require.NoError(p, err)
	require.NoError(p, json.Unmarshal([]byte(p.Text(`axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"], rules: `+string(off)+`,
	}).then((r) => JSON.stringify(r.violations))`)), &found))
	var says []string
	for _, v := range found {
		for _, n := range v.Nodes {
			says = append(says, fmt.Sprintf("%s (%s): %.*s: %s", v.ID, v.Help, nodeDepth, n.HTML, n.FailureSummary))
		}
	}
	if len(says) > 0 {
		p.Picture("inaccessible")
	}
	require.Empty(p, says, strings.Join(says, "\n"))
}

// RequireQuiet holds that the page's console has no message, be it from a script or from the browser.
func (p *Page) RequireQuiet() {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(p, p.complaints)
}

// Complaints returns what the page's console has, and empties it.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	complaints := p.complaints
	p.complaints = nil
	return complaints
}

func quoted(text string) string {
	literal, _ := json.Marshal(text) // a string always can
	return string(literal)
}
