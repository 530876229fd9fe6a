package httpapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
)

// keyring makes a key a scope, under the scope's name.
func keyring(t *testing.T) (apikeys.Set, map[apikeys.Scope]string) {
	t.Helper()
	texts, lines := map[apikeys.Scope]string{}, ""
	for _, scope := range []apikeys.Scope{apikeys.Read, apikeys.Write, apikeys.Admin} {
		text, line, err := apikeys.New(string(scope), scope)
		require.NoError(t, err)
		texts[scope] = text
		lines += line + "\n"
	}
	set, err := apikeys.Parse(lines)
	require.NoError(t, err)
	return set, texts
}

// Every route is tried with every key; a route that is added without a scope in mind is not forgotten.
func TestEveryRouteNeedsItsScope(t *testing.T) {
	set, texts := keyring(t)
	public := []string{"/healthz", "/readyz"}
	for _, rt := range (&api{}).routes() {
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			f := knowing()
			f.keys, f.outcome = set, &schemas.Event{Type: schemas.EventAllocated}
			path := strings.NewReplacer("{orderid}", "o1", "{sku...}", "CHAIR", "{sku}", "CHAIR", "{ref}", "b1", "{id...}", "c1").Replace(rt.path)
			need := apikeys.Write
			if rt.method == http.MethodGet {
				need = apikeys.Read
			}
			for scope, text := range texts {
				f.sent = nil
				resp, body := f.do(t, rt.method, path, "{}", "Authorization", "Bearer "+text)
				if scope == need || scope == apikeys.Admin || slices.Contains(public, rt.path) {
					require.NotContains(t, []int{401, 403, 429}, resp.StatusCode, body)
					continue
				}
				require.Equal(t, 403, resp.StatusCode, body)
				require.Equal(t, `Bearer realm="lotline", error="insufficient_scope", scope="`+string(need)+`"`, resp.Header.Get("WWW-Authenticate"))
				require.Contains(t, body, "The API key "+string(scope)+" does not have the scope "+string(need))
				require.Nil(t, f.sent)
			}
			f.sent = nil
			for given, challenge := range map[string]string{
				"": `Bearer realm="lotline"`, "Basic " + texts[apikeys.Admin]: `Bearer realm="lotline"`, "Bearer": `Bearer realm="lotline"`,
				"Bearer lotline_nonsense": `Bearer realm="lotline", error="invalid_token"`,
			} {
				resp, body := f.do(t, rt.method, path, "{}", "Authorization", given)
				if slices.Contains(public, rt.path) {
					require.Equal(t, 200, resp.StatusCode)
					continue
				}
				require.Equal(t, 401, resp.StatusCode, body)
				require.Equal(t, challenge, resp.Header.Get("WWW-Authenticate"))
				require.Nil(t, f.sent)
			}
		})
	}
}

func TestMountsNeedTheirScopes(t *testing.T) {
	set, texts := keyring(t)
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })
	f := &fake{keys: set, mounts: []Mount{{"/", open, page}, {"/console/", apikeys.Read, page}, {"/console/replay", apikeys.Admin, page}}}
	resp, body := f.do(t, "GET", "/", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "page", body)
	resp, body = f.do(t, "GET", "/console/lag", "")
	require.Equal(t, 401, resp.StatusCode)
	require.Equal(t, problem(401, "This needs an API key: send it as Authorization: Bearer KEY"), body)
	require.Equal(t, testRequestID, resp.Header.Get("X-Request-Id"))
	resp, _ = f.do(t, "GET", "/console/lag", "", "Authorization", "bearer "+texts[apikeys.Read])
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = f.do(t, "POST", "/console/replay", "", "Authorization", "Bearer "+texts[apikeys.Read])
	require.Equal(t, 403, resp.StatusCode)
}

func TestManyUnknownKeysAreTooManyAndNotLogged(t *testing.T) {
	set, texts := keyring(t)
	f, log := knowing(), new(bytes.Buffer)
	f.keys = set
	server := httptest.NewServer(f.handler(log))
	defer server.Close()
	statuses := map[int]int{}
	for range 100 {
		resp, _ := request(t, server.URL, "GET", "/allocations/o1", "", "Authorization", "Bearer lotline_guess")
		statuses[resp.StatusCode]++
	}
	require.Equal(t, 100, statuses[401]+statuses[429])
	require.GreaterOrEqual(t, statuses[401], failuresBurst)
	require.Greater(t, statuses[429], 50)
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	require.NotContains(t, log.String(), "guess")
	resp, _ := request(t, server.URL, "GET", "/allocations/o1", "", "Authorization", "Bearer "+texts[apikeys.Read])
	require.Equal(t, 200, resp.StatusCode, "whoever has a key shares an address with others")
}

// A probe or a browser without a key, often behind the same address as others, guesses nothing and uses nothing up.
func TestMissingKeysAreNeverTooMany(t *testing.T) {
	f := knowing()
	f.keys, _ = keyring(t)
	server := httptest.NewServer(f.handler(io.Discard))
	defer server.Close()
	for range failuresBurst + 10 {
		resp, _ := request(t, server.URL, "GET", "/allocations/o1", "")
		require.Equal(t, 401, resp.StatusCode)
	}
	resp, _ := request(t, server.URL, "GET", "/allocations/o1", "", "Authorization", "Bearer lotline_guess")
	require.Equal(t, 401, resp.StatusCode, "the first that is unknown")
}

func TestSharedCachesKeepNothingThatNeedsAKey(t *testing.T) {
	set, texts := keyring(t)
	f := knowing()
	f.keys, f.config = set, func(c *Config) { c.CacheMaxAge = 5e9 }
	resp, _ := f.do(t, "GET", "/availability/CHAIR", "", "Authorization", "Bearer "+texts[apikeys.Read])
	require.Equal(t, "private, max-age=5", resp.Header.Get("Cache-Control"))
}

// A page that somebody looks at can point its own name here, and is then of one origin with the gateway to the browser.
func TestWithoutKeysOnlyThisMachinesNamesAreAnswered(t *testing.T) {
	mounted := Mount{Path: "/", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	for _, test := range []struct {
		host      string
		localOnly bool
		status    int
	}{
		{"localhost:8080", true, 200},
		{"127.0.0.1:8080", true, 200},
		{"127.0.0.1", true, 200},
		{"[::1]:8080", true, 200},
		{"[::1]", true, 200},
		{"rebound.example:8080", true, 421},
		{"localhost.rebound.example", true, 421},
		{"10.0.0.1:8080", true, 421},
		{"0.0.0.0:8080", true, 421},
		{"shop.example", false, 200},
	} {
		t.Run(test.host, func(t *testing.T) {
			f := knowing()
			f.mounts = []Mount{mounted}
			f.config = func(c *Config) { c.LocalOnly = test.localOnly }
			resp, _ := f.do(t, "GET", "/availability/CHAIR", "", "Host", test.host)
			require.Equal(t, test.status, resp.StatusCode)
			if test.status == 421 {
				resp, _ = f.do(t, "GET", "/", "", "Host", test.host)
				require.Equal(t, 421, resp.StatusCode)
			}
		})
	}
}

func TestALoadBalancersCheckMayNameNoHost(t *testing.T) {
	f := knowing()
	f.config = func(c *Config) { c.LocalOnly = true }
	handler := f.handler(t.Output())
	for minor, status := range []int{200, 421} { // HTTP/1.1 without a Host does not come this far
		r := httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody)
		r.Host, r.ProtoMinor = "", minor
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, status, w.Code)
	}
}

// Whoever reads the log finds the request that a client asks about: it has one id, whatever refused it.
func TestARefusedRequestHasOneID(t *testing.T) {
	set, _ := keyring(t)
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, path := range []string{"/console/x", "/availability/CHAIR"} {
		f := knowing()
		f.keys, f.mounts = set, []Mount{{"/console/", apikeys.Read, page}}
		var log bytes.Buffer
		server := httptest.NewServer(f.handler(&log))
		resp, body := request(t, server.URL, "GET", path, "", "X-Request-Id", "not a sane one")
		server.Close() // the log is whole
		require.Equal(t, 401, resp.StatusCode)
		id := resp.Header.Get("X-Request-Id")
		require.Contains(t, body, id)
		require.Contains(t, log.String(), id)
	}
}
