package httpapi

import (
	"net/http"
	"strings"
)

func healthy(*http.Request) answer {
	return answer{status: http.StatusOK, body: map[string]string{"status": "ok"}}
}

// ready names what is not ready, but not why: reasons hold addresses, and those
// are for the admin endpoint.
func (a *api) ready(*http.Request) answer {
	if outages := a.Outages(); len(outages) > 0 {
		names := make([]string, len(outages))
		for i, outage := range outages {
			names[i] = outage.Component
		}
		return unavailable("Not ready: " + strings.Join(names, ", "))
	}
	return answer{status: http.StatusOK, body: map[string]string{"status": "ready"}}
}
