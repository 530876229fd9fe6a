package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

func healthy(*http.Request) answer {
	return answer{status: http.StatusOK, body: map[string]string{"status": "ok"}}
}

// ready names what is not ready, but not why: reasons hold addresses, and those
// are for the admin endpoint.
func (a *api) ready(*http.Request) answer {
	if faults := a.NotReady(); len(faults) > 0 {
		return unavailable("Not ready: " + strings.Join(slices.Sorted(maps.Keys(faults)), ", "))
	}
	return answer{status: http.StatusOK, body: map[string]string{"status": "ready"}}
}
