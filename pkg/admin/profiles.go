package admin

import (
	"net/http"
	"net/http/pprof"
)

// Profiles adds Go's profiles of the process to what is served, under /debug/pprof/. They show what it does and where
// its memory is, and the command line it was started with; a CPU profile may take up to ten seconds (?seconds=10).
func Profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
