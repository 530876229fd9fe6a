//go:build integration

package clickhouse

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/services/projector/internal/historytest"
	"github.com/lotline/lotline/services/projector/internal/projection"
)

func requireReadModel(t *testing.T, conn driver.Conn, h *historytest.History) {
	t.Helper()
	for query, want := range h.Tables() {
		require.NotEmpty(t, want, "the history must say something about every table: "+query)
		got := lines(t, conn, query)
		slices.Sort(got)
		require.Equal(t, want, got, query)
	}
}

func block(t testing.TB, records []*projection.Record) *projection.Block {
	t.Helper()
	b := new(projection.Block)
	for _, r := range records {
		require.NoError(t, b.Add(r))
	}
	return b
}

func BenchmarkInsert(b *testing.B) {
	cfg := migrated(b)
	w, _ := newWriter(b, cfg)
	rows := block(b, historytest.New(1, 10_000).Records)
	for b.Loop() {
		require.NoError(b, w.Insert(b.Context(), rows))
	}
	b.ReportMetric(float64(rows.Len()*b.N)/b.Elapsed().Seconds(), "events/s")
}

func TestMigrationsCanRunAtOnceAndAgain(t *testing.T) {
	cfg := newDatabase(t)
	var g errgroup.Group
	for range 3 {
		g.Go(func() error { return Migrate(t.Context(), cfg, slog.New(slog.DiscardHandler)) })
	}
	require.NoError(t, g.Wait())
	require.NoError(t, Migrate(t.Context(), cfg, slog.New(slog.DiscardHandler)))

	conn := connect(t, cfg)
	require.Equal(t, []string{"order_lines", "order_lines_g1"}, lines(t, conn,
		"SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'order_lines%' ORDER BY name"))
	require.Empty(t, lines(t, conn, "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = '' AND name != 'goose_db_version'"))
	require.Empty(t, lines(t, conn, "SELECT concat(table, '.', name) FROM system.columns WHERE database = currentDatabase() AND comment = ''"+
		" AND table NOT LIKE 'mv_%' AND table != 'goose_db_version'"))
	w, health := newWriter(t, cfg)
	require.NoError(t, w.Check(t.Context()))
	require.Empty(t, health.Ready())
}

// Two writers, at once, write every event one to four times, in blocks of any size and in any order.
func TestAnyOrderAnyNumberOfTimesGivesOneResult(t *testing.T) {
	for seed := range uint64(3) {
		cfg := migrated(t)
		h := historytest.New(seed, 2000)
		random := rand.New(rand.NewPCG(seed, 1))
		var log []*projection.Record
		for _, r := range h.Records {
			for range 1 + random.IntN(4) {
				log = append(log, r)
			}
		}
		random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		var blocks []*projection.Block
		for len(log) > 0 {
			n := min(len(log), 1+random.IntN(400))
			blocks = append(blocks, block(t, log[:n]))
			log = log[n:]
		}
		var g errgroup.Group
		for half := range 2 {
			w, _ := newWriter(t, cfg)
			g.Go(func() error {
				for i := half; i < len(blocks); i += 2 {
					if err := w.Insert(t.Context(), blocks[i]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		requireReadModel(t, connect(t, cfg), h)
	}
}

// An event published twice has two offsets; the row must not depend on which copy came last.
func TestEventPublishedTwiceIsOneRow(t *testing.T) {
	h := historytest.New(7, 300)
	again := make([]*projection.Record, len(h.Records))
	for i, r := range h.Records {
		second := *r
		second.Offset += 1000
		again[i] = &second
	}
	published := *h
	published.Records = again
	for _, order := range [][][]*projection.Record{{h.Records, again}, {again, h.Records}} {
		cfg := migrated(t)
		w, _ := newWriter(t, cfg)
		for _, records := range order {
			require.NoError(t, w.Insert(t.Context(), block(t, records)))
		}
		requireReadModel(t, connect(t, cfg), &published)
	}
}

// A view that fails leaves the block half written. It is written again until it is whole.
func TestHalfWrittenBlockIsWrittenAgain(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	h := historytest.New(11, 500)
	w, health := newWriter(t, cfg)
	require.NoError(t, conn.Exec(t.Context(), "RENAME TABLE stock_g1 TO away"))

	done, rows := make(chan error, 1), block(t, h.Records)
	go func() { done <- w.Insert(t.Context(), rows) }()
	require.Eventually(t, func() bool { return testutil.ToFloat64(w.metrics.retries) >= 2 }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, health.Ready()[component], "insert into events")
	require.Contains(t, health.Ready()[component], "stock_g1")
	require.Empty(t, done, "a block that is not whole must not be acknowledged")

	require.NoError(t, conn.Exec(t.Context(), "RENAME TABLE away TO stock_g1"))
	require.NoError(t, <-done)
	require.Empty(t, health.Ready())
	requireReadModel(t, conn, h)
}

func TestOutageIsWaitedOut(t *testing.T) {
	cfg := migrated(t)
	gate := newGate(t, cfg.Addrs[0])
	through := cfg
	through.Addrs = []string{gate.addr}
	h := historytest.New(13, 500)
	w, health := newWriter(t, through)

	done, rows := make(chan error, 1), block(t, h.Records)
	go func() { done <- w.Insert(t.Context(), rows) }()
	require.Eventually(t, func() bool { return testutil.ToFloat64(w.metrics.retries) >= 2 }, 10*time.Second, 10*time.Millisecond)
	require.NotEmpty(t, health.Ready()[component])

	gate.open()
	require.NoError(t, <-done)
	requireReadModel(t, connect(t, cfg), h)

	gate.cut() // the pooled connection is dead now
	require.NoError(t, w.Insert(t.Context(), block(t, h.Records)))
	require.Empty(t, health.Ready())
}

func TestInsertEndsWithItsContext(t *testing.T) {
	cfg := migrated(t)
	cfg.Addrs = []string{newGate(t, cfg.Addrs[0]).addr}
	w, _ := newWriter(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, w.Insert(ctx, block(t, historytest.New(1, 10).Records)), context.DeadlineExceeded)
}

func TestCheckWaitsForTheMigration(t *testing.T) {
	cfg := newDatabase(t)
	server := cfg
	server.Database = "default"
	// A connection to a database that does not exist ends the ClickHouse that the tests run on.
	require.NoError(t, connect(t, server).Exec(t.Context(), "CREATE DATABASE "+cfg.Database))
	w, health := newWriter(t, cfg)
	done := make(chan error, 1)
	go func() { done <- w.Check(t.Context()) }()
	require.Eventually(t, func() bool { return len(health.Ready()[component]) > 20 }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, health.Ready()[component], "lotline migrate")
	require.NoError(t, Migrate(t.Context(), cfg, slog.New(slog.DiscardHandler)))
	require.NoError(t, <-done)
	require.Empty(t, health.Ready())
}

// gate is a way to the server that can be closed and cut.
type gate struct {
	addr   string
	server string

	mu     sync.Mutex
	opened bool
	conns  []net.Conn
}

func newGate(t *testing.T, server string) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{addr: listener.Addr().String(), server: server}
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		g.cut()
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			g.pass(conn)
		}
	}()
	return g
}

func (g *gate) pass(from net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	to, err := net.Dial("tcp", g.server)
	if err != nil || !g.opened {
		from.Close()
		return
	}
	g.conns = append(g.conns, from, to)
	go io.Copy(to, from)
	go io.Copy(from, to)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
}

func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}
