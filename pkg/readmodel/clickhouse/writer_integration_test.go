//go:build integration

package clickhouse

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

func requireReadModel(t *testing.T, conn driver.Conn, h *readmodeltest.History) {
	t.Helper()
	for query, want := range h.Tables() {
		require.NotEmpty(t, want, "the history must say something about every table: "+query)
		got := lines(t, conn, query)
		slices.Sort(got)
		require.Equal(t, want, got, query)
	}
}

func BenchmarkApply(b *testing.B) {
	cfg := migrated(b)
	w := newWriter(b, cfg)
	records := readmodeltest.New(1, 10_000).Records
	for b.Loop() {
		require.NoError(b, w.Apply(b.Context(), records))
	}
	b.ReportMetric(float64(len(records)*b.N)/b.Elapsed().Seconds(), "events/s")
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
	require.NoError(t, newWriter(t, cfg).Check(t.Context()))
}

// Two writers, at once, write every event one to four times, in blocks of any size and in any order.
func TestAnyOrderAnyNumberOfTimesGivesOneResult(t *testing.T) {
	for seed := range uint64(3) {
		cfg := migrated(t)
		h := readmodeltest.New(seed, 2000)
		random := rand.New(rand.NewPCG(seed, 1))
		var log []readmodel.Record
		for _, r := range h.Records {
			for range 1 + random.IntN(4) {
				log = append(log, r)
			}
		}
		random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		var blocks [][]readmodel.Record
		for len(log) > 0 {
			n := min(len(log), 1+random.IntN(400))
			blocks = append(blocks, log[:n])
			log = log[n:]
		}
		var g errgroup.Group
		for half := range 2 {
			w := newWriter(t, cfg)
			g.Go(func() error {
				for i := half; i < len(blocks); i += 2 {
					if err := w.Apply(t.Context(), blocks[i]); err != nil {
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
	h := readmodeltest.New(7, 300)
	again := make([]readmodel.Record, len(h.Records))
	for i, r := range h.Records {
		again[i] = r
		again[i].Offset += 1000
	}
	published := *h
	published.Records = again
	for _, order := range [][][]readmodel.Record{{h.Records, again}, {again, h.Records}} {
		cfg := migrated(t)
		w := newWriter(t, cfg)
		for _, records := range order {
			require.NoError(t, w.Apply(t.Context(), records))
		}
		requireReadModel(t, connect(t, cfg), &published)
	}
}

// A view that fails leaves the block half written. Writing it again makes it whole.
func TestHalfWrittenBlockIsWrittenAgain(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	h := readmodeltest.New(11, 500)
	w := newWriter(t, cfg)
	require.NoError(t, conn.Exec(t.Context(), "RENAME TABLE stock_g1 TO away"))
	for range 2 {
		err := w.Apply(t.Context(), h.Records)
		require.ErrorContains(t, err, "insert into events", "a block that is not whole must not be acknowledged")
		require.ErrorContains(t, err, "stock_g1")
	}
	require.NoError(t, conn.Exec(t.Context(), "RENAME TABLE away TO stock_g1"))
	require.NoError(t, w.Apply(t.Context(), h.Records))
	requireReadModel(t, conn, h)
}

func TestAnOutageEndsWithTheOutage(t *testing.T) {
	cfg := migrated(t)
	gate := newGate(t, cfg.Addrs[0])
	through := cfg
	through.Addrs = []string{gate.addr}
	h := readmodeltest.New(13, 500)
	w := newWriter(t, through)
	for range 2 {
		require.Error(t, w.Apply(t.Context(), h.Records))
	}
	gate.open()
	require.NoError(t, w.Apply(t.Context(), h.Records))
	requireReadModel(t, connect(t, cfg), h)

	gate.cut() // the pooled connection is dead now
	require.Eventually(t, func() bool { return w.Apply(t.Context(), h.Records) == nil }, 10*time.Second, 10*time.Millisecond)
}

func TestCheckAsksForTheMigration(t *testing.T) {
	cfg := newDatabase(t)
	server := cfg
	server.Database = "default"
	// A connection to a database that does not exist ends the ClickHouse that the tests run on.
	require.NoError(t, connect(t, server).Exec(t.Context(), "CREATE DATABASE "+cfg.Database))
	w := newWriter(t, cfg)
	require.ErrorContains(t, w.Check(t.Context()), "lotline migrate")
	require.NoError(t, Migrate(t.Context(), cfg, slog.New(slog.DiscardHandler)))
	require.NoError(t, w.Check(t.Context()))
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
