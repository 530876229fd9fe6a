package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/usage"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

const readyWithin = time.Minute

// site is a database in Postgres and one in ClickHouse, topics, and the processes that are measured.
type site struct {
	flags
	report   *report.Report
	name     string
	config   stack.Config
	conn     driver.Conn
	dir      string // of the binaries
	gateway  *process
	services []*process

	servers []usage.Process // whose CPU time is told
}

// process is a running service.
type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

func newSite(ctx context.Context, f flags) (_ *site, err error) {
	s := &site{flags: f, name: "g" + strings.ToLower(rand.Text()[:12])}
	if err := s.postgres(ctx, "CREATE DATABASE "+s.name); err != nil {
		return nil, err
	}
	at, err := url.Parse(f.Postgres)
	if err != nil {
		return nil, err
	}
	at.Path = "/" + s.name
	s.config, err = stack.Configure(stack.Servers{
		Kafka: f.Kafka, TopicPrefix: s.name, PostgresURL: at.String(), ClickHouse: f.ClickHouse, Database: s.name, Replication: 1,
	})
	if err != nil {
		return nil, err
	}
	if err := stack.Prepare(ctx, &s.config); err != nil {
		return nil, err
	}
	if s.conn, err = s.openDirect(); err != nil {
		return nil, err
	}
	var version string
	if err := s.conn.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return nil, err
	}
	s.report = report.New("gateway", f, map[string]string{"kafka": servers.KafkaVersion(), "clickhouse": version})
	if s.dir, err = os.MkdirTemp("", "lotline-bench-"); err != nil {
		return nil, err
	}
	if s.Profile != "" {
		if err := os.MkdirAll(s.Profile, 0o755); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"gateway", "projector", "allocator"} {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(s.dir, name), "github.com/lotline/lotline/services/"+name+"/cmd/"+name)
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the %s: %w: %s", name, err, out)
		}
	}
	return s, nil
}

func (s *site) postgres(ctx context.Context, sql string) error {
	admin, err := pgx.Connect(ctx, s.Postgres)
	if err != nil {
		return err
	}
	_, err = admin.Exec(ctx, sql)
	return errors.Join(err, admin.Close(ctx))
}

// close ends the services and removes what was made.
func (s *site) close() error {
	ctx := context.Background()
	return errors.Join(s.stop(), s.conn.Exec(ctx, "DROP DATABASE "+s.name), s.conn.Close(), os.RemoveAll(s.dir),
		s.postgres(ctx, "DROP DATABASE "+s.name+" WITH (FORCE)"))
}

// start runs a service and waits until it is ready.
func (s *site) start(ctx context.Context, service, admin string, args ...string) (*process, error) {
	args = append(args, "--admin-addr="+admin, "--kafka-brokers="+strings.Join(s.Kafka, ","), "--kafka-topic-prefix="+s.name)
	p := &process{cmd: exec.Command(filepath.Join(s.dir, service), args...), log: new(bytes.Buffer)}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", service, err)
	}
	s.services = append(s.services, p)
	for end := time.Now().Add(readyWithin); ; time.Sleep(20 * time.Millisecond) {
		err := stack.Probe(ctx, "http://"+admin+"/readyz")
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, fmt.Errorf("the %s is not ready: %w: %s", service, err, p.log)
		}
	}
}

func (s *site) startGateway(ctx context.Context, args ...string) (err error) {
	if s.Profile != "" {
		args = append(args, "--admin-profiles")
	}
	s.gateway, err = s.start(ctx, "gateway", s.config.Gateway.AdminAddr, append(args, "--http-addr="+s.config.Gateway.HTTPAddr,
		"--clickhouse-addrs="+s.ClickHouse, "--clickhouse-database="+s.name)...)
	return err
}

func (s *site) startProjector(ctx context.Context) error {
	_, err := s.start(ctx, "projector", s.config.Projector.AdminAddr, append(slices.Clone(s.ProjectorArg), "--clickhouse-addrs="+s.ClickHouse, "--clickhouse-database="+s.name)...)
	return err
}

func (s *site) startAllocator(ctx context.Context) error {
	_, err := s.start(ctx, "allocator", s.config.Allocator.AdminAddr, append(slices.Clone(s.AllocatorArg), "--postgres-url="+s.config.Allocator.PostgresURL, "--instance-id="+s.name)...)
	return err
}

// stop ends all services.
func (s *site) stop() (err error) {
	for _, p := range s.services {
		err = errors.Join(err, p.cmd.Process.Signal(syscall.SIGTERM))
	}
	for _, p := range s.services {
		if ended := p.cmd.Wait(); ended != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s", ended, p.log))
		}
	}
	s.services, s.gateway = nil, nil
	return err
}

// fillOrders makes order lines, two an order, in the table that is read.
func (s *site) fillOrders(ctx context.Context) error {
	for from := 0; from < s.Lines; from += 1_000_000 {
		if err := s.conn.Exec(ctx, fmt.Sprintf(`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty, eta, commandid, event_time)
			SELECT concat('order-', toString(intDiv(number, 2))), concat('SKU-', toString(number %% 2)),
			1 + number, 0, concat('batch-', toString(number)), 1, NULL, '', now() FROM numbers(%d, %d)`, from, min(1_000_000, s.Lines-from))); err != nil {
			return err
		}
	}
	return nil
}

// stockOf is what each SKU has before its first event.
const stockOf = 1_000_000

// fillSKUs makes SKUs with a batch each, at version 1.
func (s *site) fillSKUs(ctx context.Context) error {
	for _, sql := range []string{
		`INSERT INTO skus_g1 (sku, version, available, event_time) SELECT concat('SKU-', toString(number)), 1, %d, now() FROM numbers(%d)`,
		`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available, eta, event_time) SELECT concat('SKU-', toString(number)), 'batch', 1, 0, %[1]d, %[1]d, NULL, now() FROM numbers(%[2]d)`,
	} {
		if err := s.conn.Exec(ctx, fmt.Sprintf(sql, stockOf, s.SKUs)); err != nil {
			return err
		}
	}
	return nil
}
