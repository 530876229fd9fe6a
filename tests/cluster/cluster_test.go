//go:build integration

// Package cluster holds the read model on a ClickHouse cluster to the contract that it keeps on one host: two hosts, a
// shard each, with Distributed tables over them.
//
// Replicated tables need ClickHouse Keeper, which the embedded ClickHouse has not: their statements are compared as text,
// by the store's own tests, and no server has run them here.
//
// It imports the contract's suite, the store, the operator's command, servers and stack.
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
	store "github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/servers"
)

var layout = store.Layout{Cluster: store.Cluster{Cluster: "lotline"}, Retention: store.Retention{OutcomesDays: 10_000}}

// hosts are the cluster's, a shard each.
var hosts [2]*servers.Server

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lotline-cluster-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = start(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a ClickHouse cluster:", err)
		return 1
	}
	defer func() {
		for _, host := range hosts {
			_ = host.Kill()
		}
	}()
	return m.Run()
}

// start starts two ClickHouses that know each other as a cluster.
func start(dir string) error {
	var listen [len(hosts)]int
	config := "<clickhouse><remote_servers><lotline>"
	for i := range hosts {
		var err error
		if listen[i], err = ports.Free(); err != nil {
			return err
		}
		config += fmt.Sprintf("<shard><replica><host>127.0.0.1</host><port>%d</port></replica></shard>", listen[i])
	}
	config += "</lotline></remote_servers></clickhouse>"
	for i, port := range listen {
		data := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Join(data, "config.d"), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(data, "config.d", "cluster.xml"), []byte(config), 0o644); err != nil {
			return err
		}
		var err error
		if hosts[i], err = servers.StartClickHouse(context.Background(), servers.Options{DataDir: data, Port: port}); err != nil {
			return err
		}
	}
	return nil
}

// database is a read model of the test's own, on both hosts.
type database struct {
	*testing.T
	name string
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	return newDatabaseOf(t, fmt.Sprintf("cluster_test_%016x", rand.Uint64()))
}

func newDatabaseOf(t *testing.T, name string) *database {
	t.Helper()
	d := &database{t, name}
	require.NoError(t, store.Migrate(t.Context(), d.at(0), layout, slog.New(slog.DiscardHandler)))
	t.Cleanup(func() {
		for i := range hosts {
			require.NoError(t, d.connect(i).Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+d.name))
		}
	})
	return d
}

// at is how to connect to a host.
func (d *database) at(host int) clickhouseclient.Config {
	return clickhouseclient.Config{Addrs: []string{hosts[host].Addr}, Database: d.name, User: "default"}
}

func (d *database) connect(host int) driver.Conn {
	d.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{hosts[host].Addr}, Auth: clickhouse.Auth{Database: d.name}})
	require.NoError(d, err)
	d.Cleanup(func() { require.NoError(d, conn.Close()) })
	return conn
}

func (d *database) writer(host int) *store.Writer {
	d.Helper()
	w, err := store.NewWriter(d.at(host))
	require.NoError(d, err)
	d.Cleanup(func() { require.NoError(d, w.Close()) })
	require.NoError(d, w.Check(d.Context()))
	return w
}

func (d *database) generations(host int) *store.Generations {
	d.Helper()
	g, err := store.NewGenerations(d.at(host))
	require.NoError(d, err)
	d.Cleanup(func() { require.NoError(d, g.Close()) })
	return g
}

// run runs statements at a host.
func (d *database) run(host int, statements ...string) {
	d.Helper()
	conn := d.connect(host)
	for _, sql := range statements {
		require.NoError(d, conn.Exec(d.Context(), sql), sql)
	}
}

// everywhere runs statements at each host.
func (d *database) everywhere(statements ...string) {
	d.Helper()
	for i := range hosts {
		d.run(i, statements...)
	}
}

// lines returns the rows of a query with one string column.
func (d *database) lines(conn driver.Conn, query string) []string {
	d.Helper()
	rows, err := conn.Query(d.Context(), query)
	require.NoError(d, err, query)
	found := []string{}
	for rows.Next() {
		var line string
		require.NoError(d, rows.Scan(&line))
		found = append(found, line)
	}
	require.NoError(d, rows.Err())
	slices.Sort(found)
	return found
}

// requireReadModel compares all tables, asked at each host, with what the history comes to.
func (d *database) requireReadModel(h *readmodeltest.History) {
	d.Helper()
	for i := range hosts {
		conn := d.connect(i)
		for query, want := range h.Tables() {
			require.NotEmpty(d, want, "the history must say something about every table: "+query)
			require.Equal(d, want, d.lines(conn, query), query)
		}
	}
}

func TestConforms(t *testing.T) {
	readmodeltest.Conform(t, readmodeltest.Store{
		KeepsOutcomes: true, KeepsBatchVersions: true, Lists: true, HasGenerations: true, Ledger: true,
		Open: func(t *testing.T) readmodeltest.Place {
			d := newDatabase(t)
			r, err := store.NewReader(d.at(0), 5*time.Second)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, r.Close()) })
			opened := 0
			next := func() int {
				opened++
				return opened % len(hosts)
			}
			return readmodeltest.Place{
				Reader:      r,
				Writer:      func(*testing.T) readmodel.Writer { return d.writer(next()) },
				Generations: func(*testing.T) readmodel.Generations { return d.generations(next()) },
				Refuse: func(_ *testing.T, sku string) func() {
					d.everywhere("ALTER TABLE events_local ADD CONSTRAINT c CHECK sku != '" + sku + "'")
					return func() { d.everywhere("ALTER TABLE events_local DROP CONSTRAINT c") }
				},
			}
		},
	})
}

// Both hosts take blocks, each event one to three times and in any order.
func TestEachKeyIsOnOneShard(t *testing.T) {
	d := newDatabase(t)
	h := readmodeltest.New(1, 2000)
	random := rand.New(rand.NewPCG(1, 1))
	var log []readmodel.Record
	for _, r := range h.Records {
		for range 1 + random.IntN(3) {
			log = append(log, r)
		}
	}
	random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
	writers := []*store.Writer{d.writer(0), d.writer(1)}
	n := 0
	for block := range slices.Chunk(log, 300) {
		require.NoError(t, writers[n%2].Apply(t.Context(), block))
		n++
	}
	d.requireReadModel(h)

	first, second := d.connect(0), d.connect(1)
	for table, key := range map[string]string{"events": "sku", "outcomes": "commandid", "order_lines_g1": "orderid", "stock_g1": "sku", "skus_g1": "sku", "batches_by_ref_g1": "ref"} {
		keys := "SELECT DISTINCT " + key + " FROM " + table + "_local"
		a, b := d.lines(first, keys), d.lines(second, keys)
		require.NotEmpty(t, a, table)
		require.NotEmpty(t, b, table)
		for _, key := range a {
			require.NotContains(t, b, key, table)
		}
		require.Len(t, d.lines(first, "SELECT DISTINCT "+key+" FROM "+table), len(a)+len(b))
	}
}

// The views for BI count on each shard, and say the same as they would on one host.
func TestHoursAreCountedOnEachShard(t *testing.T) {
	d := newDatabase(t)
	h := readmodeltest.New(2, 1000)
	w := d.writer(1)
	require.NoError(t, w.Apply(t.Context(), h.Records))
	require.NoError(t, w.Apply(t.Context(), h.Records[200:400]))
	for i := range hosts {
		conn := d.connect(i)
		require.NoError(t, conn.Exec(t.Context(), "SYSTEM REFRESH VIEW mv_sku_hours"))
		require.NoError(t, conn.Exec(t.Context(), "SYSTEM WAIT VIEW mv_sku_hours"))
	}
	conn := d.connect(0)
	hours := d.lines(conn, "SELECT concat(toString(hour), ' ', sku, ' ', toString(lines_requested), ' ', toString(units_left)) FROM bi_hourly")
	require.NotEmpty(t, hours)
	require.Equal(t, d.lines(conn, `SELECT concat(toString(hour), ' ', sku, ' ', toString(countIf(is_request)), ' ', toString(argMax(units_left, version))) FROM bi_events GROUP BY hour, sku`), hours)
	require.Equal(t, d.lines(conn, "SELECT toString(sum(units_left)) FROM bi_skus"), d.lines(conn, "SELECT toString(sum(available)) FROM skus FINAL"))
	for _, view := range d.lines(conn, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'bi\\_%'") {
		require.NotEqual(t, []string{"0"}, d.lines(conn, "SELECT toString(count()) FROM "+view), view)
	}
}

// A shard that is away: no block is acknowledged that it has not got, and the same block, written again, is whole.
func TestAShardThatIsAwayIsAnOutage(t *testing.T) {
	d := newDatabase(t)
	h := readmodeltest.New(3, 500)
	w := d.writer(0)
	require.NoError(t, w.Apply(t.Context(), h.Records[:250]))
	require.NoError(t, hosts[1].Kill())
	err := w.Apply(t.Context(), h.Records[250:])
	require.NoError(t, hosts[1].Restart(context.WithoutCancel(t.Context())))
	require.Error(t, err)
	var refused *readmodel.RefusedError
	require.NotErrorAs(t, err, &refused, "it is tried again")
	require.Eventually(t, func() bool { return w.Apply(t.Context(), h.Records[250:]) == nil }, 30*time.Second, 100*time.Millisecond)
	d.requireReadModel(h)
}

func TestAClusterThatIsNotThereIsNamed(t *testing.T) {
	cfg := clickhouseclient.Config{Addrs: []string{hosts[0].Addr}, Database: "nowhere", User: "default"}
	err := store.Migrate(t.Context(), cfg, store.Layout{Cluster: store.Cluster{Cluster: "lotlien"}}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "knows no cluster lotlien")
}
