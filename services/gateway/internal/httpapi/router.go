package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lotline/lotline/pkg/apikeys"
)

// A route is one method of one path. A segment of a path is fixed or {name}, which matches any; {name...} at the end
// matches all that is left, slashes and all.
type route struct {
	method, path string
	write        writer
	handle       func(*http.Request) answer
	bodyMax      int64 // bytes
	scope        apikeys.Scope
}

// Mount is a handler of a path that is no route of the API, and of all below it if it ends in a slash (but for "/", which
// is only itself), for those who have a key with the scope; "" is for everybody. Of several the longest path counts.
type Mount struct {
	Path    string
	Scope   apikeys.Scope
	Handler http.Handler
}

// router finds the route of a request by its path as it was sent: an escaped slash is part of an id, a plain one divides.
// http.ServeMux does the same, but for an id that is nothing but a slash, and it redirects where an id is empty.
type router struct {
	paths    map[string][]*resource // by first segment
	mounts   []Mount
	notFound http.Handler
}

// resource is a path with all its methods.
type resource struct {
	path     string
	segments []string
	methods  map[string]http.Handler
	refuse   func(allowed string) http.Handler // what another method gets
}

func (rt *router) add(method, path string, handler http.Handler, refuse func(allowed string) http.Handler) {
	segments := strings.Split(path[1:], "/")
	known := rt.paths[segments[0]]
	at := slices.IndexFunc(known, func(r *resource) bool { return r.path == path })
	if at < 0 {
		at = len(known)
		rt.paths[segments[0]] = append(known, &resource{path, segments, map[string]http.Handler{}, refuse})
	}
	rt.paths[segments[0]][at].methods[method] = handler
}

func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	segments := segmentsOf(r.URL.EscapedPath())
	for _, found := range rt.paths[segments[0]] {
		if found.match(r, segments) {
			found.handler(r.Method).ServeHTTP(w, r)
			return
		}
	}
	best, handler := -1, rt.notFound
	for _, m := range rt.mounts {
		below := len(m.Path) > 1 && strings.HasSuffix(m.Path, "/") && strings.HasPrefix(r.URL.Path, m.Path)
		if (below || r.URL.Path == m.Path) && len(m.Path) > best {
			best, handler = len(m.Path), m.Handler
		}
	}
	handler.ServeHTTP(w, r)
}

// segmentsOf divides a path, and then takes the escapes out of its parts.
func segmentsOf(escaped string) []string {
	segments := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i, segment := range segments {
		if plain, err := url.PathUnescape(segment); err == nil {
			segments[i] = plain
		}
	}
	return segments
}

// match compares, and on success gives the request its path values.
func (f *resource) match(r *http.Request, segments []string) bool {
	if len(segments) < len(f.segments) || len(segments) > len(f.segments) && !strings.HasSuffix(f.path, "...}") {
		return false
	}
	for i, want := range f.segments {
		if want[0] != '{' && want != segments[i] {
			return false
		}
	}
	for i, want := range f.segments {
		switch {
		case strings.HasSuffix(want, "...}"):
			r.SetPathValue(strings.Trim(want, "{.}"), strings.Join(segments[i:], "/"))
		case want[0] == '{':
			r.SetPathValue(strings.Trim(want, "{}"), segments[i])
		}
	}
	return true
}

func (f *resource) handler(method string) http.Handler {
	if handler, ok := f.methods[method]; ok {
		return handler
	}
	if handler, ok := f.methods[http.MethodGet]; ok && method == http.MethodHead {
		return handler // net/http leaves the body out
	}
	allowed := make([]string, 0, len(f.methods)+1)
	for m := range f.methods {
		allowed = append(allowed, m)
		if m == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	return f.refuse(strings.Join(allowed, ", "))
}
