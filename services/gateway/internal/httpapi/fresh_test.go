package httpapi

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"
)

// questions are all that can be asked, with an answer each.
var questions = []string{"/allocations/o1", "/allocations/o1/CHAIR", "/batches/CHAIR/b1", "/availability/CHAIR", "/availability?sku=CHAIR&sku=TABLE", "/commands/c1"}

func knowing() *fake {
	return &fake{
		allocations: map[string][]readmodel.Line{"o1": {{OrderID: "o1", SKU: "CHAIR", BatchRef: "b1", Qty: 3, Version: 7}}},
		availability: map[string]readmodel.Availability{"CHAIR": {
			SKU: "CHAIR", Version: 7, Available: 7, Batches: []readmodel.Batch{{Ref: "b1", Qty: 10, Available: 7}},
		}},
		outcomes: map[string]readmodel.Outcome{"c1": {CommandID: "c1", Type: "Allocated", SKU: "CHAIR", Version: 7}},
	}
}

func withQuery(path, query string) string {
	if strings.Contains(path, "?") {
		return path + "&" + query
	}
	return path + "?" + query
}

func TestQuestionsWaitForTheirToken(t *testing.T) {
	token, other := projected.Token{3: 40}, projected.Token{3: 41, 5: 0}
	for _, path := range questions {
		t.Run(path, func(t *testing.T) {
			f := knowing()
			f.config = func(c *Config) { c.ReadWait = 50 * time.Millisecond }
			resp, body := f.do(t, "GET", path, "")
			require.Equal(t, 200, resp.StatusCode, body)
			require.Nil(t, f.token)
			require.False(t, f.anew)
			for _, asked := range [][]string{{withQuery(path, "after="+token.String())}, {path, "Lotline-After", token.String()}} {
				resp, _ = f.do(t, "GET", asked[0], "", asked[1:]...)
				require.Equal(t, 200, resp.StatusCode)
				require.Equal(t, token, f.token)
				require.True(t, f.anew, "what is in memory may be older")
				require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			}
			resp, _ = f.do(t, "GET", withQuery(path, "after="+token.String()), "", "Lotline-After", other.String()+", "+token.String(), "Prefer", "wait=3")
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, other, f.token, "the latest of all")
			require.Equal(t, "wait=3", resp.Header.Get("Preference-Applied"))

			f.behind = true
			start := time.Now()
			resp, body = f.do(t, "GET", withQuery(path, "after="+token.String()), "")
			require.Equal(t, 503, resp.StatusCode)
			require.Equal(t, "1", resp.Header.Get("Retry-After"))
			require.Contains(t, body, "The read model does not have yet what the token covers; try again")
			require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
			resp, _ = f.do(t, "GET", withQuery(path, "after="+token.String()), "", "Prefer", "wait=0")
			require.Equal(t, 503, resp.StatusCode)

			for _, bad := range []string{"nonsense", "AgMB", strings.Repeat("A", projected.TokenBytesMax+1)} {
				resp, body = f.do(t, "GET", withQuery(path, "after="+bad), "")
				require.Equal(t, 400, resp.StatusCode)
				require.Contains(t, body, "is none that was given out here")
			}
			// What is left out of such a query must not be the token.
			f.behind, f.token = false, nil
			for _, bad := range []string{"after=" + token.String() + ";qty=3", "qty=3;after=" + token.String(), "after=" + token.String() + "%"} {
				resp, body = f.do(t, "GET", withQuery(path, bad), "")
				require.Equal(t, 400, resp.StatusCode, bad)
				require.Contains(t, body, "The query cannot be read")
			}
		})
	}
}

func TestETags(t *testing.T) {
	for _, path := range questions {
		t.Run(path, func(t *testing.T) {
			f := knowing()
			resp, body := f.do(t, "GET", path, "")
			etag := resp.Header.Get("ETag")
			require.Regexp(t, `^"[A-Za-z0-9_-]{16}"$`, etag)
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			for _, given := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
				resp, nothing := f.do(t, "GET", path, "", "If-None-Match", given)
				require.Equal(t, 304, resp.StatusCode, given)
				require.Empty(t, nothing)
				require.Equal(t, etag, resp.Header.Get("ETag"))
				require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			}
			// One event more about the SKU, and all that could have changed has another tag.
			f.allocations["o1"][0].Version++
			chair := f.availability["CHAIR"]
			chair.Version++
			f.availability["CHAIR"], f.outcomes["c1"] = chair, readmodel.Outcome{CommandID: "c1", Type: "OutOfStock", SKU: "CHAIR", Version: 7}
			resp, again := f.do(t, "GET", path, "", "If-None-Match", etag)
			require.Equal(t, 200, resp.StatusCode)
			require.NotEqual(t, etag, resp.Header.Get("ETag"))
			require.NotEmpty(t, again)
			require.NotEmpty(t, body)
		})
	}
	f := knowing()
	f.allocations["o1"] = append(f.allocations["o1"], readmodel.Line{OrderID: "o1", SKU: "TABLE", Version: 1})
	two, _ := f.do(t, "GET", "/allocations/o1", "")
	f.allocations["o1"] = f.allocations["o1"][:1]
	one, _ := f.do(t, "GET", "/allocations/o1", "")
	require.NotEqual(t, two.Header.Get("ETag"), one.Header.Get("ETag"), "a line that is gone")
	resp, _ := f.do(t, "GET", "/allocations/none", "", "If-None-Match", "*")
	require.Equal(t, 404, resp.StatusCode)
}

func TestCachesMayKeepWhatIsLeftIfTheyAreLet(t *testing.T) {
	f := knowing()
	f.config = func(c *Config) { c.CacheMaxAge, c.CacheStale = 5*time.Second, 2*time.Second }
	token := projected.Token{3: 40}.String()
	for _, path := range questions {
		kept := strings.HasPrefix(path, "/availability") || strings.HasPrefix(path, "/batches")
		control, vary := "no-store", ""
		if kept {
			control, vary = "max-age=5, stale-while-revalidate=2", "Lotline-After"
		}
		resp, _ := f.do(t, "GET", path, "")
		require.Equal(t, control, resp.Header.Get("Cache-Control"), path)
		require.Equal(t, vary, resp.Header.Get("Vary"))
		resp, _ = f.do(t, "GET", path, "", "If-None-Match", "*")
		require.Equal(t, 304, resp.StatusCode)
		require.Equal(t, control, resp.Header.Get("Cache-Control"), "a cache goes by the newest")
		resp, _ = f.do(t, "GET", path, "", "Lotline-After", token)
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	}
	resp, _ := f.do(t, "GET", "/availability/NO-CHAIR", "")
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"), "it may be there in a moment")
}

// slowStore answers with what it had when it was asked, once it is let.
type slowStore struct {
	readmodel.Reader
	mu      sync.Mutex
	version uint64
	asked   chan struct{}
	proceed chan struct{}
}

func (s *slowStore) Name() string { return "slow" }

func (s *slowStore) Lines(_ context.Context, keys []readmodel.LineKey) (map[readmodel.LineKey]readmodel.Line, error) {
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	s.asked <- struct{}{}
	<-s.proceed
	return map[readmodel.LineKey]readmodel.Line{keys[0]: {OrderID: keys[0].OrderID, SKU: keys[0].SKU, BatchRef: "b", Version: version}}, nil
}

// A query that many share may have begun before the token was projected. The failing sequence: A asks, the store reads
// version 1; version 2 is projected; B asks for the same after the token of version 2 and joins A's query.
func TestAQueryFromBeforeTheTokenDoesNotAnswerIt(t *testing.T) {
	store := &slowStore{version: 1, asked: make(chan struct{}, 2), proceed: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	reader := reads.New(store, nil, time.Minute, reads.NewMetrics(prometheus.NewRegistry()), log)
	committed := func(context.Context) (map[int32]int64, error) {
		store.mu.Lock()
		defer store.mu.Unlock()
		return map[int32]int64{0: int64(store.version)}, nil
	}
	server := httptest.NewServer(New(Config{ReadWait: time.Minute, OutcomeWaitMax: time.Minute, RequestsMax: 10}, Ports{
		Submitter: new(fake), Reader: reader, Projected: projected.NewWatcher(committed, nil, log), Log: log,
		Metrics: prometheus.NewRegistry(), Tracer: noop.NewTracerProvider().Tracer(""),
	}))
	defer server.Close()
	answers := make(chan string, 2)
	ask := func(name, query string) {
		_, body := request(t, server.URL, "GET", "/allocations/o1/CHAIR"+query, "")
		answers <- name + " " + body[strings.Index(body, `"version"`):]
	}
	go ask("A", "")
	<-store.asked
	store.mu.Lock()
	store.version = 2
	store.mu.Unlock()
	go ask("B", "?after="+projected.Token{0: 1}.String())
	time.AfterFunc(100*time.Millisecond, func() { store.proceed <- struct{}{} }) // B has come by then, on a machine that is not asleep
	require.Equal(t, `A "version":1}`, <-answers)
	<-store.asked
	store.proceed <- struct{}{}
	require.Equal(t, `B "version":2}`, <-answers)
}

// A client that prefers not to wait, whatever it asks, still has an answer when the token is covered.
func TestATokenIsLookedAtOnceWhateverIsPreferred(t *testing.T) {
	f := knowing()
	for prefer, applied := range map[string]string{"respond-async": "", "wait=0": "wait=0"} {
		resp, _ := f.do(t, "GET", "/availability/CHAIR?after="+projected.Token{3: 40}.String(), "", "Prefer", prefer)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, applied, resp.Header.Get("Preference-Applied"))
		require.Greater(t, f.patience, afterWaitMin/2)
	}
}

// An answer may be torn: the SKU's row is new, a batch's is not yet. What a client keeps of it must not be called current.
func TestATornAnswerHasATagOfItsOwn(t *testing.T) {
	for _, path := range []string{"/availability/CHAIR", "/availability?sku=CHAIR", "/batches/CHAIR/b1"} {
		f := knowing()
		tagOf := func(version uint64) string {
			f.availability["CHAIR"].Batches[0].Version = version
			resp, _ := f.do(t, "GET", path, "")
			return resp.Header.Get("ETag")
		}
		require.NotEqual(t, tagOf(6), tagOf(7), path)
	}
}
