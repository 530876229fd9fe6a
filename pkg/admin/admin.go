// Package admin serves what machines that watch a Lotline process ask:
// /healthz (does it run), /readyz (can it work, and if not, why) and /metrics.
//
// Each service runs it beside its work, on an address of its own, so that it
// is never open where the public API is. On a loopback address it refuses
// requests by other names than this machine's own; see package loopback.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lotline/lotline/pkg/loopback"
)

const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = 15 * time.Second
	idleTimeout     = time.Minute
	maxHeaderBytes  = 16 << 10
	shutdownTimeout = 2 * time.Second
)

// Health holds what keeps a process from being ready. The zero value is ready:
// a service sets its components not ready before it starts them. All methods
// may be called concurrently.
type Health struct {
	mu     sync.Mutex
	faults map[string]string
	since  map[string]time.Time // of every component ever set: when it became not ready, zero if it is ready
}

// Set records that a component is not ready, and why; nil says that it is.
func (h *Health) Set(component string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since == nil {
		h.faults, h.since = map[string]string{}, map[string]time.Time{}
	}
	if err == nil {
		delete(h.faults, component)
		h.since[component] = time.Time{}
		return
	}
	if h.since[component].IsZero() {
		h.since[component] = time.Now()
	}
	h.faults[component] = err.Error()
}

// Ready returns the components that are not ready, each with its reason; it is
// empty when the process is ready.
func (h *Health) Ready() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.faults)
}

// Outage is a component that is not ready, and since when.
type Outage struct {
	Component string    `json:"component"`
	Since     time.Time `json:"since"`
}

// Outages returns the components that are not ready, in the order of their names, without the reasons, which may hold
// addresses.
func (h *Health) Outages() []Outage {
	h.mu.Lock()
	defer h.mu.Unlock()
	outages := make([]Outage, 0, len(h.faults))
	for _, component := range slices.Sorted(maps.Keys(h.faults)) {
		outages = append(outages, Outage{component, h.since[component]})
	}
	return outages
}

// Serve answers on addr (host:port) until ctx ends, and then returns nil. With
// an empty addr it only waits for that. What is served beyond health and metrics
// is added by more, such as Profiles.
func Serve(ctx context.Context, addr string, h *Health, reg *prometheus.Registry, more ...func(*http.ServeMux)) error {
	if addr == "" {
		<-ctx.Done()
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case err != nil && ctx.Err() != nil: // while a host's name was looked up
		return nil
	case err != nil:
		return fmt.Errorf("listen for the admin endpoint: %w", err)
	}
	answer := handler(h, reg, more...)
	if loopback.Is(listener.Addr().String()) {
		answer = local(answer)
	}
	server := &http.Server{
		Handler:           answer,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		// ctx has ended: what is being answered gets a short time of its own.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := server.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			// A connection over which nothing was asked, or a profile that takes its time: nothing that a stop would fail for.
			err = server.Close()
		}
		stopped <- err
	})()
	slog.InfoContext(ctx, "admin endpoint open", "addr", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin endpoint: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("close the admin endpoint: %w", err)
	}
	return nil
}

// local answers only requests that were sent to this machine by a name of its own.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback.Named(r) {
			http.Error(w, "this answers to localhost and loopback addresses only, not to the name in Host", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func handler(h *Health, reg *prometheus.Registry, more ...func(*http.ServeMux)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		faults := h.Ready()
		w.Header().Set("Content-Type", "application/json")
		if len(faults) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// A write that fails here has nobody left to be told.
		_ = json.NewEncoder(w).Encode(struct {
			Ready    bool              `json:"ready"`
			NotReady map[string]string `json:"not_ready,omitempty"`
		}{len(faults) == 0, faults})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	for _, add := range more {
		add(mux)
	}
	return mux
}
