//go:build integration

package redis

import (
	"context"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

// A block of which only a part is written is waited for; so is one that failed half way, until it is applied again.
func TestHalfWrittenBlocksAreWaitedFor(t *testing.T) {
	cfg := newPrefix(t)
	w, g := newWriter(t, cfg), NewGenerations(cfg)
	defer g.Close()
	h := readmodeltest.New(5, 4*scriptRowsMax)
	rows := readmodel.Fold(h.Records)
	parts := partsOf(&rows.State)
	require.Greater(t, len(parts), 2)
	failing := append(parts[:1:1], []any{"row", "LAMP", "", "1", "1 2"}, []any{"line"}, parts[1])
	require.NoError(t, w.client.ZAdd(t.Context(), w.keys.applying(), goredis.Z{Member: "of one that was killed", Score: float64(time.Now().Unix() - 5)}).Err())
	require.Error(t, w.run(t.Context(), "", "half", failing, len(failing)))
	named, err := w.client.ZRange(t.Context(), w.keys.applying(), 0, -1).Result()
	require.NoError(t, err)
	require.Equal(t, []string{"half"}, named, "what is too old is not kept for ever")
	settled := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		return g.Settle(ctx) == nil
	}
	require.False(t, settled())
	require.NoError(t, w.run(t.Context(), "", "half", parts, len(parts)))
	require.True(t, settled())

	// The writer gives the block that failed the same name when it comes again.
	w.block = "half again"
	require.Error(t, w.run(t.Context(), "", w.block, failing, len(failing)))
	require.False(t, settled())
	require.NoError(t, w.Apply(t.Context(), h.Records))
	require.True(t, settled())
	require.Empty(t, w.block)
}

// A generation whose deletion was broken off is fed no more, and is in the list until it is gone.
func TestADropThatWasBrokenOff(t *testing.T) {
	cfg := newPrefix(t)
	w, g := newWriter(t, cfg), NewGenerations(cfg)
	defer g.Close()
	require.NoError(t, g.Begin(t.Context(), 2))
	h := readmodeltest.New(5, 100)
	require.NoError(t, w.Apply(t.Context(), h.Records[:50]))
	k := g.of(2)
	require.NoError(t, endScript.Run(t.Context(), w.client, []string{k.generations(), k.live(), k.marks()}, 2).Err())
	require.NoError(t, w.Apply(t.Context(), h.Records[50:]))
	all, live, err := g.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, all)
	require.Equal(t, 1, live)
	require.ErrorContains(t, g.Switch(t.Context(), 2), "there is no generation 2")
	rows := readmodel.Fold(h.Records[50:])
	require.ErrorContains(t, g.Load(t.Context(), 2, rows.Whole), "there is no generation 2")
	require.NoError(t, g.Drop(t.Context(), 2))
	names, err := w.client.Keys(t.Context(), k.rows()+"*").Result()
	require.NoError(t, err)
	require.Empty(t, names)
}

// A question that was sent before a switch, to a generation that is then gone, is put again.
func TestAQuestionOverASwitchIsPutAgain(t *testing.T) {
	cfg := newPrefix(t)
	w, g, r := newWriter(t, cfg), NewGenerations(cfg), newReader(t, cfg)
	defer g.Close()
	h := readmodeltest.New(5, 100)
	require.NoError(t, g.Begin(t.Context(), 2))
	require.NoError(t, w.Apply(t.Context(), h.Records))
	sku := h.Records[0].Event.SKU
	before, err := r.Availability(t.Context(), []string{sku})
	require.NoError(t, err)
	require.NotEmpty(t, before)
	require.NoError(t, g.Switch(t.Context(), 2))
	require.NoError(t, g.Drop(t.Context(), 1))
	after, err := r.Availability(t.Context(), []string{sku})
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, "2", *r.live.Load())
}
