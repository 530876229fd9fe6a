//go:build integration

package path

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/stack"
)

// rebuildArgs are those of `lotline rebuild` on the pipeline, in Postgres as a user who may migrate.
func (p *pipeline) rebuildArgs(flags ...string) []string {
	p.Helper()
	reader, err := stack.Login(p.Context(), p.on.PostgresURL, p.on.Database+"_migrate", "lotline_migrate")
	require.NoError(p, err)
	return append([]string{
		"rebuild", "--kafka-brokers=" + strings.Join(p.on.Kafka, ","), "--kafka-topic-prefix=" + p.on.TopicPrefix,
		"--postgres-url=" + reader,
	}, append(p.readModelArgs("_migrate"), flags...)...)
}

// readModelArgs say where the pipeline's read model is, for the user in Postgres whose name ends so.
func (p *pipeline) readModelArgs(user string) []string {
	switch p.on.ReadModel {
	case stores.Postgres:
		url, err := stack.Login(p.Context(), p.on.PostgresURL, p.on.Database+user+"_reading", "lotline"+user)
		require.NoError(p, err)
		return []string{"--read-model=postgres", "--read-postgres-url=" + url}
	case stores.Redis:
		return []string{"--read-model=redis", "--redis-addr=" + p.on.Redis, "--redis-prefix=" + p.on.Database}
	}
	return []string{"--clickhouse-addrs=" + p.on.ClickHouse, "--clickhouse-database=" + p.on.Database}
}

func (p *pipeline) rebuild(flags ...string) (code int, printed string) {
	p.Helper()
	var out bytes.Buffer
	code = cli.Main(p.Context(), p.rebuildArgs(flags...), strings.NewReader(""), &out, &out)
	return code, out.String()
}

// rebuilds expects a rebuild to switch, and returns what it printed.
func (p *pipeline) rebuilds(flags ...string) string {
	p.Helper()
	code, printed := p.rebuild(flags...)
	require.Zero(p, code, printed)
	return printed
}

// clickHouse connects to the read model as its owner.
func (p *pipeline) clickHouse() driver.Conn {
	p.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
	require.NoError(p, err)
	p.Cleanup(func() { conn.Close() })
	return conn
}

// run runs statements in ClickHouse.
func (p *pipeline) run(statements ...string) {
	p.Helper()
	conn := p.clickHouse()
	for _, sql := range statements {
		require.NoError(p, conn.Exec(p.Context(), sql), sql)
	}
}

// asked has readers ask all the time, by the gateway and by SQL, until stop is called: it fails the test if a question was
// not answered, or an answer was older than the one before.
func (p *pipeline) asked() (stop func()) {
	p.Helper()
	ctx, cancel := context.WithCancel(p.Context())
	group, _ := errgroup.WithContext(p.Context())
	asked := 0
	group.Go(func() error { // a shop
		for i := 0; ctx.Err() == nil; i++ {
			response, err := http.Get(fmt.Sprintf("%s/allocations/o-%d", p.gateway, 20+i%200))
			if err != nil {
				return err
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotFound {
				return fmt.Errorf("%s: %s", response.Request.URL, response.Status)
			}
			asked++
		}
		return nil
	})
	var conn driver.Conn
	var dashboard []string
	if p.on.ReadModel == "" {
		conn, dashboard = p.clickHouse(), []string{
			"SELECT sku, version FROM skus FINAL WHERE sku LIKE 'BUSY-%'",
			"SELECT sku, max(version) FROM order_lines FINAL WHERE sku LIKE 'BUSY-%' AND toUInt64(substring(orderid, 3)) % 40 < 20 GROUP BY sku", // those that nobody gives back
		}
	}
	for _, question := range dashboard {
		group.Go(func() error {
			newest := make(map[string]uint64)
			for ctx.Err() == nil {
				rows, err := conn.Query(p.Context(), question)
				if err != nil {
					return err
				}
				for rows.Next() {
					var sku string
					var version uint64
					if err := rows.Scan(&sku, &version); err != nil {
						return err
					}
					if version < newest[sku] && strings.Contains(question, "FROM skus") {
						return fmt.Errorf("%s: version %d of %s after %d", question, version, sku, newest[sku])
					}
					newest[sku] = version
				}
				if err := errors.Join(rows.Err(), rows.Close()); err != nil {
					return err
				}
			}
			if len(newest) == 0 {
				return fmt.Errorf("%s: nothing was answered", question)
			}
			return nil
		})
	}
	return func() {
		p.Helper()
		cancel()
		require.NoError(p, group.Wait())
		require.Positive(p, asked)
	}
}

// redelivers writes old blocks once more, as a projector does that was paused for long, until stop is called.
func (p *pipeline) redelivers() (stop func()) {
	p.Helper()
	ctx, cancel := context.WithCancel(p.Context())
	conn := p.clickHouse()
	done := make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := conn.Exec(p.Context(), fmt.Sprintf("INSERT INTO events SELECT * EXCEPT ingested_at, now() FROM events WHERE version %% 7 = %d AND type = 'Allocated' AND sku != 'CHAIR'", i%7)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return func() {
		p.Helper()
		cancel()
		require.NoError(p, <-done)
	}
}

// started is a `lotline rebuild` in a process of its own.
func (p *pipeline) started(flags ...string) *exec.Cmd {
	p.Helper()
	binary, err := lotline()
	require.NoError(p, err)
	c := exec.CommandContext(p.Context(), binary, p.rebuildArgs(flags...)...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	require.NoError(p, c.Start())
	return c
}

func (p *pipeline) number(query string) (n uint64) {
	p.Helper()
	require.NoError(p, p.clickHouse().QueryRow(p.Context(), query).Scan(&n), query)
	return n
}
