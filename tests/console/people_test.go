//go:build integration

package console

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/stack"
)

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
	writer, writerLine, err := apikeys.New("writer", apikeys.Write)
	require.NoError(t, err)
	chief, chiefLine, err := apikeys.New("chief", apikeys.Read, apikeys.Write, apikeys.Admin)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(readerLine+"\n"+writerLine+"\n"+chiefLine+"\n"), 0o600))
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
	p.Keys(kb.Escape)
	p.SeesIn(".troubles", "There are no live numbers")
	p.SeesIn(".troubles", "The gateway wants a key")
	p.RequireAccessible()
	require.Equal(t, "false", p.Text(`document.getElementById("key").open`), "who closed it does not want it back")
	p.Run(`location.hash = "#/order/order-1"`) // a view that asks by itself
	p.Until(`document.getElementById("key").open`)
	give(reader)
	p.Sees("1 of 2 lines")
	p.SeesIn(".state", "live")
	p.Run(`location.hash = "#/dead-letters"`)
	p.Click(".tools button") // forgets the key, and asks for one
	p.Until(`document.getElementById("key").open`)
	p.Keys(kb.Escape)
	p.Click(".troubles button")
	p.Until(`document.getElementById("key").open`)
	p.Run(`document.getElementById("key-input").value = "lotline_\u200b"; document.querySelector("#key button").click()`)
	require.Equal(t, "true", p.Text(`document.getElementById("key").open && document.querySelector("#key input:invalid") !== null`), "no header may have that character")
	give(writer)
	p.SeesIn(".troubles", "There are no live numbers")
	p.SeesIn(".troubles", "The API key writer does not have the scope read")
	p.Click(".tools button") // forgets the key, and asks for one
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
	p.SeesIn(".station", atWork())
	p.RequireQuiet()
}
