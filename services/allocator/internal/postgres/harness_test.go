//go:build integration

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// database is a migrated database of its own for one test, dropped afterwards.
type database struct {
	t   *testing.T
	url string
}

func newDatabase(t *testing.T) database {
	t.Helper()
	url := postgrestest.Database(t)
	warning, err := Migrate(t.Context(), url, discard)
	require.NoError(t, err)
	require.Empty(t, warning)
	return database{t: t, url: url}
}

// store is a Store with partition 0 at its start.
func (d database) store(timeout time.Duration) *Store {
	d.t.Helper()
	s, err := New(func() (string, error) { return d.url, nil }, timeout)
	require.NoError(d.t, err)
	d.t.Cleanup(s.Close)
	_, err = s.Positions(d.t.Context(), "topic", []int32{0, 1})
	require.NoError(d.t, err)
	return s
}

// row scans the only row of a query made over a connection apart from the stores'.
func (d database) row(sql string, into ...any) {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.url)
	require.NoError(d.t, err)
	defer conn.Close(context.Background())
	require.NoError(d.t, conn.QueryRow(d.t.Context(), sql).Scan(into...))
}

func (d database) exec(sql string) {
	d.t.Helper()
	ctx := context.WithoutCancel(d.t.Context()) // a cleanup uses it too
	conn, err := pgx.Connect(ctx, d.url)
	require.NoError(d.t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, sql)
	require.NoError(d.t, err)
}

// awaitWaiter waits until one transaction waits for another's lock.
func (d database) awaitWaiter(what string) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return d.waiting() == 1 }, 10*time.Second, 10*time.Millisecond, what)
}

// waiting counts transactions that wait for another's lock.
func (d database) waiting() (n int) {
	d.t.Helper()
	d.row(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`, &n)
	return n
}

// contents prints every row of every table, to compare databases before and after.
func (d database) contents() (rows string) {
	d.t.Helper()
	d.row(`SELECT coalesce(string_agg(r, e'\n' ORDER BY r), '') FROM (
		SELECT t::text FROM partitions t UNION ALL SELECT t::text FROM products t UNION ALL SELECT t::text FROM batches t
		UNION ALL SELECT t::text FROM order_lines t UNION ALL SELECT t::text FROM command_seen t UNION ALL SELECT t::text FROM outbox t) AS all_rows (r)`, &rows)
	return rows
}

var discard = slog.New(slog.DiscardHandler)

var at = time.Date(2030, 6, 1, 12, 0, 0, 123e6, time.UTC)

// filled is a write that creates SKU, with two batches, three lines in the first and one without a batch, and ids.
func filled(sku string, from, next int64) apply.Write {
	line := func(i int, ref string, qty int32) allocation.Line {
		return allocation.Line{
			OrderID: fmt.Sprint("o", i), Qty: qty, BatchRef: ref, AllocatedVersion: uint64(i) + 2,
			Command:  allocation.CommandID{Source: "shop", ID: fmt.Sprint("c", i)},
			Position: allocation.Position{Partition: 0, Offset: int64(i)}, CommandTime: at.Add(time.Duration(i) * time.Second),
		}
	}
	return apply.Write{
		TopicID: "topic", From: from, Next: next,
		Products: []apply.Moved{{SKU: sku, Old: 0, New: 7, Available: 94}},
		Changes: []apply.Changed{{SKU: sku, Changes: allocation.Changes{
			NewBatches: []allocation.Batch{
				{Ref: "b1", CreatedVersion: 1, CreatedQty: 12, Qty: 10, Available: 4},
				{Ref: "b2", ETA: "2031-01-02", CreatedVersion: 2, CreatedQty: 90, Qty: 90, Available: 90},
			},
			NewLines: []allocation.Line{line(1, "b1", 1), line(2, "b1", 2), line(3, "b1", 3), line(4, "", 5)},
			Seen: []allocation.Seen{{
				Command: allocation.CommandID{Source: "shop", ID: "c4"}, Body: [16]byte{1, 2, 15: 3},
				Position: allocation.Position{Partition: 0, Offset: 4}, Time: at,
			}},
		}}},
		Segments: []outbox.Segment{{First: from, Next: next, Data: []byte{1, 2, 3}}},
	}
}

// everything asks for all that filled writes.
func everything(sku string) apply.Need {
	need := apply.Need{
		Products: []string{sku},
		Batches:  []apply.BatchKey{{SKU: sku, Ref: "b1"}, {SKU: sku, Ref: "b2"}, {SKU: sku, Ref: "no such"}},
		Seen:     []apply.SeenKey{{SKU: sku, Command: allocation.CommandID{Source: "shop", ID: "c4"}}, {SKU: sku, Command: allocation.CommandID{ID: "c4"}}},
		Cuts:     []apply.Cut{{BatchKey: apply.BatchKey{SKU: sku, Ref: "b1"}, Qty: 0, LinesMax: 100}},
	}
	for _, order := range []string{"o1", "o2", "o3", "o4", "no such"} {
		need.Lines = append(need.Lines, apply.LineKey{SKU: sku, OrderID: order})
	}
	return need
}

// utc makes loaded times comparable.
func utc(f allocation.Facts) allocation.Facts {
	for i := range f.Lines {
		f.Lines[i].CommandTime = f.Lines[i].CommandTime.UTC()
	}
	for i := range f.Seen {
		f.Seen[i].Time = f.Seen[i].Time.UTC()
	}
	for _, n := range f.Newest {
		for i := range n.Lines {
			n.Lines[i].CommandTime = n.Lines[i].CommandTime.UTC()
		}
	}
	return f
}
