//go:build integration

package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// TestCuts: the newest lines first, no more than can be needed, and Complete exactly if no older line can be needed.
func TestCuts(t *testing.T) {
	// Batch b1 holds o1 (1 piece), o2 (2) and o3 (3), o3 the newest: 6 of 10 are allocated.
	s := newDatabase(t).store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
	for name, c := range map[string]struct {
		ref      string
		qty      int32
		linesMax int
		want     []string
		complete bool
	}{
		"all lines":                            {"b1", 0, 100, []string{"o3", "o2", "o1"}, true},
		"as many lines as units too many":      {"b1", 5, 100, []string{"o3"}, true},
		"one unit a line at the least":         {"b1", 4, 100, []string{"o3", "o2"}, true},
		"bounded, and that is enough":          {"b1", 3, 1, []string{"o3"}, true},
		"bounded, and older ones may be asked": {"b1", 2, 1, []string{"o3"}, false},
		"bounded deeper":                       {"b1", 0, 2, []string{"o3", "o2"}, false},
		"bounded at exactly all there are":     {"b1", 0, 3, []string{"o3", "o2", "o1"}, true},
		"nothing is too many":                  {"b1", 6, 100, nil, true},
		"more is asked than there is":          {"b1", 1000, 100, nil, true},
		"no line in the batch":                 {"b2", 0, 100, nil, true},
		"no such batch":                        {"b9", 0, 100, nil, true},
		"the least qty there can be":           {"b1", math.MinInt32, 100, []string{"o3", "o2", "o1"}, true},
		"the greatest":                         {"b1", math.MaxInt32, 100, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.Load(t.Context(), apply.Need{Cuts: []apply.Cut{
				{BatchKey: apply.BatchKey{SKU: "CHAIR", Ref: c.ref}, Qty: c.qty, LinesMax: c.linesMax},
			}})
			require.NoError(t, err)
			newest := got.Facts["CHAIR"].Newest[c.ref]
			var orders []string
			for _, l := range newest.Lines {
				require.Equal(t, c.ref, l.BatchRef)
				orders = append(orders, l.OrderID)
			}
			require.Equal(t, c.want, orders)
			require.Equal(t, c.complete, newest.Complete)
		})
	}
}

// TestCutsOfSeveralBatches: each batch has its own bound and its own verdict.
func TestCutsOfSeveralBatches(t *testing.T) {
	s := newDatabase(t).store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
	require.NoError(t, s.Commit(t.Context(), filled("TABLE", 8, 9)))
	got, err := s.Load(t.Context(), apply.Need{Cuts: []apply.Cut{
		{BatchKey: apply.BatchKey{SKU: "TABLE", Ref: "b1"}, Qty: 0, LinesMax: 1},
		{BatchKey: apply.BatchKey{SKU: "CHAIR", Ref: "b1"}, Qty: 0, LinesMax: 9},
		{BatchKey: apply.BatchKey{SKU: "CHAIR", Ref: "b2"}, Qty: 0, LinesMax: 9},
	}})
	require.NoError(t, err)
	require.Len(t, got.Facts["TABLE"].Newest["b1"].Lines, 1)
	require.False(t, got.Facts["TABLE"].Newest["b1"].Complete)
	require.Len(t, got.Facts["CHAIR"].Newest["b1"].Lines, 3)
	require.True(t, got.Facts["CHAIR"].Newest["b1"].Complete)
	require.Equal(t, allocation.NewestLines{Complete: true}, got.Facts["CHAIR"].Newest["b2"])
}

// recorder notes the statements that go through it.
type recorder struct {
	batcher
	statements []string
}

func (r *recorder) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	for _, q := range b.QueuedQueries {
		r.statements = append(r.statements, q.SQL)
	}
	return r.batcher.SendBatch(ctx, b)
}

// plan is a node of EXPLAIN's output.
type plan struct {
	Kind     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Cond     string `json:"Index Cond"`
	Plans    []plan
}

func (p plan) each(visit func(plan)) {
	visit(p)
	for _, child := range p.Plans {
		child.each(visit)
	}
}

// TestPlans: every statement of a load and of a commit finds its rows by a key, whether the tables were analyzed or
// not, and although a plan may have been made while they had next to nothing. A scan would hold the partition up for as long
// as there are old orders.
func TestPlans(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
	r := &recorder{batcher: s.conn}
	_, err := load(t.Context(), r, everything("CHAIR"))
	require.NoError(t, err)
	w := filled("CHAIR", 8, 9)
	w.Products[0].Old, w.Products[0].New = 7, 8
	w.Products = append(w.Products, apply.Moved{SKU: "LAMP", New: 1}, apply.Moved{SKU: "UNKNOWN"})
	rows := &w.Changes[0]
	rows.Batches, rows.NewBatches = rows.NewBatches, nil
	rows.Lines, rows.NewLines = rows.NewLines, nil
	w.Changes = append(w.Changes, filled("LAMP", 0, 1).Changes[0])
	w.Presumed = &apply.Presumed{
		Lines: []apply.LineKey{{SKU: "CHAIR", OrderID: "out-of-stock"}},
		Seen:  []apply.SeenKey{{SKU: "CHAIR", Command: allocation.CommandID{Source: "shop", ID: "new"}}},
	}
	require.NoError(t, write(t.Context(), r, []apply.Write{w}, false))
	require.NoError(t, write(t.Context(), r, []apply.Write{{TopicID: "topic", From: 9, Next: 10, Products: []apply.Moved{{SKU: "UNKNOWN"}}}}, true))
	require.Len(t, r.statements, 6+13+2)

	check := func(when string) {
		for _, sql := range r.statements {
			results, err := s.conn.PgConn().Exec(t.Context(), "EXPLAIN (GENERIC_PLAN, FORMAT JSON) "+sql).ReadAll()
			require.NoError(t, err, sql)
			out := string(results[0].Rows[0][0])
			var explained []struct{ Plan plan }
			require.NoError(t, json.Unmarshal([]byte(out), &explained))
			explained[0].Plan.each(func(p plan) {
				require.NotEqual(t, "Seq Scan", p.Kind, "%s:\n%s\n%s", when, sql, out)
				require.NotContains(t, []string{"Hash Join", "Merge Join"}, p.Kind, "rows are touched in another order than they are named, %s:\n%s\n%s", when, sql, out)
				if p.Index != "" && p.Relation != "" {
					require.NotEmpty(t, p.Cond, "%s, all of index %s is read:\n%s\n%s", when, p.Index, sql, out)
				}
			})
		}
	}
	check("while the tables are small")
	// As autovacuum does where a few rows are updated again and again. The plan of then is kept until it comes again.
	d.exec(`ANALYZE`)
	check("while the tables are small, analyzed")
	d.exec(`INSERT INTO order_lines SELECT 'order-' || i, 'SKU-' || i % 200, 1, 'b' || i % 7, i, 'shop', 'c' || i, 0, i, now() FROM generate_series(1, 200000) i`)
	d.exec(`INSERT INTO command_seen SELECT 'SKU-' || i % 200, 'shop', 'c' || i, '\x00', 0, i, now() FROM generate_series(1, 20000) i`)
	d.exec(`INSERT INTO batches SELECT 'SKU-' || i % 2000, 'b' || i, NULL, i, 9, 9, 0 FROM generate_series(1, 20000) i`)
	d.exec(`INSERT INTO products SELECT 'SKU-' || i, 1, 0 FROM generate_series(1, 20000) i`)
	check("200,000 lines, not analyzed")
	d.exec(`ANALYZE`)
	check("200,000 lines, analyzed")

	// What is found by a key is found fast: 2,000 lines of 200,000 in well under the time that one scan each takes.
	var need apply.Need
	for i := range 2000 {
		need.Lines = append(need.Lines, apply.LineKey{SKU: fmt.Sprint("SKU-", (i+1)%200), OrderID: fmt.Sprint("order-", i+1)})
	}
	start := time.Now()
	got, err := s.Load(t.Context(), need)
	require.NoError(t, err)
	require.Len(t, got.Facts["SKU-1"].Lines, 10)
	require.Less(t, time.Since(start), 5*time.Second)
}
