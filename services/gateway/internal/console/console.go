// Package console is the page at "/" of the gateway, which an operator looks at all day: how much passes through the
// pipeline and how long it takes, what a SKU has, what happened to an order, what became of a command, and the dead
// letters.
//
// The page is static (folder static, embedded) and gets what it shows from the routes below /console/ and from the public
// API. The service's root mounts it and tells it of events. It imports Kafka's admin client, the wire format, the contract
// of the read model and Lotline's packages, and knows neither Postgres nor a store.
package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/lotline/lotline/topics"
	"github.com/twmb/franz-go/pkg/kgo"
)

//go:embed static
var static embed.FS

// policy lets the page load what this server serves, and nothing else; no script or style within HTML is obeyed.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types lit-html"

// Reader answers questions; see reads.Reader.
type Reader interface {
	Allocations(ctx context.Context, orderID string) ([]readmodel.Allocation, error)
	Lines(ctx context.Context, keys ...readmodel.LineKey) ([]readmodel.Line, error)
	Availability(ctx context.Context, skus ...string) ([]readmodel.Availability, error)
	Outcome(ctx context.Context, commandID string) (readmodel.Outcome, error)
	SKUs(ctx context.Context, ref string) ([]string, error)
}

// Config says what the console shows.
type Config struct {
	Topics         topics.Set
	ProjectorGroup string        // of the store that Reader asks; "": nothing is projected
	ReadModel      string        // that store's name
	ReadWait       time.Duration // how long a question waits for its answer
	Kafka          []kgo.Opt     // of the client that looks at topics and groups
}

// Ports is what the console is connected to.
type Ports struct {
	Reader  Reader
	History readmodel.Historian // nil: the store keeps none
	Outages func() []admin.Outage
	Log     *slog.Logger
}

// Console is the page and what is behind it.
type Console struct {
	Config
	Ports
	meter   *meter
	hub     *hub
	asked   chan struct{} // slots of questions that are not gathered
	letters chan struct{} // and of reading the dead letters

	warned atomic.Int64 // when a failure was last logged, Unix ns
}

// askedMax bounds the questions about the past, and of searches, that are under way.
const askedMax = 16

// New returns a console. Its Listener wants to hear of events, and Run has to run for it to show live numbers.
func New(cfg Config, ports Ports) *Console {
	m := newMeter()
	return &Console{Config: cfg, Ports: ports, meter: m, hub: newHub(m), asked: make(chan struct{}, askedMax), letters: make(chan struct{}, 1)}
}

// Handler returns the page's routes: "/" and what is below /console/. What is below /console/static/ is the page itself;
// of the others, who may ask is for whoever mounts them to say.
func (c *Console) Handler() http.Handler {
	mux := http.NewServeMux()
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // a fault in the name above, which every start would see
	}
	assets := http.FileServerFS(files)
	mux.Handle("GET /{$}", guarded(assets))
	mux.Handle("GET /console/static/", guarded(http.StripPrefix("/console/static/", assets)))
	mux.Handle("GET /console/live", guarded(http.HandlerFunc(c.live)))
	mux.Handle("GET /console/search", guarded(answering(c.search)))
	mux.Handle("GET /console/command", guarded(answering(c.command)))
	mux.Handle("GET /console/sku", guarded(answering(c.sku)))
	mux.Handle("GET /console/order", guarded(answering(c.order)))
	mux.Handle("GET /console/dead-letters", guarded(answering(c.listLetters)))
	mux.Handle("POST /console/dead-letters/plan", guarded(fromThePage(answering(c.planLetters))))
	mux.Handle("POST /console/dead-letters/answer", guarded(fromThePage(answering(c.answerLetters))))
	return mux
}

// guarded sets what browsers are told about the page and all that it loads.
func guarded(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache") // an update of the gateway is an update of the page
		handler.ServeHTTP(w, r)
	})
}

// fromThePage refuses what another site's page would have a browser send: by where the browser says that it comes from,
// and by a header that no form can send, and no script of elsewhere without asking first.
func fromThePage(handler http.Handler) http.Handler {
	refuse := answering(func(*http.Request) (any, error) {
		return nil, fault{http.StatusForbidden, "This is for the console's own page"}
	})
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(refuse)
	return protection.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Lotline-Console") == "" {
			refuse.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
}

// fault is why a question has no answer.
type fault struct {
	status int
	detail string
}

func (f fault) Error() string { return f.detail }

// answering answers with JSON, or a problem (RFC 9457).
func answering(handle func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := handle(r)
		status, contentType := http.StatusOK, "application/json"
		if err != nil {
			var f fault
			switch {
			case errors.As(err, &f):
			case errors.Is(err, reads.ErrTooLarge):
				f = fault{http.StatusUnprocessableEntity, fmt.Sprintf("The order has more than %d lines, which is more than is shown", readmodel.OrderLinesMax)}
			default:
				f = fault{http.StatusServiceUnavailable, "The read model does not answer; try again"}
			}
			status, contentType = f.status, "application/problem+json"
			if status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "1")
			}
			body = map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": f.detail}
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		// What fails here is the connection: nobody is left to be told.
		_ = json.NewEncoder(w).Encode(body)
	})
}
