package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"unicode"
	"unicode/utf8"

	"github.com/lotline/lotline/schemas"
)

// An answer is what a request comes to: a body, or a message that says what is
// wrong.
type answer struct {
	status    int
	header    map[string]string
	body      any
	message   string // one sentence, without a full stop, as in the book; "" = nothing is wrong
	requestID string
	etag      string // "" = none
}

// with returns the answer with a header; an empty value changes nothing.
func (ans answer) with(name, value string) answer {
	if value == "" {
		return ans
	}
	if ans.header == nil {
		ans.header = map[string]string{}
	}
	ans.header[name] = value
	return ans
}

// A writer writes an answer in the form that the endpoint's clients know.
type writer func(http.ResponseWriter, answer)

func refused(status int, message string) answer { return answer{status: status, message: message} }

// unavailable is the answer when something that is needed is away or full: the
// same request may succeed soon.
func unavailable(message string) answer {
	return refused(http.StatusServiceUnavailable, message).with("Retry-After", "1")
}

func methodNotAllowed(allowed string) answer {
	return refused(http.StatusMethodNotAllowed, "This path answers "+allowed+" only").with("Allow", allowed)
}

// writeBook writes errors as the book does: {"message": …}, and nothing else.
func writeBook(w http.ResponseWriter, ans answer) {
	if ans.message != "" {
		ans.body = struct {
			Message string `json:"message"`
		}{ans.message}
	}
	writeJSON(w, typeJSON, ans.status, ans.body)
}

// writeProblem writes errors as RFC 9457 says. None has a type of its own: the
// status says it all.
func writeProblem(w http.ResponseWriter, ans answer) {
	if lines, ok := ans.body.(ndjson); ok {
		w.Header().Set("Content-Type", ndjsonType)
		w.WriteHeader(ans.status)
		_, _ = w.Write(lines) // a connection that fails has nobody left to be told
		return
	}
	if ans.message == "" {
		writeJSON(w, typeJSON, ans.status, ans.body)
		return
	}
	writeJSON(w, typeProblem, ans.status, struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}{"about:blank", http.StatusText(ans.status), ans.status, ans.message, ans.requestID})
}

func writeJSON(w http.ResponseWriter, contentType []string, status int, body any) {
	w.Header()["Content-Type"] = contentType
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // this is no HTML, and ids should look as they were sent
	// What fails here is the connection: nobody is left to be told.
	_ = encoder.Encode(body)
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
	}
	for _, c := range id {
		if unicode.IsControl(c) {
			return fmt.Sprintf("The %s contains a control character", name)
		}
	}
	return ""
}

// checkPathIDs is checkID for the request's path values of these names.
func checkPathIDs(r *http.Request, names ...string) string {
	for _, name := range names {
		if fault := checkID(name, r.PathValue(name), schemas.MaxIDBytes); fault != "" {
			return fault
		}
	}
	return ""
}
