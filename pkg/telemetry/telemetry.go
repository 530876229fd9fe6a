package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/lotline/lotline/pkg/admin"
)

const (
	queueSpansMax = 4096 // that wait for the collector; further ones are lost
	batchSpansMax = 512
	batchInterval = time.Second
	exportTimeout = 5 * time.Second
	closeTimeout  = 2 * time.Second

	// Of one span. What a span holds of a command is short; this bounds what errors and statements put into it.
	spanValueBytesMax = 1024
	spanEventsMax     = 32
	spanLinksMax      = TogetherMax
)

// Config is what an operator says about tracing.
type Config struct {
	Endpoint string `name:"otlp-endpoint" help:"OpenTelemetry collector to send spans of sampled commands to: a URL as http://127.0.0.1:4318, OTLP over HTTP. Headers it wants are taken from OTEL_EXPORTER_OTLP_HEADERS. Empty = none." placeholder:"URL"`
}

// Validate names every fault of the configuration in a sentence, and of the headers that the SDK takes from the
// environment: it would leave out those that it cannot read. No sentence has a value in it.
func (c Config) Validate() error {
	if c.Endpoint == "" {
		return nil
	}
	return errors.Join(c.validateEndpoint(), validateHeaders("OTEL_EXPORTER_OTLP_HEADERS"), validateHeaders("OTEL_EXPORTER_OTLP_TRACES_HEADERS"))
}

func (c Config) validateEndpoint() error {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Not shown: it may hold a password.
		return errors.New("--otlp-endpoint must be a URL of the form http://host:port or https://host:port; credentials go into OTEL_EXPORTER_OTLP_HEADERS")
	}
	return nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// validateHeaders holds a variable to what the SDK reads: name=value,name=value, values with percent-encoding.
func validateHeaders(variable string) error {
	value := strings.TrimSpace(os.Getenv(variable))
	if value == "" {
		return nil
	}
	for i, header := range strings.Split(value, ",") {
		name, value, found := strings.Cut(header, "=")
		_, err := url.PathUnescape(value)
		if !found || err != nil || !headerName.MatchString(strings.TrimSpace(name)) {
			// Not shown: it may hold a password.
			return fmt.Errorf("header %d in %s cannot be read: headers are written name=value,name=value, with a comma or %% in a value as %%2C, %%25", i+1, variable)
		}
	}
	return nil
}

// Process names who sends spans.
type Process struct {
	Service  string  // as "allocator"
	Instance string  // unique among the service's processes; "" = the host's name and the process's number
	Roots    float64 // share of the traces that begin in this process to be sampled, 0 to 1
}

// Tracing makes spans and sends them. Its methods may be called concurrently.
type Tracing struct {
	tracer trace.Tracer
	close  func()
}

// Start begins to send spans to the configured collector; without one it makes none. It does not wait for the
// collector, now or later. What is lost is counted in reg and named in log, once an outage and now and then. The error
// says which setting cannot be used.
func Start(cfg Config, process Process, reg prometheus.Registerer, log *slog.Logger) (*Tracing, error) {
	metrics := newMetrics(reg)
	if cfg.Endpoint == "" {
		return &Tracing{tracer: noop.NewTracerProvider().Tracer(scope), close: func() {}}, nil
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if process.Instance == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("find the host's name for the spans: %w", err)
		}
		process.Instance = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	version, _ := admin.Build()
	res, err := resource.New(context.Background(), resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceNamespace("lotline"), semconv.ServiceName("lotline-"+process.Service),
		semconv.ServiceVersion(version), semconv.ServiceInstanceID(process.Instance)))
	if err != nil {
		return nil, fmt.Errorf("use OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	// The SDK reads its variables (endpoints too, which are not used here) and prints those that it cannot read with all
	// that is in them, passwords too.
	otel.SetLogger(logr.Discard())
	remote, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(strings.TrimSuffix(cfg.Endpoint, "/")+"/v1/traces"),
		otlptracehttp.WithTimeout(exportTimeout),
		// Trying again would keep newer spans waiting, which are worth more.
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}))
	if err != nil {
		return nil, fmt.Errorf("set up sending spans to --otlp-endpoint: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(process.Roots))),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeValueLengthLimit: spanValueBytesMax, AttributeCountLimit: 64,
			EventCountLimit: spanEventsMax, AttributePerEventCountLimit: 16,
			LinkCountLimit: spanLinksMax, AttributePerLinkCountLimit: 16,
		}),
		sdktrace.WithSpanProcessor(metrics),
		sdktrace.WithBatcher(&exporter{SpanExporter: remote, endpoint: cfg.Endpoint, metrics: metrics, log: log},
			sdktrace.WithMaxQueueSize(queueSpansMax), sdktrace.WithMaxExportBatchSize(batchSpansMax),
			sdktrace.WithBatchTimeout(batchInterval), sdktrace.WithExportTimeout(exportTimeout)))
	return &Tracing{tracer: provider.Tracer(scope), close: func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not sent", "endpoint", cfg.Endpoint, "error", err)
			_ = remote.Shutdown(ctx) // ends the request that is under way; what it says is what was just said
		}
	}}, nil
}

// scope names this code among the sources of spans.
const scope = "github.com/lotline/lotline"

// Tracer makes the process's spans.
func (t *Tracing) Tracer() trace.Tracer { return t.tracer }

// Close sends what is left, for 2 s at the most.
func (t *Tracing) Close() { t.close() }
