package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serve runs Serve on a free port of the loopback and returns its URL.
func serve(t *testing.T, h *Health, reg *prometheus.Registry, more ...func(*http.ServeMux)) string {
	t.Helper()
	return serveOn(t, "127.0.0.1", h, reg, more...)
}

func serveOn(t *testing.T, host string, h *Health, reg *prometheus.Registry, more ...func(*http.ServeMux)) string {
	t.Helper()
	free, err := net.Listen("tcp4", host+":0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, addr, h, reg, more...) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(5 * time.Second):
			t.Error("Serve did not end with its context")
		}
	})
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			err = conn.Close()
		}
		require.NoError(c, err)
	}, 5*time.Second, 10*time.Millisecond)
	return "http://" + addr
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestReadyzNamesWhatIsNotReady(t *testing.T) {
	h := new(Health)
	h.Set("kafka", errors.New("no broker answers"))
	h.Set("postgres", errors.New("starting"))
	url := serve(t, h, prometheus.NewRegistry())

	code, body := get(t, url+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.JSONEq(t, `{"ready":false,"not_ready":{"kafka":"no broker answers","postgres":"starting"}}`, body)
	code, body = get(t, url+"/healthz")
	require.Equal(t, http.StatusOK, code, "alive, though not ready")
	require.Equal(t, "ok\n", body)

	h.Set("kafka", nil)
	h.Set("postgres", nil)
	code, body = get(t, url+"/readyz")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"ready":true}`, body)
}

func TestMetricsAreServed(t *testing.T) {
	reg := prometheus.NewRegistry()
	polls := prometheus.NewCounter(prometheus.CounterOpts{Name: "lotline_polls_total", Help: "Polls."})
	reg.MustRegister(polls)
	polls.Add(3)
	code, body := get(t, serve(t, new(Health), reg)+"/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "lotline_polls_total 3")
}

func TestHealthMayBeUsedConcurrently(t *testing.T) {
	h := new(Health)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1000 {
			h.Set(fmt.Sprint(i%7), errors.New("down"))
		}
	}()
	for range 1000 {
		for range h.Ready() {
		}
	}
	<-done
	require.Len(t, h.Ready(), 7)
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, Serve(ctx, "", new(Health), prometheus.NewRegistry()), "no address: nothing to serve")
	require.NoError(t, Serve(ctx, "localhost:0", new(Health), prometheus.NewRegistry()), "told to stop while it starts")
	require.ErrorContains(t, Serve(t.Context(), "127.0.0.1:no", new(Health), prometheus.NewRegistry()), "listen for the admin endpoint")
}

// As browsers open them ahead.
func TestAConnectionWithoutARequestDoesNotSpoilTheStop(t *testing.T) {
	var conn net.Conn
	t.Cleanup(func() { require.NoError(t, conn.Close()) }) // after the stop
	url := serve(t, new(Health), prometheus.NewRegistry()) // whose end has to be without an error
	var err error
	conn, err = net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	http.DefaultClient.CloseIdleConnections()
	code, _ := get(t, url+"/healthz")
	require.Equal(t, http.StatusOK, code, "over a connection of its own, which is taken after the other")
}

func TestOutagesSaySinceWhenWithoutReasons(t *testing.T) {
	h := new(Health)
	before := time.Now()
	h.Set("kafka", errors.New("no broker answers at 10.0.0.1"))
	h.Set("clickhouse", errors.New("refused"))
	h.Set("tail", nil)
	outages := h.Outages()
	require.Len(t, outages, 2)
	require.Equal(t, "clickhouse", outages[0].Component)
	require.Equal(t, "kafka", outages[1].Component)
	require.WithinRange(t, outages[1].Since, before, time.Now())
	h.Set("kafka", errors.New("another reason"))
	require.Equal(t, outages[1], h.Outages()[1], "the same outage goes on")
	h.Set("kafka", nil)
	require.Len(t, h.Outages(), 1)
}

func TestProfilesAreServedOnlyIfAskedFor(t *testing.T) {
	url := serve(t, new(Health), prometheus.NewRegistry())
	code, _ := get(t, url+"/debug/pprof/heap")
	require.Equal(t, http.StatusNotFound, code)

	url = serve(t, new(Health), prometheus.NewRegistry(), Profiles)
	code, body := get(t, url+"/debug/pprof/heap?debug=1")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "heap profile:")
}

// A page that somebody at this machine looks at can point its own name here, and read what it is answered.
func TestOnTheLoopbackOnlyThisMachinesNamesAreAnswered(t *testing.T) {
	ask := func(url, path, host string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
		require.NoError(t, err)
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	url := serve(t, new(Health), prometheus.NewRegistry(), Profiles)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/cmdline"} {
		require.Equal(t, http.StatusOK, ask(url, path, "localhost:9081"), path)
		require.Equal(t, http.StatusOK, ask(url, path, "127.0.0.1"), path)
		require.Equal(t, http.StatusMisdirectedRequest, ask(url, path, "rebound.example:9081"), path)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /readyz HTTP/1.0\r\n\r\n") // as HAProxy's httpchk does
	require.NoError(t, err)
	response, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(response), "200 OK")

	url = serveOn(t, "0.0.0.0", new(Health), prometheus.NewRegistry())
	require.Equal(t, http.StatusOK, ask(url, "/readyz", "allocator-1.example:9081"), "whoever watches it may have any name for it")
}
