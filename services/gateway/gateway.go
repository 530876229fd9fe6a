// Package gateway is the service between HTTP and the rest of Lotline: a
// request that changes something becomes a command on Kafka, one that asks
// something becomes a query of the read model. It holds no truth of its own.
// DESIGN.md beside this file says how, and which test holds what.
//
// This package is wiring only: submit leads to Kafka, reads to the store that
// --read-model names, httpapi to clients. It may import the service's adapters,
// topics and pkg; cmd/gateway, the development stack and the tests call Run.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/alecthomas/kong"
	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/pkg/credentials"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/services/gateway/internal/httpapi"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/lotline/lotline/topics"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	// readTimeout bounds one query, and what a request waits for its own.
	readTimeout = 2 * time.Second
	// ackWait bounds how long Kafka may take to acknowledge a command: clients hear within a second that it is away.
	ackWait = 800 * time.Millisecond

	checkInterval = 2 * time.Second
	checkTimeout  = 2 * time.Second

	headerTimeout   = 5 * time.Second
	bodyTimeout     = 10 * time.Second // headers included
	answerTimeout   = 10 * time.Second // besides what the client may wait for
	idleTimeout     = 2 * time.Minute
	headerBytesMax  = 16 << 10
	shutdownTimeout = 5 * time.Second
	// unusedTimeout is how long a stop waits for the first request of a connection, which may be on its way.
	unusedTimeout = 200 * time.Millisecond
)

// Config is what an operator says about a gateway.
type Config struct {
	HTTPAddr            string             `name:"http-addr" help:"Address (host:port) of the HTTP API." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	HTTPCertFile        string             `name:"http-cert-file" help:"File with the certificate (PEM) for HTTPS, followed by those that lead to its authority; empty = plain HTTP. Read at the start." placeholder:"PATH"`
	HTTPKeyFile         string             `name:"http-key-file" help:"File with the certificate's key (PEM)." placeholder:"PATH"`
	HTTPKeysFile        string             `name:"http-keys-file" help:"File with the API keys' names, scopes and hashes; 'lotline keys new' makes them. Changes are taken in within seconds." placeholder:"PATH"`
	HTTPWithoutKeys     bool               `name:"http-without-keys" help:"Let everybody who reaches an address that is not this machine's own do everything, without a key."`
	AdminAddr           string             `help:"Address (host:port) of health and metrics; empty = none." default:"127.0.0.1:9083" placeholder:"HOST:PORT"`
	AdminProfiles       bool               `help:"Serve Go's CPU and memory profiles there too, under /debug/pprof/. They show the command line."`
	OutcomeWait         time.Duration      `help:"How long a POST waits for its command's outcome, unless the client prefers otherwise." default:"1s"`
	OutcomeWaitMax      time.Duration      `help:"How long a POST waits at most, whatever the client prefers." default:"10s"`
	RequestsMax         int                `help:"How many commands, and how many questions, may be under way at once." default:"4096"`
	HTTPCacheMaxAge     time.Duration      `name:"http-cache-max-age" help:"How long browsers and caches in front of the gateway may answer what is left of SKUs themselves (Cache-Control: max-age); 0 = not at all." default:"0s"`
	HTTPCacheStale      time.Duration      `name:"http-cache-stale" help:"How much longer they may while they ask again (stale-while-revalidate)." default:"0s"`
	CacheBytesMax       int64              `help:"How much memory answers about availability may take; they are kept up to date by the events, and no answer is older than a second. 0 = none is kept. The process keeps to 24 MiB more, and to 72 MiB at least, unless GOMEMLIMIT or GOGC in the environment say otherwise." default:"50331648"`
	TraceRatio          float64            `help:"Share of the requests, 0 to 1, that are traced although nobody before the gateway has decided whether to. Needs --otlp-endpoint." default:"0.01" placeholder:"RATIO"`
	Telemetry           telemetry.Config   `embed:""`
	Kafka               kafkaclient.Config `embed:"" prefix:"kafka-"`
	stores.ReaderConfig `embed:""`
}

// DefaultConfig returns the configuration of a gateway that is told nothing.
func DefaultConfig() Config {
	var cfg Config
	if err := kong.ApplyDefaults(&cfg); err != nil {
		panic(err) // a fault in the tags above, which every test would see
	}
	return cfg
}

// Validate names every fault of the configuration, a sentence each.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Check(), c.Telemetry.Validate()}
	if !(c.TraceRatio >= 0 && c.TraceRatio <= 1) { // so that NaN is refused too
		errs = append(errs, fmt.Errorf("--trace-ratio is %v and must be from 0 to 1", c.TraceRatio))
	}
	_, err := c.certificate()
	errs = append(errs, c.checkAddr(), err)
	if c.OutcomeWaitMax < 0 || c.OutcomeWaitMax > time.Minute {
		errs = append(errs, fmt.Errorf("the longest wait for an outcome, %s, is not from 0s to 1m", c.OutcomeWaitMax))
	}
	if c.OutcomeWait < 0 || c.OutcomeWait > c.OutcomeWaitMax {
		errs = append(errs, fmt.Errorf("the wait for an outcome, %s, is not from 0s to the longest, %s", c.OutcomeWait, c.OutcomeWaitMax))
	}
	if c.RequestsMax < 1 {
		errs = append(errs, fmt.Errorf("with at most %d requests at once nothing can be answered", c.RequestsMax))
	}
	for flag, d := range map[string]time.Duration{"--http-cache-max-age": c.HTTPCacheMaxAge, "--http-cache-stale": c.HTTPCacheStale} {
		if d < 0 || d > time.Hour || d%time.Second != 0 {
			errs = append(errs, fmt.Errorf("%s is %s and must be whole seconds from 0s to 1h", flag, d))
		}
	}
	if c.CacheBytesMax != 0 && c.CacheBytesMax < reads.CacheBytesMin {
		errs = append(errs, fmt.Errorf("a cache of %d bytes is too small: give it %d or more, or 0 for none", c.CacheBytesMax, reads.CacheBytesMin))
	}
	return errors.Join(errs...)
}

// checkAddr sees to it that nobody opens the API to a network by mistake.
func (c Config) checkAddr() error {
	host, _, err := net.SplitHostPort(c.HTTPAddr)
	switch {
	case err != nil:
		return fmt.Errorf("the HTTP address %q is not of the form host:port", c.HTTPAddr)
	case c.HTTPKeysFile != "" && c.HTTPWithoutKeys:
		return errors.New("--http-keys-file and --http-without-keys contradict each other")
	case c.HTTPKeysFile != "":
		_, err := apikeys.Load(c.HTTPKeysFile)
		return err
	case c.HTTPWithoutKeys || host == "localhost" || net.ParseIP(host).IsLoopback():
		return nil
	default:
		return fmt.Errorf("other machines can reach the HTTP address %q: give --http-keys-file (`lotline keys new` makes keys), or --http-without-keys if all who can may do everything", c.HTTPAddr)
	}
}

// certificate returns that of HTTPS, or nil for plain HTTP.
func (c Config) certificate() (*tls.Certificate, error) {
	return credentials.KeyPair("http-cert-file", c.HTTPCertFile, "http-key-file", c.HTTPKeyFile)
}

// Run serves until ctx ends, answers what is under way (those who wait for an
// outcome hear that it is pending), and returns nil. It starts whether or not
// Kafka and the read model are there, and says so on /readyz.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	log := slog.Default()
	health := newReadiness(log)
	registry := admin.NewRegistry("gateway", &health.Health)
	set := topics.Declared(cfg.Kafka.TopicPrefix)
	tracing, err := telemetry.Start(cfg.Telemetry, telemetry.Process{Service: "gateway", Roots: cfg.TraceRatio}, registry, log)
	if err != nil {
		return err
	}
	defer tracing.Close()

	producer, err := kgo.NewClient(append(cfg.Kafka.Opts("lotline-gateway"), submit.ProducerOpts(ackWait)...)...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer producer.Close()
	store, err := cfg.NewReader(readTimeout)
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Warn("could not close the connections to "+store.Name(), "error", err)
		}
	}()

	metrics := reads.NewMetrics(registry)
	var cache *reads.Cache
	var follower submit.Follower
	if cfg.CacheBytesMax > 0 {
		cache = reads.NewCache(cfg.CacheBytesMax, metrics)
		follower = cache
	}
	reader := reads.New(store, cache, readTimeout, metrics, log)
	howFar := committed(producer, set, store.Name())
	page := newConsole(cfg, set, store, reader, health, log)
	waiters := new(submit.Waiters)
	tail := submit.NewTail(cfg.Kafka.Opts("lotline-gateway-tail"), set.Events.Name, waiters, health.reporter("tail"), submit.NewMetrics(registry), log,
		follower, page.Listener())
	submitter := submit.New(producer, set.Commands.Name, ackWait, waiters, reader, ctx.Done())
	submitter.Acknowledged = page.Acknowledged
	ports := httpapi.Ports{
		Submitter: submitter, Reader: reader, Projected: projected.NewWatcher(howFar, ctx.Done(), log), Stopping: ctx.Done(),
		Mounts: mounts(page.Handler()), Outages: health.Outages, ReadModel: store.Name(), Log: log, Metrics: registry, Tracer: tracing.Tracer(),
	}
	followKeys, err := cfg.openKeys(&ports, log)
	if err != nil {
		return err
	}
	handler := httpapi.New(httpapi.Config{
		OutcomeWait: cfg.OutcomeWait, OutcomeWaitMax: cfg.OutcomeWaitMax, ReadWait: readTimeout, RequestsMax: cfg.RequestsMax,
		LocalOnly:   cfg.HTTPKeysFile == "" && !cfg.HTTPWithoutKeys,
		CacheMaxAge: cfg.HTTPCacheMaxAge, CacheStale: cfg.HTTPCacheStale,
	}, ports)

	kafka, readModel := health.reporter("kafka"), health.reporter(store.Name())
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return tail.Run(groupCtx) })
	group.Go(func() error { return page.Run(groupCtx) })
	group.Go(func() error { return reader.Run(groupCtx, howFar) })
	group.Go(func() error { return followKeys(groupCtx) })
	group.Go(func() error { return watch(groupCtx, mayWrite(producer, set.Commands.Name), kafka) })
	group.Go(func() error { return watch(groupCtx, store.Check, readModel) })
	group.Go(func() error {
		return admin.Serve(groupCtx, cfg.AdminAddr, &health.Health, registry, cfg.adminExtras()...)
	})
	group.Go(func() error { return serve(groupCtx, cfg, handler, log) })
	return group.Wait()
}

// serve answers HTTP, or HTTPS if there is a certificate, until ctx ends.
func serve(ctx context.Context, cfg Config, handler http.Handler, log *slog.Logger) error {
	certificate, err := cfg.certificate()
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.HTTPAddr)
	switch {
	case err != nil && ctx.Err() != nil: // while a host's name was looked up
		return nil
	case err != nil:
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      bodyTimeout + 2*cfg.OutcomeWaitMax + answerTimeout, // a batch's SKU can be waited for too
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	conns := new(connections)
	server.ConnState = conns.changed
	go cfg.followConnections(ctx, conns)
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		closing := time.AfterFunc(unusedTimeout, conns.closeUnused)
		defer closing.Stop()
		stopped <- server.Shutdown(grace)
	})
	answer := func() error { return server.Serve(listener) }
	if certificate != nil {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}}
		answer = func() error { return server.ServeTLS(listener, "", "") }
	}
	log.Info("answering HTTP", "addr", listener.Addr().String(), "tls", certificate != nil)
	if err := answer(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("answer the last requests: %w", errors.Join(err, server.Close()))
	}
	return nil
}
