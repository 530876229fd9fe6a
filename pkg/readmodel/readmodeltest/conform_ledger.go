package readmodeltest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// The scenarios of what a store lacks: it is noted, named by whoever projects next, and taken back.

func (p Place) ledger(t *testing.T) readmodel.Ledger {
	t.Helper()
	ledger, ok := p.Writer(t).(readmodel.Ledger)
	require.True(t, ok, "the writer is no ledger")
	return ledger
}

func (s Store) ledger(t *testing.T) {
	p := s.Open(t)
	records := New(3, 10).Records
	var asides []readmodel.Aside
	for i, sku := range []string{"B'ED", "CHAIR", "CHAIR", "CHAIR 2"} { // 9 comes before 10
		asides = append(asides, readmodel.Aside{
			What: readmodel.AsideRefused, SKU: sku, Version: uint64(8 + i), EventID: records[i].ID, Reason: "why", Event: `{"a":"b"}`,
			Time: records[i].Time, Partition: 3, Offset: int64(i),
		})
	}
	asides[1].What, asides[1].EventID, asides[1].Event = readmodel.AsideMissing, "", ""
	require.Equal(t, []uint64{9, 10}, []uint64{asides[1].Version, asides[2].Version})
	for range 2 { // noted again, by another, it is the same
		require.NoError(t, p.ledger(t).SetAside(t.Context(), asides))
		noted, all, err := p.ledger(t).Asides(t.Context(), readmodel.Aside{}, 2)
		require.NoError(t, err)
		require.Equal(t, len(asides), all)
		require.Equal(t, asides[:2], noted)
	}
	// A note is taken back by itself: of the others some differ from it in one thing alone, and one was made by somebody
	// else after the notes had been read.
	ledger := p.ledger(t)
	listed, _, err := ledger.Asides(t.Context(), readmodel.Aside{}, 9)
	require.NoError(t, err)
	other, newer := asides[2], asides[2]
	other.EventID = records[4].ID
	newer.Version, newer.EventID = 19, records[5].ID
	refused := asides[1]
	refused.What = readmodel.AsideRefused
	require.NoError(t, p.ledger(t).SetAside(t.Context(), []readmodel.Aside{other, newer, refused}))
	left := func(want ...readmodel.Aside) {
		t.Helper()
		noted, all, err := ledger.Asides(t.Context(), readmodel.Aside{}, 9)
		require.NoError(t, err)
		require.Equal(t, len(want), all)
		require.ElementsMatch(t, want, noted)
	}
	require.NoError(t, ledger.Returned(t.Context(), []readmodel.Aside{listed[2], {What: readmodel.AsideRefused, SKU: "none", Version: 1}}))
	left(asides[0], asides[1], asides[3], other, newer, refused)
	inPages(t, ledger, asides[0], asides[1], refused, other, newer, asides[3])
	require.NoError(t, ledger.Returned(t.Context(), nil))
	require.NoError(t, ledger.Returned(t.Context(), listed))
	left(other, newer, refused)
	require.NoError(t, ledger.Returned(t.Context(), []readmodel.Aside{other, newer, refused}))
	left()
}

// inPages asks for notes some at a time, as far as they go. Each comes once, in the order of SKU, version, event id and kind.
func inPages(t *testing.T, ledger readmodel.Ledger, want ...readmodel.Aside) {
	t.Helper()
	for _, most := range []int{1, 2, len(want)} {
		var got []readmodel.Aside
		var after readmodel.Aside
		for {
			noted, all, err := ledger.Asides(t.Context(), after, most)
			require.NoError(t, err)
			require.Equal(t, len(want), all)
			require.LessOrEqual(t, len(noted), most)
			got = append(got, noted...)
			if len(noted) < most {
				break
			}
			after = noted[len(noted)-1]
		}
		require.Equal(t, want, got, "%d at a time", most)
	}
}

// missing: the newest version of a SKU is there. One that nobody wrote is missing, and so is every one of a SKU that is not known.
func (s Store) missing(t *testing.T) {
	h := newStory()
	h.batch("CHAIR", "b1", 10, "")
	h.allocate("o1", "CHAIR", "b1", 3)
	p := s.told(t, h.records)
	there := readmodel.Aside{What: readmodel.AsideMissing, SKU: "CHAIR", Version: 2, Time: h.records[1].Time}
	never, ghost := there, there
	never.Version, ghost.SKU = 100_000, "GHOST"
	missing, err := p.ledger(t).Missing(t.Context(), []readmodel.Aside{there, never, ghost}, h.records[0].Time)
	require.NoError(t, err)
	require.Equal(t, []readmodel.Aside{never, ghost}, missing)
}

// refused: the store says that it is what is in the events, not that it is away, takes others, and these once nothing
// speaks against them.
func (s Store) refused(t *testing.T) {
	h := newStory()
	h.batch("CHAIR", "b1", 10, "")
	h.batch("BED", "b1", 10, "")
	p := s.Open(t)
	w := p.Writer(t)
	undo := p.Refuse(t, "BED")
	refused := new(readmodel.RefusedError)
	require.ErrorAs(t, w.Apply(t.Context(), h.records), &refused)
	require.ErrorAs(t, w.Apply(t.Context(), h.records[1:]), &refused)
	require.NoError(t, w.Apply(t.Context(), h.records[:1]))
	undo()
	require.NoError(t, w.Apply(t.Context(), h.records))
	tell(h.records).require(t, s, p.Reader)
}
