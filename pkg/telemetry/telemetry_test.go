package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/telemetry/telemetrytest"
)

// output is a log's; the exporter writes to it from its own goroutine.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) lines(containing string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Count(o.text.String(), containing)
}

func start(t *testing.T, endpoint string, roots float64) (*Tracing, *prometheus.Registry, *output) {
	t.Helper()
	registry, log := prometheus.NewRegistry(), new(output)
	tracing, err := Start(Config{Endpoint: endpoint}, Process{Service: "thing", Instance: "one", Roots: roots},
		registry, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	return tracing, registry, log
}

// spans returns the counters, ended and exported.
func spans(t require.TestingT, reg *prometheus.Registry) (ended, exported float64) {
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 2)
	return families[0].Metric[0].Counter.GetValue(), families[1].Metric[0].Counter.GetValue()
}

func TestSpansArriveWithWhoMadeThem(t *testing.T) {
	receiver := telemetrytest.Start(t)
	tracing, registry, _ := start(t, receiver.URL+"/", 0)
	ctx := Carried{TraceParent: []byte(parent), TraceState: []byte("a=b")}.Context(t.Context())

	ctx, first := tracing.Tracer().Start(ctx, "first", Since(time.Now().Add(-time.Second)))
	_, second := tracing.Tracer().Start(Carried{TraceParent: []byte(strings.Replace(parent, "0af7", "0af8", 1))}.Context(t.Context()), "second")
	_, both := Together(t.Context(), "both", []trace.Span{first, second})
	End(both, net.ErrClosed)
	require.Equal(t, "a=b", string(FromContext(ctx).TraceState), "what others keep there is passed on")
	require.Equal(t, first.SpanContext().SpanID().String(), string(FromContext(ctx).TraceParent)[spanIDAt:spanIDEnd])
	first.End()
	second.End()
	tracing.Close()

	got := map[string]telemetrytest.Span{}
	for _, s := range receiver.Spans() {
		got[s.Name] = s
	}
	require.Len(t, got, 3)
	require.Equal(t, "lotline-thing", got["first"].Service)
	require.Equal(t, "one", got["first"].Resource["service.instance.id"])
	require.NotEmpty(t, got["first"].Resource["service.version"])
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", got["first"].Trace)
	require.Equal(t, "b7ad6b7169203331", got["first"].Parent)
	require.GreaterOrEqual(t, got["first"].End-got["first"].Start, uint64(time.Second))
	require.Equal(t, got["first"].ID, got["both"].Parent)
	require.Equal(t, []string{got["second"].ID}, got["both"].Links)
	require.Equal(t, []string{got["both"].ID}, got["second"].Links)
	require.Equal(t, net.ErrClosed.Error(), got["both"].Error)
	ended, exported := spans(t, registry)
	require.Equal(t, [2]float64{3, 3}, [2]float64{ended, exported})
}

func TestOnlySampledTracesAreSent(t *testing.T) {
	receiver := telemetrytest.Start(t)
	tracing, registry, _ := start(t, receiver.URL, 0)
	_, root := tracing.Tracer().Start(t.Context(), "a root that the ratio leaves out")
	root.End()
	ctx := Carried{TraceParent: []byte(strings.TrimSuffix(parent, "1") + "0")}.Context(t.Context())
	ctx, child := tracing.Tracer().Start(ctx, "of a trace that is not sampled")
	_, grandchild := Child(ctx, "and its own")
	grandchild.End()
	child.End()
	tracing.Close()
	require.Empty(t, receiver.Spans())
	ended, _ := spans(t, registry)
	require.Zero(t, ended)

	tracing, _, _ = start(t, receiver.URL, 1)
	_, root = tracing.Tracer().Start(t.Context(), "a root that the ratio takes")
	root.End()
	tracing.Close()
	require.Len(t, receiver.Spans(), 1)
}

// A collector that refuses connections, answers with an error or hangs is named once, and whoever makes spans, ten times
// as many as have room, does not notice.
func TestACollectorThatIsAwayHoldsNothingUp(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(failing.Close)
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })

	for name, endpoint := range map[string]string{"away": "http://" + closed.Addr().String(), "failing": failing.URL, "hanging": hanging.URL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tracing, registry, log := start(t, endpoint, 1)
			begin := time.Now()
			for range 10 * queueSpansMax {
				_, span := tracing.Tracer().Start(t.Context(), "work")
				span.End()
			}
			require.Less(t, time.Since(begin), exportTimeout/2, "making spans waits for nothing")
			begin = time.Now()
			tracing.Close()
			require.Less(t, time.Since(begin), closeTimeout+time.Second, "nor does a stop, for long")
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				require.Equal(c, 1, log.lines("does not take spans"))
			}, 2*time.Second, 10*time.Millisecond, "the collector is named once")
			ended, exported := spans(t, registry)
			require.Equal(t, [2]float64{10 * queueSpansMax, 0}, [2]float64{ended, exported})
		})
	}
}

func TestACollectorThatComesBackIsNamed(t *testing.T) {
	log := new(output)
	remote := &remote{err: net.ErrClosed}
	e := &exporter{SpanExporter: remote, metrics: newMetrics(prometheus.NewRegistry()), log: slog.New(slog.NewTextHandler(log, nil))}
	for range 3 {
		require.NoError(t, e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 5)))
	}
	require.Equal(t, 1, log.lines("does not take spans"))
	e.logged = time.Now().Add(-2 * remindInterval)
	require.NoError(t, e.ExportSpans(t.Context(), nil))
	require.Equal(t, 2, log.lines("does not take spans"), "and again after a while")

	remote.err = nil
	for range 2 {
		require.NoError(t, e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 7)))
	}
	require.Equal(t, 1, log.lines("takes spans again"))
	require.Equal(t, 1, log.lines("lost_spans=15"))
	require.InDelta(t, 14, testutil.ToFloat64(e.metrics.exported), 0)
}

type remote struct {
	sdktrace.SpanExporter
	err error
}

func (r *remote) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return r.err }

func TestOffCostsNothing(t *testing.T) {
	tracing, _, _ := start(t, "", 1)
	defer tracing.Close()
	carried := FromRecord(headers("ce_type", "T"))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if carried.Sampled() {
			t.Error("sampled")
		}
		_, together := Together(t.Context(), "work", nil)
		_, child := Child(t.Context(), "part")
		End(child, nil)
		End(together, nil)
	}))
	_, span := tracing.Tracer().Start(Carried{TraceParent: []byte(parent)}.Context(t.Context()), "x")
	defer span.End()
	require.False(t, span.IsRecording())
	require.Equal(t, "b7ad6b7169203331", span.SpanContext().SpanID().String(), "whoever comes next hangs on to the sender")
}

func TestValidate(t *testing.T) {
	for _, good := range []string{"", "http://127.0.0.1:4318", "https://collector.example/otlp"} {
		require.NoError(t, Config{Endpoint: good}.Validate())
	}
	for _, bad := range []string{"127.0.0.1:4318", "grpc://host:4317", "http://", "http://user:hunter2@host", "http://host?x=hunter2", ":"} {
		err := Config{Endpoint: bad}.Validate()
		require.ErrorContains(t, err, "--otlp-endpoint must be a URL", bad)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = Start(Config{Endpoint: bad}, Process{}, prometheus.NewRegistry(), slog.Default())
		require.Error(t, err)
	}
}

// Headers often hold a token. The SDK would print those that it cannot read, and go on without them.
func TestFaultsInTheSDKsVariablesAreNotPrinted(t *testing.T) {
	var printed bytes.Buffer
	sdk := func() {
		otel.SetLogger(funcr.New(func(prefix, args string) { printed.WriteString(prefix + args) }, funcr.Options{}))
	}
	good := Config{Endpoint: "http://127.0.0.1:1"}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		for value, want := range map[string]string{
			"":                             "",
			"api-key=hunter2, other = a ":  "",
			"api-key=Bearer%20hunter2==":   "",
			"Authorization Bearer hunter2": "header 1 in " + variable + " cannot be read",
			"a=b,api-key=hunter2%zz":       "header 2 in " + variable + " cannot be read",
			"hunter2:b=c":                  "header 1 in " + variable + " cannot be read",
			"a=hunter2,":                   "header 2 in " + variable + " cannot be read",
		} {
			t.Run(variable+" "+value, func(t *testing.T) {
				t.Setenv(variable, value)
				sdk()
				tracing, err := Start(good, Process{}, prometheus.NewRegistry(), slog.Default())
				if want == "" {
					require.NoError(t, err)
					tracing.Close()
				} else {
					require.ErrorContains(t, err, want)
					require.NotContains(t, err.Error(), "hunter2")
				}
			})
		}
	}
	require.NoError(t, Config{}.Validate(), "without a collector they are nobody's")
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(variable, "http://u:hunter2@127.0.0.1:port")
	}
	sdk()
	tracing, err := Start(good, Process{}, prometheus.NewRegistry(), slog.Default())
	require.NoError(t, err)
	tracing.Close()
	require.NotContains(t, printed.String(), "hunter2")
}
