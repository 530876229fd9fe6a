//go:build integration

package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	os.Exit(m.Run())
}

// site is a running installation of one test's own.
type site struct {
	*testing.T
	config  stack.Config
	gateway string // URL
}

// onKfake runs a pipeline with the default configuration, less the changes, until the test ends.
func onKfake(t *testing.T, test func(s *site), changes ...func(*stack.Config)) {
	t.Helper()
	isolation.OnKfake(t, func(t *testing.T, on stack.Servers) {
		config, err := stack.Configure(on)
		require.NoError(t, err)
		for _, change := range changes {
			change(&config)
		}
		running, err := stack.Start(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, running.Stop()) })
		test(&site{T: t, config: config, gateway: "http://" + config.Gateway.HTTPAddr})
	})
}

// another starts a second gateway on the same pipeline, which remembers nothing of the first, and returns its URL.
func (s *site) another(changes ...func(*gateway.Config)) string {
	s.Helper()
	config := s.config.Gateway
	for _, addr := range []*string{&config.HTTPAddr, &config.AdminAddr} {
		port, err := ports.Free()
		require.NoError(s, err)
		*addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	for _, change := range changes {
		change(&config)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(s.Context()))
	done := make(chan error, 1)
	go func() { done <- gateway.Run(ctx, config) }()
	s.Cleanup(func() {
		stop()
		require.NoError(s, <-done)
	})
	require.Eventually(s, func() bool { return stack.Probe(s.Context(), "http://"+config.AdminAddr+"/readyz") == nil }, within, look)
	return "http://" + config.HTTPAddr
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request to the gateway at base; header has names and values in turn.
func (s *site) ask(base, method, path, body string, header ...string) answer {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, base+path, strings.NewReader(body))
	require.NoError(s, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(s, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s, err)
	return answer{response.StatusCode, response.Header, strings.TrimSpace(string(text))}
}
