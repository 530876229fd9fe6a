package httpapi

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/pkg/loopback"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	// failuresBurst and failuresPerSecond are how many unknown keys of one host are answered 401 before the others are 429; hostsMax, of
	// how many hosts that is counted.
	failuresBurst     = 20
	failuresPerSecond = 1
	hostsMax          = 4096
	failuresInterval  = 10 * time.Second // of lines in the log
)

// open is the scope of what needs no key.
const open apikeys.Scope = ""

// Keys are the API keys; see apikeys.File.
type Keys interface {
	Find(text string) (apikeys.Key, bool)
}

// guardian lets in who may.
type guardian struct {
	Ports
	counted *prometheus.CounterVec

	mu     sync.Mutex
	hosts  *simplelru.LRU[string, *rate.Limiter]
	logged time.Time
	since  int // failures since then
}

func newGuardian(ports Ports) *guardian {
	hosts, err := simplelru.NewLRU[string, *rate.Limiter](hostsMax, nil)
	if err != nil {
		panic(err) // its size is the constant above
	}
	g := &guardian{Ports: ports, hosts: hosts, counted: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lotline_gateway_auth_failures_total",
		Help: "Requests that were refused for their API key: there was none, it is unknown, or it does not have the scope.",
	}, []string{"reason"})}
	ports.Metrics.MustRegister(g.counted)
	for _, reason := range []string{"missing", "unknown", "scope"} {
		g.counted.WithLabelValues(reason) // 0, not absent
	}
	return g
}

// check returns what to answer to a request that may not have what needs the scope, nil if it may.
func (g *guardian) check(r *http.Request, scope apikeys.Scope) *answer {
	if g.Keys == nil || scope == open {
		return nil
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		return g.refuse(r, "missing", refused(http.StatusUnauthorized, "This needs an API key: send it as Authorization: Bearer KEY").
			with("WWW-Authenticate", `Bearer realm="lotline"`))
	}
	key, ok := g.Keys.Find(strings.TrimSpace(text))
	switch {
	case !ok:
		return g.refuse(r, "unknown", refused(http.StatusUnauthorized, "The API key is not known").
			with("WWW-Authenticate", `Bearer realm="lotline", error="invalid_token"`))
	case !key.May(scope):
		return g.refuse(r, "scope", refused(http.StatusForbidden, "The API key "+key.Name+" does not have the scope "+string(scope)).
			with("WWW-Authenticate", `Bearer realm="lotline", error="insufficient_scope", scope="`+string(scope)+`"`))
	}
	return nil
}

// refuse counts a failure, and says so in the log now and then, without the key. A host with many unknown keys is answered 429, for a
// client that goes on with a wrong one to slow down. It bounds no guessing: every key is looked up, and one that is right is let in,
// since whoever has it may share the address. What there is to guess, 256 random bits, is bound enough.
func (g *guardian) refuse(r *http.Request, reason string, ans answer) *answer {
	g.counted.WithLabelValues(reason).Inc()
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	g.mu.Lock()
	limiter, ok := g.hosts.Get(host)
	if !ok {
		limiter = rate.NewLimiter(failuresPerSecond, failuresBurst)
		g.hosts.Add(host, limiter)
	}
	g.since++
	count := g.since
	log := time.Since(g.logged) > failuresInterval
	if log {
		g.logged, g.since = time.Now(), 0
	}
	g.mu.Unlock()
	if log {
		g.Log.WarnContext(r.Context(), "requests were refused for their API key", "count", count, "last_reason", reason, "last_host", host, "request_id", idOf(r))
	}
	if reason == "unknown" && !limiter.Allow() {
		ans = refused(http.StatusTooManyRequests, "Too many unknown API keys came from this address; try again later").with("Retry-After", "1")
	}
	return &ans
}

// local answers only requests that were sent to this machine by a name of its own. Without keys that is all that keeps web pages out; see
// package loopback.
func (a *api) local(next http.Handler) http.Handler {
	misdirected := a.serve(route{path: "other", write: writeProblem, handle: func(*http.Request) answer {
		return refused(http.StatusMisdirectedRequest, "This gateway has no API keys and answers to localhost and loopback addresses only, not to the name in Host")
	}})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loopback.Named(r) {
			next.ServeHTTP(w, r)
			return
		}
		misdirected.ServeHTTP(w, r)
	})
}

// guarded is a mounted handler, for those who may.
func (a *api) guarded(m Mount) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(requestIDHeader, identified(r))
		if ans := a.guardian.check(r, m.Scope); ans != nil {
			a.serve(route{path: "other", write: writeProblem, handle: func(*http.Request) answer { return *ans }}).ServeHTTP(w, r)
			return
		}
		m.Handler.ServeHTTP(w, r)
	})
}
