//go:build integration

// Package readmodels holds the read model that is no projection to the contract of all: pkg/readmodel/writeside asks the
// allocator's own tables.
//
// It imports the contract's suite, the store, and the allocator's root for its migrations.
package readmodels

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/pkg/readmodel/writeside"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/stack"
)

// The write side is asked as the gateway asks it, by a user who has the role lotline_gateway and nothing else.
func TestConforms(t *testing.T) {
	readmodeltest.Conform(t, readmodeltest.Store{InOrder: true, Lists: true, Open: func(t *testing.T) readmodeltest.Place {
		owner, gateway := writeSide(t)
		r, err := writeside.NewReader(postgresclient.Settings{PostgresURL: gateway}, 5*time.Second)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		require.NoError(t, r.Check(t.Context()))
		return readmodeltest.Place{Reader: r, Writer: func(t *testing.T) readmodel.Writer {
			conn, err := pgx.Connect(t.Context(), owner)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
			return decided{Conn: conn}
		}}
	}})
}

func TestCheckSaysWhoMayAsk(t *testing.T) {
	owner, gateway := writeSide(t)
	conn, err := pgx.Connect(t.Context(), owner)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "REVOKE SELECT ON batches FROM lotline_gateway")
	require.NoError(t, err)
	r, err := writeside.NewReader(postgresclient.Settings{PostgresURL: gateway}, 5*time.Second)
	require.NoError(t, err)
	defer r.Close()
	require.ErrorContains(t, r.Check(t.Context()), "the role lotline_gateway")
}

// writeSide returns the URLs of an allocator's database, for its owner and for a gateway.
func writeSide(t *testing.T) (owner, gateway string) {
	t.Helper()
	owner = postgrestest.Database(t)
	warning, err := allocator.Migrate(t.Context(), owner)
	require.NoError(t, err)
	require.Empty(t, warning)
	u, err := url.Parse(owner)
	require.NoError(t, err)
	user := "user_" + u.Path[1:] + "_gateway"
	gateway, err = stack.Login(t.Context(), owner, user, "lotline_gateway")
	require.NoError(t, err)
	t.Cleanup(func() { postgrestest.Exec(t, "DROP ROLE IF EXISTS "+user) })
	return owner, gateway
}

// decided writes what an allocator has decided into its tables, as the allocator does: services/allocator/internal/postgres
// says how. The projection of the same events must then say the same.
type decided struct{ *pgx.Conn }

func (decided) Name() string                { return "allocator" }
func (decided) Check(context.Context) error { return nil }
func (decided) Close() error                { return nil }

func (d decided) Apply(ctx context.Context, records []readmodel.Record) error {
	b := &pgx.Batch{}
	for i := range records {
		e := &records[i].Event
		if !e.Type.ChangesState() {
			continue
		}
		b.Queue(`INSERT INTO products (sku, version, available) VALUES ($1, $2, $3)
			ON CONFLICT (sku) DO UPDATE SET version = excluded.version, available = excluded.available`, e.SKU, int64(e.Version), e.Available)
		if e.BatchRef != "" {
			b.Queue(`INSERT INTO batches (sku, ref, eta, created_version, created_qty, qty, allocated)
				VALUES ($1, $2, nullif($3, '')::date, $4, $5, $5, $6)
				ON CONFLICT (sku, ref) DO UPDATE SET qty = excluded.qty, allocated = excluded.allocated`,
				e.SKU, e.BatchRef, e.ETA, int64(e.Version), e.BatchQty, e.BatchQty-e.BatchAvailable)
		}
		if e.Type != schemas.EventAllocated && e.Type != schemas.EventDeallocated {
			continue
		}
		ref, version := e.BatchRef, int64(e.Version)
		if e.Type == schemas.EventDeallocated {
			ref = ""
		}
		b.Queue(`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version,
				command_source, command_id, command_partition, command_offset, command_time)
			VALUES ($1, $2, $3, nullif($4, ''), $5, '', $6, 0, 0, $7)
			ON CONFLICT (orderid, sku) DO UPDATE SET qty = excluded.qty, batchref = excluded.batchref,
				allocated_version = CASE WHEN excluded.batchref IS NULL THEN order_lines.allocated_version ELSE excluded.allocated_version END`,
			e.OrderID, e.SKU, e.Qty, ref, version, e.CommandID, records[i].Time)
	}
	return d.SendBatch(ctx, b).Close()
}
