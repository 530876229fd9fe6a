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
		g.Go(func() error { return Migrate(t.Context(), cfg, Layout{}, slog.New(slog.DiscardHandler)) })
	}
	require.NoError(t, g.Wait())
	require.NoError(t, Migrate(t.Context(), cfg, Layout{}, slog.New(slog.DiscardHandler)))

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

// The server got the block and wrote it, and the connection ended before its answer: nobody knows, and so it is written again.
func TestAnUnknownOutcomeIsWrittenAgain(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	// As replicated tables do by themselves, the table remembers blocks.
	require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 100"))
	require.NoError(t, conn.Exec(t.Context(), "SYSTEM STOP MERGES events"))
	gate := newGate(t, cfg.Addrs[0])
	gate.open()
	through := cfg
	through.Addrs = []string{gate.addr}
	h := readmodeltest.New(29, 500)
	w := newWriter(t, through)
	require.NoError(t, w.Check(t.Context())) // connected
	gate.muteAfter(10_000)                   // of the block's bytes, which are many more
	done := make(chan error, 1)
	go func() { done <- w.Apply(t.Context(), h.Records) }()
	written := func() bool { return lines(t, conn, "SELECT toString(count() > 0) FROM events")[0] == "1" }
	require.Eventually(t, written, 20*time.Second, 10*time.Millisecond)
	select {
	case err := <-done:
		require.Fail(t, "the answer came through", "%v", err)
	default:
	}
	gate.cut()
	require.Error(t, <-done)
	before := lines(t, conn, "SELECT toString(count()) FROM events")
	gate.muteAfter(0)
	require.NoError(t, w.Apply(t.Context(), h.Records))
	require.NotEqual(t, before, lines(t, conn, "SELECT toString(count()) FROM events"), "the server must not know the block again")
	requireReadModel(t, conn, h)
}

// Old blocks come once more when all has been merged, in months that nobody writes to any more, from a projector that slept.
func TestRedeliveryLongAfterwards(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	h := readmodeltest.New(31, 6000) // over the end of a month
	w, zombie := newWriter(t, cfg), newWriter(t, cfg)
	require.NoError(t, w.Apply(t.Context(), h.Records))
	months := lines(t, conn, "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active")
	require.Greater(t, len(months), 1)
	merge := func() {
		t.Helper()
		for _, table := range []string{"events", "outcomes", "order_lines_g1", "stock_g1", "skus_g1", "batches_by_ref_g1"} {
			require.NoError(t, conn.Exec(t.Context(), "OPTIMIZE TABLE "+table+" FINAL"))
		}
	}
	merge()
	requireReadModel(t, conn, h)
	for _, part := range [][]readmodel.Record{h.Records[:1000], h.Records[500:700], h.Records[2000:]} {
		require.NoError(t, zombie.Apply(t.Context(), part))
		requireReadModel(t, conn, h)
	}
	merge()
	requireReadModel(t, conn, h)
}

func TestCheckAsksForTheMigration(t *testing.T) {
	cfg := newDatabase(t)
	server := cfg
	server.Database = "default"
	// A connection to a database that does not exist ends the ClickHouse that the tests run on.
	require.NoError(t, connect(t, server).Exec(t.Context(), "CREATE DATABASE "+cfg.Database))
	w := newWriter(t, cfg)
	require.ErrorContains(t, w.Check(t.Context()), "lotline migrate")
	require.NoError(t, Migrate(t.Context(), cfg, Layout{}, slog.New(slog.DiscardHandler)))
	require.NoError(t, w.Check(t.Context()))
}

// gate is a way to the server that can be closed and cut.
type gate struct {
	addr   string
	server string

	mu     sync.Mutex
	opened bool
	conns  []net.Conn
	left   int // bytes to the server before nothing comes back any more; 0: always
	muted  bool
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
	go io.Copy(writer(func(b []byte) (int, error) {
		g.sent(len(b))
		return to.Write(b)
	}), from)
	go io.Copy(writer(func(b []byte) (int, error) {
		if g.isMuted() {
			return len(b), nil
		}
		return from.Write(b)
	}), to)
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// muteAfter lets nothing of the server's through once so many more bytes have gone to it; 0: all is let through.
func (g *gate) muteAfter(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.muted = bytes, false
}

func (g *gate) sent(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left > 0 {
		if g.left -= bytes; g.left <= 0 {
			g.left, g.muted = 0, true
		}
	}
}

func (g *gate) isMuted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.muted
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
