//go:build integration

package postgres

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// TestRoundTrip: every kind of row comes back as it was written, and an update overwrites the whole of it. The
// database's own date style must not matter.
func TestRoundTrip(t *testing.T) {
	d := newDatabase(t)
	d.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = ''German''', current_database()); END $$`)
	s := d.store(time.Minute)
	w := filled("CHAIR", 0, 8)
	require.NoError(t, s.Commit(t.Context(), w))
	check := func(w apply.Write) {
		t.Helper()
		got, err := s.Load(t.Context(), everything("CHAIR"))
		require.NoError(t, err)
		rows := w.Changes[0]
		require.Len(t, got.Products, 1)
		require.Equal(t, "CHAIR", got.Products[0].SKU)
		require.Equal(t, w.Products[0].New, got.Products[0].Version)
		batches, lines := slices.Concat(rows.NewBatches, rows.Batches), slices.Concat(rows.NewLines, rows.Lines)
		require.ElementsMatch(t, batches, got.Products[0].Open)
		facts := utc(got.Facts["CHAIR"])
		require.ElementsMatch(t, lines, facts.Lines)
		require.Subset(t, facts.Batches, batches)
		require.Equal(t, rows.Seen, facts.Seen)
		require.Equal(t, allocation.NewestLines{Lines: []allocation.Line{lines[2], lines[1], lines[0]}, Complete: true}, facts.Newest["b1"])
	}
	check(w)

	w.From, w.Next = 8, 9
	w.Products[0] = apply.Moved{SKU: "CHAIR", Old: 7, New: 9, Available: 93}
	rows := &w.Changes[0]
	rows.NewBatches, rows.Batches, rows.NewLines, rows.Lines = nil, rows.NewBatches, nil, rows.NewLines
	rows.Batches[1].Qty, rows.Batches[1].Available = 91, 90
	for i := range rows.Lines {
		l := &rows.Lines[i]
		l.Qty++
		l.AllocatedVersion += 10
		l.Command.ID += "-again"
		l.Position.Offset += 100
		l.CommandTime = l.CommandTime.Add(time.Hour)
	}
	rows.Batches[0].Qty = 13
	rows.Seen[0].Body, rows.Seen[0].Time = [16]byte{9}, at.Add(time.Hour)
	w.Segments = []outbox.Segment{{First: 8, Next: 9, Data: []byte{4}}}
	require.NoError(t, s.Commit(t.Context(), w))
	check(w)

	var available int64
	d.row(`SELECT available FROM products`, &available)
	require.EqualValues(t, 93, available)
	next, err := s.NextOffset(t.Context(), "topic", 0)
	require.NoError(t, err)
	require.EqualValues(t, 9, next)
	standing, err := s.Standing(t.Context(), []int32{0, 1, 7})
	require.NoError(t, err)
	require.Equal(t, map[int32]Position{0: {TopicID: "topic", NextOffset: 9}, 1: {TopicID: "topic"}}, standing)
	next, err = s.NextOffset(t.Context(), "topic", 7)
	require.NoError(t, err, "a partition without a row must not look like an outage: it would be waited out for ever")
	require.EqualValues(t, -1, next)
}

// TestLoadOfWhatIsNotThere: an empty need asks nothing, unknown SKUs have no product, full batches are not open.
func TestLoadOfWhatIsNotThere(t *testing.T) {
	s := newDatabase(t).store(time.Minute)
	got, err := s.Load(t.Context(), apply.Need{})
	require.NoError(t, err)
	require.Equal(t, apply.Loaded{}, got)
	got, err = s.Load(t.Context(), everything("CHAIR"))
	require.NoError(t, err)
	require.Empty(t, got.Products)
	require.Empty(t, got.Facts["CHAIR"].Lines)

	w := filled("CHAIR", 0, 8)
	w.Changes[0].NewBatches[0].Available = 0
	require.NoError(t, s.Commit(t.Context(), w))
	got, err = s.Load(t.Context(), apply.Need{Products: []string{"CHAIR"}, Lines: []apply.LineKey{{SKU: "CHAIR", OrderID: "o1"}}})
	require.NoError(t, err)
	require.Equal(t, w.Changes[0].NewBatches[1:], got.Products[0].Open)
	require.Equal(t, w.Changes[0].NewBatches[:1], got.Facts["CHAIR"].Batches, "a line comes with its batch, open or not")
}

// TestSeveralPartitionsAreOneCommit: what partitions write together is what they would write one after the other, all of it or
// nothing, and SKUs are locked in key order over all of them.
func TestSeveralPartitionsAreOneCommit(t *testing.T) {
	apart, d := newDatabase(t), newDatabase(t)
	writes := func() []apply.Write {
		first, second := filled("CHAIR", 0, 8), filled("ARMCHAIR", 0, 8)
		second.Partition = 1
		return []apply.Write{first, second}
	}
	in := apart.store(time.Minute)
	for _, w := range writes() {
		require.NoError(t, in.Commit(t.Context(), w))
	}
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), writes()...))
	require.Equal(t, apart.contents(), d.contents())

	again := func() []apply.Write {
		ws := writes()
		for i := range ws {
			ws[i].From, ws[i].Next, ws[i].Changes, ws[i].Segments = 8, 9, nil, nil
			ws[i].Products[0].Old, ws[i].Products[0].New = 7, 8
		}
		return ws
	}
	refused := again()
	refused[1].From = 7
	before := d.contents()
	require.ErrorIs(t, s.Commit(t.Context(), refused...), apply.ErrRefused)
	require.Equal(t, before, d.contents())

	holder, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	defer holder.Close(context.Background())
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM products WHERE sku = 'ARMCHAIR' FOR UPDATE")
	require.NoError(t, err)
	committed := make(chan error, 1)
	go func() { committed <- s.Commit(t.Context(), again()...) }()
	d.awaitWaiter("for ARMCHAIR")
	d.exec("SELECT FROM products WHERE sku = 'CHAIR' FOR UPDATE NOWAIT")
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-committed)
}

// TestPartitionsAreLockedInOrder is of who wakes after a takeover: it fetched partition 1 first, its successor partition 0.
func TestPartitionsAreLockedInOrder(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	first, second := filled("CHAIR", 0, 8), filled("ARMCHAIR", 0, 8)
	second.Partition = 1
	holder, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	defer holder.Close(context.Background())
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM partitions WHERE partition = 0 FOR UPDATE")
	require.NoError(t, err)
	committed := make(chan error, 1)
	go func() { committed <- s.Commit(t.Context(), second, first) }()
	d.awaitWaiter("for partition 0")
	d.exec("SELECT FROM partitions WHERE partition = 1 FOR UPDATE NOWAIT")
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-committed)
}

// TestRefusals: whatever moved, the commit is refused, nothing of it remains, and the connection goes on.
func TestRefusals(t *testing.T) {
	moved := func(sku string, from, to uint64) []apply.Moved { return []apply.Moved{{SKU: sku, Old: from, New: to}} }
	for name, change := range map[string]func(*apply.Write){
		"the partition is further":        func(w *apply.Write) { w.From = 7 },
		"the partition is not so far":     func(w *apply.Write) { w.From = 9; w.Next = 10 },
		"the partition is unknown":        func(w *apply.Write) { w.Partition = 99 },
		"the SKU was changed":             func(w *apply.Write) { w.Products = moved("CHAIR", 6, 8) },
		"the SKU was created by another":  func(w *apply.Write) { w.Products = moved("CHAIR", 0, 8) },
		"the SKU is gone":                 func(w *apply.Write) { w.Products = moved("LAMP", 7, 8) },
		"a SKU only read was changed":     func(w *apply.Write) { w.Products = moved("CHAIR", 6, 6) },
		"a SKU found unknown was created": func(w *apply.Write) { w.Products = moved("CHAIR", 0, 0) },
		"a SKU only read is gone":         func(w *apply.Write) { w.Products = moved("LAMP", 7, 7) },
		"one of several SKUs was changed": func(w *apply.Write) {
			w.Products = append(moved("CHAIR", 7, 8), apply.Moved{SKU: "TABLE", Old: 3, New: 4})
		},
		"one appeared, another disappeared": func(w *apply.Write) {
			w.Products = append(moved("CHAIR", 0, 0), apply.Moved{SKU: "LAMP", Old: 7, New: 7})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			s := d.store(time.Minute)
			require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
			before, conn := d.contents(), s.conn

			w := filled("CHAIR", 8, 9)
			w.Products = moved("CHAIR", 7, 8)
			w.Changes[0].NewLines[0].OrderID = "o99"
			change(&w)
			require.ErrorIs(t, s.Commit(t.Context(), w), apply.ErrRefused)
			require.Equal(t, before, d.contents())
			require.Same(t, conn, s.conn, "a refusal is an answer, not a broken connection")

			w = filled("CHAIR", 8, 9)
			w.Products, w.Changes = moved("CHAIR", 7, 8), nil
			require.NoError(t, s.Commit(t.Context(), w))
		})
	}
}

// TestWhatIsPresumedNotToBeThere: if it is there, the write is refused like one whose versions moved; if not, it is written.
func TestWhatIsPresumedNotToBeThere(t *testing.T) {
	line := func(order string) []apply.LineKey { return []apply.LineKey{{SKU: "CHAIR", OrderID: order}} }
	seen := func(source, id string) []apply.SeenKey {
		return []apply.SeenKey{{SKU: "CHAIR", Command: allocation.CommandID{Source: source, ID: id}}}
	}
	for name, c := range map[string]struct {
		presumed apply.Presumed
		inserted string
		held     bool
	}{
		"nothing of it is there":                 {apply.Presumed{Lines: line("o98"), Seen: seen("shop", "c99")}, "o99", true},
		"an id of another source":                {apply.Presumed{Seen: seen("till", "c4")}, "o99", true},
		"its own line and id":                    {apply.Presumed{Seen: seen("shop", "c99")}, "o99", true},
		"a line that it inserts":                 {apply.Presumed{}, "o1", false},
		"a line without a batch that it inserts": {apply.Presumed{}, "o4", false},
		"a line that it does not insert":         {apply.Presumed{Lines: line("o4")}, "o99", false},
		"an id":                                  {apply.Presumed{Seen: seen("shop", "c4")}, "o99", false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			s := d.store(time.Minute)
			require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
			before, conn := d.contents(), s.conn

			w := filled("CHAIR", 8, 9)
			w.Products = []apply.Moved{{SKU: "CHAIR", Old: 7, New: 8, Available: 94}}
			rows := &w.Changes[0].Changes
			rows.NewBatches, rows.NewLines = nil, rows.NewLines[:1]
			rows.NewLines[0].OrderID, rows.Seen[0].Command.ID = c.inserted, "c99"
			w.Presumed = &c.presumed
			err := s.Commit(t.Context(), w)
			if c.held {
				require.NoError(t, err)
				require.NotEqual(t, before, d.contents())
				return
			}
			require.ErrorIs(t, err, apply.ErrRefused)
			require.NotErrorIs(t, err, apply.ErrBroken)
			require.Equal(t, before, d.contents())
			require.Same(t, conn, s.conn, "a refusal is an answer, not a broken connection")

			w.Presumed, rows.NewLines[0].OrderID = nil, "o99"
			require.NoError(t, s.Commit(t.Context(), w))
		})
	}
}

// TestCommitOfAnEmptyChunk: offsets without commands (markers of transactions) move the partition alone.
func TestCommitOfAnEmptyChunk(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), apply.Write{TopicID: "topic", From: 0, Next: 3, Segments: []outbox.Segment{{First: 0, Next: 3, Data: []byte{1}}}}))
	next, err := s.NextOffset(t.Context(), "topic", 0)
	require.NoError(t, err)
	require.EqualValues(t, 3, next)
}

// TestLastLineOfDefence: what the domain must never ask for, the tables refuse.
func TestLastLineOfDefence(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*apply.Write)
		sqlstate string
	}{
		"overselling":             {func(w *apply.Write) { w.Changes[0].NewBatches[0].Available = -1 }, "23514"},
		"more available than had": {func(w *apply.Write) { w.Changes[0].NewBatches[0].Available = 11 }, "23514"},
		"negative stock":          {func(w *apply.Write) { w.Products[0].Available = -1 }, "23514"},
		"a line in two batches": {func(w *apply.Write) {
			w.Changes[0].NewLines = append(w.Changes[0].NewLines, w.Changes[0].NewLines[0])
			w.Changes[0].NewLines[4].BatchRef = "b2"
		}, "23505"},
		"a line that is gone": {func(w *apply.Write) { w.Changes[0].Lines = w.Changes[0].NewLines[:1]; w.Changes[0].NewLines = nil }, "23000"},
		"a batch that is gone": {func(w *apply.Write) {
			w.Changes[0].Batches = w.Changes[0].NewBatches[:1]
			w.Changes[0].NewBatches = nil
		}, "23000"},
		"an offset decided twice": {func(w *apply.Write) {
			w.Segments = append(w.Segments, w.Segments[0])
		}, "23505"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			s := d.store(time.Minute)
			before := d.contents()
			w := filled("CHAIR", 0, 8)
			c.change(&w)
			err := s.Commit(t.Context(), w)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			require.Equal(t, c.sqlstate, pg.Code)
			require.ErrorIs(t, err, apply.ErrBroken)
			require.Equal(t, before, d.contents())
		})
	}
	t.Run("a second row for a line", func(t *testing.T) {
		d := newDatabase(t)
		s := d.store(time.Minute)
		require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
		_, err := s.conn.Exec(t.Context(), `INSERT INTO order_lines SELECT orderid, sku, qty, 'b2', allocated_version,
			command_source, command_id, command_partition, command_offset, command_time FROM order_lines WHERE orderid = 'o1'`)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		require.Equal(t, "23505", pg.Code)
		require.Equal(t, "order_lines_pkey", pg.ConstraintName)
	})
}
