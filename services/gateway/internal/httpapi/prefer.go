package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// preferred reads the Prefer header (RFC 7240): how long to wait for the
// outcome, and which preference that follows, for Preference-Applied ("" =
// none). With both wait and respond-async, wait says when to stop waiting, which
// is what respond-async asks for anyway. A preference that cannot be read is
// ignored, as the RFC says.
func (a *api) preferred(header http.Header) (wait time.Duration, applied string) {
	return a.preferredOr(a.OutcomeWait, header)
}

// preferredOr is preferred for what waits for something else by default.
func (a *api) preferredOr(wait time.Duration, header http.Header) (_ time.Duration, applied string) {
	for _, preference := range preferences(header) {
		preference, _, _ = strings.Cut(preference, ";") // parameters: none is defined
		name, value, _ := strings.Cut(preference, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "wait":
			seconds, err := strconv.ParseUint(strings.Trim(value, " \t\""), 10, 31)
			if err != nil {
				continue
			}
			// Bounded to whole seconds: the header has no others.
			seconds = min(seconds, uint64(a.OutcomeWaitMax/time.Second))
			return time.Duration(seconds) * time.Second, "wait=" + strconv.FormatUint(seconds, 10)
		case "respond-async":
			wait, applied = 0, "respond-async"
		}
	}
	return wait, applied
}

// preferences divides the header at its commas, but for those within quotes.
func preferences(header http.Header) (all []string) {
	for _, value := range header.Values("Prefer") {
		from, quoted, escaped := 0, false, false
		for i, c := range value {
			switch {
			case escaped:
				escaped = false
			case quoted && c == '\\':
				escaped = true
			case c == '"':
				quoted = !quoted
			case c == ',' && !quoted:
				all, from = append(all, value[from:i]), i+1
			}
		}
		all = append(all, value[from:])
	}
	return all
}
