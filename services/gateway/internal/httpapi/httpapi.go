// Package httpapi is the gateway's HTTP API: the routes, the bodies, and which
// answer a client gets for what happened.
//
// The service's root serves it. Commands leave through a Submitter, questions
// through a Reader; it holds no state but how many requests are under way. The routes are a table, in New's file; each
// resource has a file of its own.
//
// The endpoints of "Architecture Patterns with Python" keep its bodies: what is
// wrong is {"message": …}. All others answer errors as RFC 9457 problems.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Submitter sends commands and waits at most wait for their last events; see
// submit.Submitter.
type Submitter interface {
	Submit(ctx context.Context, wait time.Duration, requests ...submit.Request) []submit.Result
}

// Reader answers questions; see reads.Reader.
type Reader interface {
	Allocations(ctx context.Context, orderID string) ([]readmodel.Allocation, error)
	Lines(ctx context.Context, keys ...readmodel.LineKey) ([]readmodel.Line, error)
	Availability(ctx context.Context, skus ...string) ([]readmodel.Availability, error)
	Outcome(ctx context.Context, commandID string) (readmodel.Outcome, error)
	SKUs(ctx context.Context, ref string) ([]string, error)
}

// Projected waits until the read model has what a token covers; see projected.Watcher.
type Projected interface {
	Wait(ctx context.Context, token projected.Token) error
}

// Config bounds what requests may take.
type Config struct {
	OutcomeWait    time.Duration // how long a POST waits for its outcome by default
	OutcomeWaitMax time.Duration // how long at most, whatever the client prefers
	ReadWait       time.Duration // how long a question waits for its answer
	RequestsMax    int           // how many commands, and how many questions, at once
	// LocalOnly refuses requests for any Host but this machine's loopback; see local.
	LocalOnly bool
	// How long caches may keep what is left of SKUs, and how long they may go on with it while they ask again. 0 = not at
	// all; whole seconds.
	CacheMaxAge, CacheStale time.Duration
}

// Ports is what the API is connected to.
type Ports struct {
	Submitter Submitter
	Reader    Reader
	Projected Projected
	Keys      Keys                  // nil: nobody needs one
	Outages   func() []admin.Outage // of what is not ready
	ReadModel string                // what the Reader asks is called among them
	Mounts    []Mount               // what else is served at the same address
	Stopping  <-chan struct{}       // closed once requests are to be answered soon, since the process is to end; nil: never
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Tracer    trace.Tracer
}

type api struct {
	Config
	Ports
	commands  slots
	many      slots // requests with many commands each
	questions slots
	waits     slots // of questions with a token, before they are asked
	guardian  *guardian
	seconds   *prometheus.HistogramVec
}

// New returns the handler of all routes, and of the mounts beside them.
func New(cfg Config, ports Ports) http.Handler {
	a := &api{
		Config: cfg, Ports: ports,
		commands:  make(slots, cfg.RequestsMax),
		many:      make(slots, max(1, cfg.RequestsMax/requestsPerBatch)),
		questions: make(slots, cfg.RequestsMax),
		waits:     make(slots, cfg.RequestsMax),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lotline_gateway_request_duration_seconds",
			Help:    "How long requests took, by route and status.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}, []string{"route", "status"}),
	}
	ports.Metrics.MustRegister(a.seconds)
	a.guardian = newGuardian(ports)

	nothing := a.serve(route{path: "other", write: writeProblem, handle: func(*http.Request) answer {
		return refused(http.StatusNotFound, "There is nothing at this path; within an id, a slash is written %2F")
	}})
	rt := &router{paths: map[string][]*resource{}, notFound: nothing}
	for _, m := range ports.Mounts {
		m.Handler = a.guarded(m)
		rt.mounts = append(rt.mounts, m)
	}
	for _, one := range a.routes() {
		refuse := func(allowed string) http.Handler {
			return a.serve(route{path: one.path, write: one.write, handle: func(*http.Request) answer { return methodNotAllowed(allowed) }})
		}
		rt.add(one.method, one.path, a.serve(one), refuse)
	}
	if cfg.LocalOnly {
		return a.local(rt)
	}
	return rt
}

// routes are the whole API.
func (a *api) routes() []route {
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	command := func(method, path string, write writer, handle func(*http.Request, []byte) answer) route {
		types := jsonTypes
		if method == patch {
			types = patchTypes
		}
		return route{method, path, write, a.traced(method, path, accepting(types, a.commands, handle)), bodyBytesMax, apikeys.Write}
	}
	question := func(path string, write writer, handle func(*http.Request) answer) route {
		return route{get, path, write, a.traced(get, path, a.after(a.questions.bounded(handle))), 0, apikeys.Read}
	}
	deallocation, many := "/orders/{orderid}/lines/{sku}", "/commands"
	return []route{
		// The book's, with its bodies.
		command(post, "/add_batch", writeBook, a.addBatch),
		command(post, "/allocate", writeBook, a.allocate),
		command(post, "/change_batch_quantity", writeBook, a.changeBatchQuantity),
		question("/allocations/{orderid}", writeBook, a.allocations),

		question("/allocations/{orderid}/{sku}", writeProblem, a.allocation),
		command(post, "/batches", writeProblem, a.createBatch),
		command(patch, "/batches/{sku}/{ref}", writeProblem, a.changeBatch),
		question("/batches/{sku}/{ref}", writeProblem, a.batch),
		command(post, "/orders/{orderid}/lines", writeProblem, a.allocateLine),
		{del, deallocation, writeProblem, a.traced(del, deallocation, a.commands.bounded(a.deallocateLine)), 0, apikeys.Write},
		{post, many, writeProblem, a.traced(post, many, accepting(ndjsonTypes, a.many, a.manyCommands)), manyBytesMax, apikeys.Write},
		// The rest of the path: a command without an id is known by its place in the log, which has slashes.
		question("/commands/{id...}", writeProblem, a.command),
		question("/availability", writeProblem, a.availabilityOfMany),
		question("/availability/{sku...}", writeProblem, a.availability),

		{get, "/healthz", writeProblem, healthy, 0, open},
		{get, "/readyz", writeProblem, a.ready, 0, open},
	}
}

// readFailed is the answer when the Reader returned err.
func (a *api) readFailed(r *http.Request, err error) answer {
	switch {
	case errors.Is(err, errStopping):
		return unavailable("This gateway is about to stop; try again")
	case errors.Is(err, reads.ErrTooLarge):
		return refused(http.StatusUnprocessableEntity, fmt.Sprintf("The order has more than %d lines", readmodel.OrderLinesMax))
	case errors.Is(err, readmodel.ErrNotKept):
		return refused(http.StatusNotImplemented, "The read model of this installation does not keep what became of commands: wait for the answer to the POST, or read the events")
	case errors.Is(err, reads.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable(a.away())
	default:
		return a.internalError(r, err)
	}
}

// away says since when the read model does not answer, once that is known.
func (a *api) away() string {
	for _, outage := range a.Outages() {
		if outage.Component == a.ReadModel {
			return "The read model has not answered since " + outage.Since.UTC().Format(time.RFC3339) + "; try again"
		}
	}
	return "The read model does not answer; try again"
}
