//go:build integration

package cluster

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

// While a host is away nothing is begun, switched, ended or forgotten; once it is back each goes on.
func TestAHostThatIsAwayStopsWhatChangesTables(t *testing.T) {
	d := newDatabase(t)
	h := readmodeltest.New(7, 600)
	g, w := d.generations(0), d.writer(0)
	require.NoError(t, g.Begin(t.Context(), 2))
	apply(t, w, h.Records)
	require.NoError(t, hosts[1].Kill())
	sku := h.Records[0].Event.SKU
	errs := map[string]error{
		"begin": g.Begin(t.Context(), 3), "settle": g.Settle(t.Context()), "switch": g.Switch(t.Context(), 2), "drop": g.Drop(t.Context(), 2),
		"forget": w.Forget(t.Context(), []string{sku}, map[int32]int64{}),
	}
	require.NoError(t, hosts[1].Restart(context.WithoutCancel(t.Context())))
	for what, err := range errs {
		require.ErrorContains(t, err, hosts[1].Addr, what)
	}
	d.requireLive(1)
	d.requireReadModel(h) // nothing was forgotten
	d.requireList(1, 1, 2, 3)
	require.NoError(t, g.Drop(t.Context(), 3))
	require.Empty(t, d.named("_g3"))
	require.NoError(t, g.Switch(t.Context(), 2))
	require.NoError(t, g.Drop(t.Context(), 1))
	d.requireLive(2)
	d.requireReadModel(h)
}

// A host that was restarted while a generation was filled is asked over a new connection, not over that which it has closed.
func TestAHostThatWasRestartedIsAskedAgain(t *testing.T) {
	d := newDatabase(t)
	g := d.generations(0)
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NoError(t, hosts[1].Kill())
	require.NoError(t, hosts[1].Restart(context.WithoutCancel(t.Context())))
	require.NoError(t, g.Settle(t.Context()))
	require.NoError(t, g.Switch(t.Context(), 2))
	d.requireLive(2)
}
