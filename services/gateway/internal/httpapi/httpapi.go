// Package httpapi is the gateway's HTTP API: the routes, the bodies, and which
// answer a client gets for what happened.
//
// The service's root serves it. Commands leave through a Submitter, questions
// through a Reader; it holds no state but how many requests are under way.
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
	"strconv"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Submitter sends a command and waits at most wait for its last event; see
// submit.Submitter.
type Submitter interface {
	Submit(ctx context.Context, cmd *schemas.Command, wait time.Duration) (submit.Receipt, error)
}

// Reader answers questions; see reads.Reader.
type Reader interface {
	Allocations(ctx context.Context, orderID string) ([]readmodel.Line, error)
	Availability(ctx context.Context, skus ...string) (map[string]readmodel.Availability, error)
	Outcome(ctx context.Context, commandID string) (readmodel.Outcome, error)
	SKUs(ctx context.Context, ref string) ([]string, error)
}

// Config bounds what requests may take.
type Config struct {
	OutcomeWait    time.Duration // how long a POST waits for its outcome by default
	OutcomeWaitMax time.Duration // how long at most, whatever the client prefers
	ReadWait       time.Duration // how long a question waits for its answer
	RequestsMax    int           // how many commands, and how many questions, at once
}

// Ports is what the API is connected to.
type Ports struct {
	Submitter Submitter
	Reader    Reader
	NotReady  func() map[string]string // component -> why; empty = ready
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Tracer    trace.Tracer
}

type api struct {
	Config
	Ports
	commands  slots
	questions slots
	seconds   *prometheus.HistogramVec
}

// New returns the handler of all routes.
func New(cfg Config, ports Ports) http.Handler {
	a := &api{
		Config: cfg, Ports: ports,
		commands:  make(slots, cfg.RequestsMax),
		questions: make(slots, cfg.RequestsMax),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lotline_gateway_request_duration_seconds",
			Help:    "How long requests took, by route and status.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}, []string{"route", "status"}),
	}
	ports.Metrics.MustRegister(a.seconds)

	mux := http.NewServeMux()
	untraced := func(method, path string, write writer, handle func(*http.Request) answer) {
		mux.Handle(method+" "+path, a.serve(path, write, handle))
		mux.Handle(path, a.serve(path, write, func(*http.Request) answer { return methodNotAllowed(method) }))
	}
	route := func(method, path string, write writer, handle func(*http.Request) answer) {
		untraced(method, path, write, a.traced(method, path, handle))
	}
	route(http.MethodPost, "/add_batch", writeBook, a.accepting(a.addBatch))
	route(http.MethodPost, "/allocate", writeBook, a.accepting(a.allocate))
	route(http.MethodPost, "/change_batch_quantity", writeBook, a.accepting(a.changeBatchQuantity))
	// The rest of the path, for ids have slashes: plain ones in a command's place
	// in the log, and an escaped one alone would not match a single segment.
	route(http.MethodGet, "/allocations/{orderid...}", writeBook, a.questions.bounded(a.allocations))
	route(http.MethodGet, "/availability", writeProblem, a.questions.bounded(a.availabilityOfMany))
	route(http.MethodGet, "/availability/{sku...}", writeProblem, a.questions.bounded(a.availability))
	route(http.MethodGet, "/commands/{id...}", writeProblem, a.questions.bounded(a.command))
	untraced(http.MethodGet, "/healthz", writeProblem, healthy)
	untraced(http.MethodGet, "/readyz", writeProblem, a.ready)
	mux.Handle("/", a.serve("other", writeProblem, func(*http.Request) answer {
		return refused(http.StatusNotFound, "There is nothing at this path")
	}))
	return mux
}

// serve turns what handle returns, or panics with, into a response.
func (a *api) serve(route string, write writer, handle func(*http.Request) answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		r.Body = http.MaxBytesReader(w, r.Body, bodyBytesMax)
		ans := a.guard(r, handle)
		for name, value := range ans.header {
			w.Header().Set(name, value)
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		write(w, ans)
		a.seconds.WithLabelValues(route, strconv.Itoa(ans.status)).Observe(time.Since(start).Seconds())
	})
}

// slots bounds how many requests are under way: one that finds none free is
// refused, not queued.
type slots chan struct{}

func (s slots) bounded(handle func(*http.Request) answer) func(*http.Request) answer {
	return func(r *http.Request) answer {
		select {
		case s <- struct{}{}:
			defer func() { <-s }()
			return handle(r)
		default:
			return unavailable("Too many requests are under way; try again")
		}
	}
}

func healthy(*http.Request) answer {
	return answer{status: http.StatusOK, body: map[string]string{"status": "ok"}}
}

// ready names what is not ready, but not why: reasons hold addresses, and those
// are for the admin endpoint.
func (a *api) ready(*http.Request) answer {
	if faults := a.NotReady(); len(faults) > 0 {
		return notReady(faults)
	}
	return answer{status: http.StatusOK, body: map[string]string{"status": "ready"}}
}

// unavailable is the answer when something that is needed is away or full: the
// same request may succeed soon.
func unavailable(message string) answer {
	ans := refused(http.StatusServiceUnavailable, message)
	ans.header = map[string]string{"Retry-After": "1"}
	return ans
}

// readFailed is the answer when the Reader returned err.
func (a *api) readFailed(ctx context.Context, err error) answer {
	switch {
	case errors.Is(err, reads.ErrTooLarge):
		return refused(http.StatusUnprocessableEntity, fmt.Sprintf("The order has more than %d lines", readmodel.OrderLinesMax))
	case errors.Is(err, readmodel.ErrNotKept):
		return refused(http.StatusNotImplemented, "The read model of this installation does not keep what became of commands: wait for the answer to the POST, or read the events")
	case errors.Is(err, reads.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable("The read model does not answer; try again")
	default:
		return a.internalError(ctx, err)
	}
}
