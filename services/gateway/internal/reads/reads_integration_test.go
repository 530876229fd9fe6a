//go:build integration

package reads

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/migrate"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// migrations are the projector's: what it writes is what is read here. Services
// import no code of each other, but the tables are the contract between them.
const migrations = "../../../projector/internal/clickhouse/migrations"

func connect(t *testing.T, database string) driver.Conn {
	t.Helper()
	addr := os.Getenv("LOTLINE_TEST_CLICKHOUSE")
	require.NotEmpty(t, addr, "LOTLINE_TEST_CLICKHOUSE must be the host:port of a ClickHouse server's native protocol: run `make test`")
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{addr}, Auth: clickhouse.Auth{Database: database}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// newReader returns a Reader of a database of the test's own, and a connection
// to write to it.
func newReader(t *testing.T) (*Reader, driver.Conn) {
	t.Helper()
	server := connect(t, "default")
	name := fmt.Sprintf("gateway_test_%016x", rand.Uint64())
	t.Cleanup(func() { require.NoError(t, server.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name)) })
	require.NoError(t, server.Exec(t.Context(), "CREATE DATABASE "+name))
	addr := os.Getenv("LOTLINE_TEST_CLICKHOUSE")
	opts := &clickhouse.Options{Addr: []string{addr}, Auth: clickhouse.Auth{Database: name}}
	require.NoError(t, migrate.ClickHouse(t.Context(), opts, os.DirFS(migrations), slog.New(slog.DiscardHandler)))

	r, err := Open(clickhouseclient.Config{Addrs: []string{addr}, Database: name, User: "default"}, 5*time.Second, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, connect(t, name)
}

func insert(t *testing.T, conn driver.Conn, into string, rows ...[]any) {
	t.Helper()
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+into)
	require.NoError(t, err)
	for _, row := range rows {
		require.NoError(t, batch.Append(row...))
	}
	require.NoError(t, batch.Send())
}

// oddIDs would break a query that was put together from text.
var oddIDs = []string{
	"o1", "a/b", `quote"s'`, `back\slash`, `\`, `\'`, `']`, `'], sleep(3), ['`, "{keys:String}", "a,b", "100%", "Größe 🪑", " ", strings.Repeat("x", 255),
}

func TestAllocations(t *testing.T) {
	r, conn := newReader(t)
	const into = "events (sku, version, type, event_time, orderid, qty, batchref)"
	now := time.Now()
	event := func(sku string, version uint64, kind, orderID, ref string) []any {
		return []any{sku, version, kind, now, orderID, int32(1), ref}
	}
	for range 2 { // as after a redelivery
		for _, id := range oddIDs {
			insert(t, conn, into,
				event("TABLE "+id, 2, "Allocated", id, "b2"),
				event("CHAIR "+id, 3, "Allocated", id, "late"),
				event("LAMP "+id, 2, "Allocated", id, "b3"))
			insert(t, conn, into, event("CHAIR "+id, 2, "Deallocated", id, "early"), event("LAMP "+id, 3, "Deallocated", id, "b3"))
		}
	}
	for _, id := range oddIDs {
		lines, err := r.Allocations(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, []Allocation{{"CHAIR " + id, "late"}, {"TABLE " + id, "b2"}}, lines)
	}
	lines, err := r.Allocations(t.Context(), "nobody's")
	require.NoError(t, err)
	require.Empty(t, lines)

	var group errgroup.Group // many at once are few queries
	for i := range 500 {
		group.Go(func() error {
			id := oddIDs[i%len(oddIDs)]
			lines, err := r.Allocations(t.Context(), id)
			if err == nil && (len(lines) != 2 || lines[0].SKU != "CHAIR "+id) {
				err = fmt.Errorf("the lines of %q are %v", id, lines)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
}

func TestOrderOfTooManyLines(t *testing.T) {
	r, conn := newReader(t)
	add := func(from, count int) {
		require.NoError(t, conn.Exec(t.Context(), fmt.Sprintf(
			"INSERT INTO order_lines_g1 (orderid, sku, version, batchref) SELECT 'large', toString(number), 1, 'b' FROM numbers(%d, %d)", from, count)))
	}
	add(0, OrderLinesMax)
	lines, err := r.Allocations(t.Context(), "large")
	require.NoError(t, err)
	require.Len(t, lines, OrderLinesMax)
	add(OrderLinesMax, 1)
	_, err = r.Allocations(t.Context(), "large")
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestFirstOutcomeCounts(t *testing.T) {
	r, conn := newReader(t)
	const into = "outcomes (commandid, event_id, type, sku, event_time, kpartition, koffset, commandsource, version, orderid, batchref, reason, message)"
	at := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	outcome := func(id, eventID, kind string, at time.Time, partition int32, offset int64) []any {
		return []any{id, eventID, kind, "CHAIR", at, partition, offset, "/shop", uint64(1 << 63), "o1", "b1", "r", "m " + kind}
	}
	for range 2 {
		for _, id := range append(oddIDs, "lotline.commands/3/7") {
			insert(t, conn, into,
				outcome(id, "0", "CommandIgnored", at.Add(time.Millisecond), 0, 1),
				outcome(id, "1", "CommandRejected", at, 3, 0),
				outcome(id, "2", "OutOfStock", at, 2, 10))
			insert(t, conn, into, outcome(id, "3", "Allocated", at, 2, 9))
		}
	}
	for _, id := range append(oddIDs, "lotline.commands/3/7") {
		got, err := r.Outcome(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, &Outcome{
			CommandID: id, CommandSource: "/shop", Type: "Allocated", SKU: "CHAIR", Version: 1 << 63, OrderID: "o1", BatchRef: "b1",
			Reason: "r", Message: "m Allocated", EventTime: at,
		}, got)
	}
	got, err := r.Outcome(t.Context(), "unknown")
	require.NoError(t, err)
	require.Nil(t, got)
}

func TestSKUsOfARef(t *testing.T) {
	r, conn := newReader(t)
	const into = "events (sku, version, type, event_time, batchref)"
	for range 2 {
		for _, id := range oddIDs {
			insert(t, conn, into,
				[]any{"TABLE", uint64(1), "BatchCreated", time.Now(), id}, []any{id, uint64(1), "BatchCreated", time.Now(), id})
		}
	}
	for _, id := range oddIDs {
		skus, err := r.SKUs(t.Context(), id)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"TABLE", id}, skus)
		require.IsIncreasing(t, skus)
	}
	skus, err := r.SKUs(t.Context(), "unknown")
	require.NoError(t, err)
	require.Empty(t, skus)
}

func TestCheckAndFailures(t *testing.T) {
	r, conn := newReader(t)
	require.NoError(t, r.Check(t.Context()))
	require.NoError(t, conn.Exec(t.Context(), "DROP TABLE outcomes"))
	require.ErrorContains(t, r.Check(t.Context()), "outcomes")
	_, err := r.Outcome(t.Context(), "c1")
	require.ErrorIs(t, err, ErrUnavailable)
	_, err = r.Allocations(t.Context(), "o1")
	require.NoError(t, err, "other questions go on")
}
