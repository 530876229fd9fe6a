package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/tests/bench/usage"
	"github.com/lotline/lotline/tests/stack"
)

// linesOfSKU is how many order lines each SKU has.
const linesOfSKU = 100

// site is a database in Postgres and one in ClickHouse, topics, and a pipeline.
type site struct {
	flags
	on       stack.Servers
	running  *stack.Stack
	postgres *pgx.Conn
	conn     driver.Conn
	dir      string // of the binary
}

func newSite(ctx context.Context, f flags) (*site, error) {
	name := "r" + strings.ToLower(rand.Text()[:12])
	admin, err := pgx.Connect(ctx, f.Postgres)
	if err != nil {
		return nil, err
	}
	_, err = admin.Exec(ctx, "CREATE DATABASE "+name)
	if err = errors.Join(err, admin.Close(ctx)); err != nil {
		return nil, err
	}
	at, err := url.Parse(f.Postgres)
	if err != nil {
		return nil, err
	}
	at.Path = "/" + name
	s := &site{flags: f, on: stack.Servers{
		Kafka: f.Kafka, TopicPrefix: name, PostgresURL: at.String(), ClickHouse: f.ClickHouse, Database: name, Replication: 1,
	}}
	if s.dir, err = os.MkdirTemp("", "lotline-bench-"); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.dir+"/", "github.com/lotline/lotline/services/cli/cmd/lotline")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build lotline: %w: %s", err, out)
	}
	config, err := stack.Configure(s.on)
	if err != nil {
		return nil, err
	}
	if s.running, err = stack.Start(ctx, config); err != nil {
		return nil, err
	}
	if s.postgres, err = pgx.Connect(ctx, at.String()); err != nil {
		return nil, err
	}
	s.conn, err = clickhouse.Open(&clickhouse.Options{Addr: []string{f.ClickHouse}, Auth: clickhouse.Auth{Database: name, Username: "default"}})
	return s, err
}

// clickHouseVersion asks the server.
func (s *site) clickHouseVersion(ctx context.Context) (version string, err error) {
	err = s.conn.QueryRow(ctx, "SELECT version()").Scan(&version)
	return version, err
}

// processes finds those of the pipeline's servers, on this machine.
func (s *site) processes() (all []usage.Process, err error) {
	at, err := url.Parse(s.Postgres)
	if err != nil {
		return nil, err
	}
	for _, p := range []struct{ name, addr string }{{"Postgres", at.Host}, {"ClickHouse", s.ClickHouse}, {"Kafka", s.Kafka[0]}} {
		found, err := usage.Listening(p.name, p.addr)
		if err != nil {
			return nil, err
		}
		all = append(all, found)
	}
	return append(all, usage.Process{Name: "the services and this program", PID: os.Getpid()}), nil
}

// close removes what was made, and adds what went wrong to err.
func (s *site) close(err error) error {
	ctx := context.Background()
	err = errors.Join(err, s.running.Stop(), s.conn.Exec(ctx, "DROP DATABASE "+s.on.Database), s.conn.Close(), s.postgres.Close(ctx), os.RemoveAll(s.dir))
	admin, connect := pgx.Connect(ctx, s.Postgres)
	if connect != nil {
		return errors.Join(err, connect)
	}
	_, drop := admin.Exec(ctx, "DROP DATABASE "+s.on.Database+" WITH (FORCE)")
	return errors.Join(err, drop, admin.Close(ctx))
}

// fill puts order lines into Postgres: of each SKU a batch, and every tenth line given back. Their indexes are made after
// them, which is several times as fast.
func (s *site) fill(ctx context.Context) error {
	var newest string
	if err := s.postgres.QueryRow(ctx, "SELECT pg_get_indexdef('order_lines_newest'::regclass)").Scan(&newest); err != nil {
		return err
	}
	skus := s.Lines / linesOfSKU
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{"SET maintenance_work_mem = '512MB'", nil},
		{"ALTER TABLE order_lines DROP CONSTRAINT order_lines_pkey", nil},
		{"DROP INDEX order_lines_newest", nil},
		{"INSERT INTO products (sku, version, available) SELECT 'SKU-' || lpad(n::text, 8, '0'), 111, 910 FROM generate_series(1, $1::bigint) n", []any{skus}},
		{"INSERT INTO batches (sku, ref, eta, created_version, created_qty, qty, allocated) SELECT 'SKU-' || lpad(n::text, 8, '0'), 'batch-' || n, CASE WHEN n % 2 = 0 THEN date '2031-01-02' + (n % 300)::int END, 1, 1000, 1000, 90 FROM generate_series(1, $1::bigint) n", []any{skus}},
		{`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version, command_source, command_id, command_partition, command_offset, command_time)
			SELECT 'order-' || lpad(((n * 7919) % $1)::text, 9, '0'), 'SKU-' || lpad((1 + n % ($1 / 100))::text, 8, '0'), 1, CASE WHEN (n / ($1 / 100)) % 10 <> 0 THEN 'batch-' || 1 + n % ($1 / 100) END,
				2 + n / ($1 / 100), '/bench', 'command-' || n, 0, n, now() FROM generate_series(0, $1::bigint - 1) n`, []any{s.Lines}},
		{"ALTER TABLE order_lines ADD PRIMARY KEY (orderid, sku)", nil},
		{newest, nil},
		{"VACUUM (FREEZE, ANALYZE)", nil}, // or it comes while something is measured
		{"CHECKPOINT", nil},
	} {
		if _, err := s.postgres.Exec(ctx, step.sql, step.args...); err != nil {
			return fmt.Errorf("%s: %w", step.sql, err)
		}
	}
	return nil
}
