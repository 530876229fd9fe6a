package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An answer is what a request comes to: a body, or a message that says what is
// wrong.
type answer struct {
	status  int
	header  map[string]string
	body    any
	message string // one sentence, without a full stop, as in the book; "" = nothing is wrong
}

// A writer writes an answer in the form that the endpoint's clients know.
type writer func(http.ResponseWriter, answer)

func refused(status int, message string) answer { return answer{status: status, message: message} }

func methodNotAllowed(allowed string) answer {
	ans := refused(http.StatusMethodNotAllowed, "This path answers "+allowed+" only")
	ans.header = map[string]string{"Allow": allowed}
	return ans
}

func notReady(faults map[string]string) answer {
	return unavailable("Not ready: " + strings.Join(slices.Sorted(maps.Keys(faults)), ", "))
}

// writeBook writes errors as the book does: {"message": …}, and nothing else.
func writeBook(w http.ResponseWriter, ans answer) {
	if ans.message != "" {
		ans.body = struct {
			Message string `json:"message"`
		}{ans.message}
	}
	writeJSON(w, "application/json", ans.status, ans.body)
}

// writeProblem writes errors as RFC 9457 says. None has a type of its own: the
// status says it all.
func writeProblem(w http.ResponseWriter, ans answer) {
	if ans.message == "" {
		writeJSON(w, "application/json", ans.status, ans.body)
		return
	}
	writeJSON(w, "application/problem+json", ans.status, struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(ans.status), ans.status, ans.message})
}

func writeJSON(w http.ResponseWriter, contentType string, status int, body any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // this is no HTML, and ids should look as they were sent
	// What fails here is the connection: nobody is left to be told.
	_ = encoder.Encode(body)
}

// guard runs handle and answers for it when it panics: one request's fault is
// no other's.
func (a *api) guard(r *http.Request, handle func(*http.Request) answer) (ans answer) {
	defer func() {
		if p := recover(); p != nil {
			a.Log.ErrorContext(r.Context(), "a request panicked", "panic", p, "stack", string(debug.Stack()))
			ans = refused(http.StatusInternalServerError, internalErrorMessage)
		}
	}()
	return handle(r)
}

const internalErrorMessage = "Something went wrong here; it was logged"

func (a *api) internalError(ctx context.Context, err error) answer {
	a.Log.ErrorContext(ctx, "a request failed", "error", err)
	return refused(http.StatusInternalServerError, internalErrorMessage)
}

// checkID says why id, decoded from a path, cannot be one; "" = it can.
func checkID(name, id string, bytesMax int) string {
	switch {
	case id == "":
		return fmt.Sprintf("The %s must not be empty", name)
	case len(id) > bytesMax:
		return fmt.Sprintf("The %s is %d bytes; at most %d are accepted", name, len(id), bytesMax)
	case !utf8.ValidString(id):
		return fmt.Sprintf("The %s is not valid UTF-8", name)
	case strings.ContainsFunc(id, unicode.IsControl):
		return fmt.Sprintf("The %s contains a control character", name)
	}
	return ""
}
