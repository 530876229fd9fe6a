package httpapi

import (
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// requestIDBytesMax bounds the id that a client may give its request.
const requestIDBytesMax = 128

// Headers that hold the same in many answers share their values, which nobody changes, and are set by their canonical names:
// to look for those takes as long as to set them.
var (
	nosniff, noStore      = []string{"nosniff"}, []string{"no-store"}
	typeJSON, typeProblem = []string{"application/json"}, []string{"application/problem+json"}
)

// serve turns what a route's handle returns, or panics with, into a response.
func (a *api) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := identified(r)
		if rt.bodyMax > 0 { // others do not read it
			r.Body = http.MaxBytesReader(w, r.Body, rt.bodyMax)
		}
		var ans answer
		if denied := a.guardian.check(r, rt.scope); denied != nil {
			ans = *denied
		} else {
			ans = a.guard(r, rt.handle)
		}
		ans.requestID = id
		h := w.Header()
		h[requestIDHeader] = r.Header[requestIDHeader]
		h["X-Content-Type-Options"] = nosniff
		h["Cache-Control"] = noStore
		for name, value := range ans.header {
			h.Set(name, value)
		}
		if ans.etag != "" {
			h["Etag"] = []string{ans.etag}
			if known(r.Header["If-None-Match"], ans.etag) {
				ans.status = http.StatusNotModified
				w.WriteHeader(ans.status)
			}
		}
		if ans.status != http.StatusNotModified {
			rt.write(w, ans)
		}
		a.seconds.WithLabelValues(rt.path, strconv.Itoa(ans.status)).Observe(time.Since(start).Seconds())
	})
}

// requestIDHeader holds the request's id, in its canonical form.
const requestIDHeader = "X-Request-Id"

// identified returns the id of a request, which has it in its header from then on.
func identified(r *http.Request) string {
	given := idOf(r)
	id := requestID(given)
	if id != given || len(r.Header[requestIDHeader]) > 1 {
		r.Header[requestIDHeader] = []string{id}
	}
	return id
}

// idOf is the id of a request that was identified.
func idOf(r *http.Request) string {
	if ids := r.Header[requestIDHeader]; len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// requestID is what the client calls its request, if that can be shown in a log, and otherwise a new id.
func requestID(given string) string {
	const punctuation = "-_.:/+=@"
	sane := given != "" && len(given) <= requestIDBytesMax && !strings.ContainsFunc(given, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune(punctuation, c)
	})
	if sane {
		return given
	}
	return uuid.NewString()
}

// guard runs handle and answers for it when it panics: one request's fault is
// no other's.
func (a *api) guard(r *http.Request, handle func(*http.Request) answer) (ans answer) {
	defer func() {
		if p := recover(); p != nil {
			a.Log.ErrorContext(r.Context(), "a request panicked", "request_id", idOf(r), "panic", p, "stack", string(debug.Stack()))
			ans = refused(http.StatusInternalServerError, internalErrorMessage)
		}
	}()
	return handle(r)
}

const internalErrorMessage = "Something went wrong here; it was logged"

func (a *api) internalError(r *http.Request, err error) answer {
	a.Log.ErrorContext(r.Context(), "a request failed", "request_id", idOf(r), "error", err)
	return refused(http.StatusInternalServerError, internalErrorMessage)
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
