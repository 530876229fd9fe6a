package crash

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/servers"
)

// Names of the servers, as the services' readiness reports have them.
const (
	postgres   = "postgres"
	clickHouse = "clickhouse"
	kafka      = "kafka"
)

// Hosts are servers that drills may kill, each with a proxy before it that can spoil its connections. The services
// reach all three through the proxies. Nothing else may use them meanwhile.
type Hosts struct {
	servers map[string]*servers.Server
	proxies map[string]*toxiproxy.Proxy
}

// StartHosts starts the three servers, with their data in dir. Close ends them.
func StartHosts(ctx context.Context, dir string) (*Hosts, error) {
	h := &Hosts{servers: make(map[string]*servers.Server), proxies: make(map[string]*toxiproxy.Proxy)}
	control := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	// The proxies first: Kafka tells its clients the address of its own.
	for _, name := range []string{postgres, clickHouse, kafka} {
		proxy := toxiproxy.NewProxy(control, name, "127.0.0.1:0", "127.0.0.1:0")
		if err := proxy.Start(); err != nil {
			return nil, errors.Join(fmt.Errorf("start the proxy of %s: %w", name, err), h.Close())
		}
		h.proxies[name] = proxy
	}
	started := make(map[string]*servers.Server)
	group, groupCtx := errgroup.WithContext(ctx)
	results := make(chan *servers.Server, 3)
	for name, start := range map[string]func(context.Context, servers.Options) (*servers.Server, error){
		postgres: servers.StartPostgres, clickHouse: servers.StartClickHouse, kafka: servers.StartKafka,
	} {
		group.Go(func() error {
			s, err := start(groupCtx, servers.Options{DataDir: filepath.Join(dir, name), Advertised: h.proxies[kafka].Listen})
			if err == nil {
				results <- s
			}
			return err
		})
	}
	err := group.Wait()
	close(results)
	for s := range results {
		started[s.Name] = s
	}
	h.servers = started
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	for name, proxy := range h.proxies {
		proxy.Upstream = h.servers[name].Addr
	}
	return h, nil
}

// heal undoes what a drill that failed may have left: servers that are away, and spoiled connections.
func (h *Hosts) heal(ctx context.Context) error {
	for name, proxy := range h.proxies {
		proxy.Toxics.ResetToxics(ctx)
		if err := proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
			return fmt.Errorf("start the proxy of %s: %w", name, err)
		}
		select {
		case <-h.servers[name].Exited():
			if err := h.servers[name].Restart(ctx); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// Close ends servers and proxies.
func (h *Hosts) Close() error {
	var errs []error
	for _, s := range h.servers {
		errs = append(errs, s.Stop())
	}
	for _, p := range h.proxies {
		p.Stop()
	}
	return errors.Join(errs...)
}

// direct are the servers as the judge reaches them: Kafka's clients always end up at its proxy.
func (h *Hosts) direct() Servers {
	return Servers{Kafka: h.proxies[kafka].Listen, PostgresURL: h.servers[postgres].DSN, ClickHouse: h.servers[clickHouse].Addr}
}

// proxied is a URL of Postgres that leads through the proxy.
func (h *Hosts) proxied(postgresURL string) (string, error) {
	u, err := url.Parse(postgresURL)
	if err != nil {
		return "", fmt.Errorf("parse the URL of Postgres: %w", err)
	}
	u.Host = h.proxies[postgres].Listen
	return u.String(), nil
}

func freeAddr() (string, error) {
	port, err := ports.Free()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}
