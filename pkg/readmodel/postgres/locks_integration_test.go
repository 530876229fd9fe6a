//go:build integration

package postgres

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

// A process that is stopped while it begins, switches or drops a generation holds up blocks and questions for frozenMax.
func TestWhoIsStoppedInAChangeHoldsUpNobodyForLong(t *testing.T) {
	cfg := migrated(t)
	g, w, r := newGenerations(t, cfg), newWriter(t, cfg), newReader(t, cfg)
	require.Equal(t, 10*time.Second, g.frozenMax)
	g.frozenMax = time.Second
	h := readmodeltest.New(3, 100)
	require.NoError(t, w.Apply(t.Context(), h.Records[:50]))
	sku := h.Records[0].Event.SKU
	for what, change := range map[string]func(do func(pgx.Tx) error) error{
		"alone":  func(do func(pgx.Tx) error) error { return g.alone(t.Context(), "begin", do) },
		"switch": func(do func(pgx.Tx) error) error { return g.change(t.Context(), "switch", "", switchLockWait, do) },
	} {
		t.Run(what, func(t *testing.T) {
			err := change(func(tx pgx.Tx) error {
				if err := run(t.Context(), tx, viewsSQL, 1); err != nil {
					return err
				}
				// It does nothing any more, as if it had got a SIGSTOP. Others come:
				ctx, cancel := context.WithTimeout(t.Context(), 8*g.frozenMax)
				defer cancel()
				_, err := r.Availability(ctx, []string{sku}) // waits for the view, 5 s at the most
				require.NoError(t, err)
				require.NoError(t, w.Apply(ctx, h.Records[50:]))
				return nil
			})
			require.ErrorContains(t, err, "25P03", "Postgres ended its transaction")
		})
	}
}

// A dump has the list of generations and their tables for an hour. Nothing but the end of one of them waits for it, in turns,
// and no block.
func TestADumpHoldsUpNoBlocks(t *testing.T) {
	cfg := migrated(t)
	g, w, h := newGenerations(t, cfg), newWriter(t, cfg), readmodeltest.New(3, 200)
	require.NoError(t, g.Begin(t.Context(), 2))
	dump, err := connect(t, cfg).Begin(t.Context())
	require.NoError(t, err)
	_, err = dump.Exec(t.Context(), "LOCK TABLE generations, order_lines_g1, order_lines_g2 IN ACCESS SHARE MODE")
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, g.Settle(ctx))
	began := make(chan error, 1)
	go func() { began <- g.Begin(ctx, 3) }()
	require.NoError(t, w.Apply(ctx, h.Records[:100]))
	require.NoError(t, <-began)

	dropped := make(chan error, 1)
	go func() { dropped <- g.Drop(t.Context(), 2) }()
	awaitLock(t, cfg, "order_lines_g2")
	require.NoError(t, w.Apply(ctx, h.Records[100:]))
	require.Empty(t, dropped)
	require.NoError(t, dump.Commit(t.Context()))
	require.NoError(t, <-dropped)
	all, live, err := g.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{1, 3}, all)
	require.Equal(t, 1, live)
}

// A block that had to wait for Begin reads the list after it, and not from a snapshot of before: not where the server would
// have one snapshot for a transaction, either.
func TestABlockThatWaitedForBeginIsInTheNewGeneration(t *testing.T) {
	cfg := migrated(t)
	g := newGenerations(t, cfg)
	at, err := url.Parse(cfg.URL)
	require.NoError(t, err)
	params := at.Query()
	params.Set("default_transaction_isolation", "serializable")
	at.RawQuery = params.Encode()
	w, applied := newWriter(t, Config{URL: at.String(), Schema: cfg.Schema}), make(chan error, 1)
	require.NoError(t, g.alone(t.Context(), "begin", func(tx pgx.Tx) error {
		go func() { applied <- w.Apply(t.Context(), readmodeltest.New(3, 100).Records) }()
		for waits := false; !waits; {
			select {
			case err := <-applied:
				require.FailNow(t, "it did not wait", err)
			default:
			}
			require.NoError(t, tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND objid = 'generations'::regclass)`).Scan(&waits))
		}
		return begin(t.Context(), tx, 2)
	}))
	require.NoError(t, <-applied)
	var lines int
	require.NoError(t, connect(t, cfg).QueryRow(t.Context(), "SELECT count(*) FROM order_lines_g2").Scan(&lines))
	require.NotZero(t, lines)
}
