package rebuild

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// switched is a store that is asked from generation 2, with the first still there.
type switched struct {
	readmodel.Generations
	marks map[string]string
	back  bool // it is asked from generation 1
}

func (*switched) Name() string { return "store" }
func (s *switched) List(context.Context) ([]int, int, error) {
	if s.back {
		return []int{1, 2}, 1, nil
	}
	return []int{1, 2}, 2, nil
}

func (s *switched) Switch(_ context.Context, generation int) error {
	s.back = generation == 1
	return nil
}

func (s *switched) Mark(_ context.Context, generation int, name, value string) error {
	if generation == 2 {
		s.marks[name] = value
	}
	return nil
}

func (s *switched) Marks(_ context.Context, generation int) (map[string]string, error) {
	if generation == 2 {
		return s.marks, nil
	}
	return nil, nil
}

// notes is a writer's ledger.
type notes struct {
	readmodel.Writer
	readmodel.Ledger
	noted []readmodel.Aside
}

func (n *notes) Asides(context.Context, readmodel.Aside, int) ([]readmodel.Aside, int, error) {
	return slices.Clone(n.noted), len(n.noted), nil
}

func (n *notes) SetAside(_ context.Context, what []readmodel.Aside) error {
	n.noted = append(n.noted, what...)
	return nil
}

func (n *notes) Returned(_ context.Context, what []readmodel.Aside) error {
	for _, a := range what {
		n.noted = slices.DeleteFunc(n.noted, func(b readmodel.Aside) bool {
			return a.What == b.What && a.SKU == b.SKU && a.Version == b.Version && a.EventID == b.EventID
		})
	}
	return nil
}

// What generation 2 makes up for is what the first one lacks: it is noted while readers are answered from that.
func TestWhatARollbackLacksIsNotedAgain(t *testing.T) {
	lacked := readmodel.Aside{What: readmodel.AsideRefused, SKU: "CHAIR", Version: 5, EventID: "e-5", Reason: "why", Event: "{}"}
	store, writer := &switched{marks: map[string]string{markSwitched: ""}}, &notes{noted: []readmodel.Aside{lacked}}
	r := &rebuild{Options: Options{Store: store, Writer: writer}}
	lacking, err := r.lacking(t.Context())
	require.NoError(t, err)
	require.NoError(t, store.Mark(t.Context(), 2, markLacking, lacking))
	require.NoError(t, r.returned(t.Context(), 2))
	require.Empty(t, writer.noted)
	for range 2 {
		to, err := Back(t.Context(), store, writer)
		require.NoError(t, err)
		require.Equal(t, 1, to)
		require.Len(t, writer.noted, 1)
		require.Equal(t, "e-5", writer.noted[0].EventID)
		require.Contains(t, writer.noted[0].Reason, "generation 1, which readers are answered from again")
		to, err = Back(t.Context(), store, writer)
		require.NoError(t, err)
		require.Equal(t, 2, to)
		require.Empty(t, writer.noted)
	}
}

// A rebuild lists what is lacking and compares. An event of the same SKU is refused. The rebuild switches and dies, before it takes
// the notes back. The next run, though it can make no generation, takes back those that were compared and no other, once.
func TestNotesAreTakenBackByTheRunAfterOneThatDied(t *testing.T) {
	compared := readmodel.Aside{What: readmodel.AsideRefused, SKU: "CHAIR", Version: 5, EventID: "e-5", Reason: "why", Event: "{}"}
	later := readmodel.Aside{What: readmodel.AsideRefused, SKU: "CHAIR", Version: 9, EventID: "e-9", Reason: "why", Event: "{}"}
	store, writer := &switched{marks: map[string]string{}}, &notes{noted: []readmodel.Aside{compared}}
	died := &rebuild{Options: Options{Store: store, Writer: writer}}
	lacking, err := died.lacking(t.Context())
	require.NoError(t, err)
	writer.noted = append(writer.noted, later)
	require.NoError(t, store.Mark(t.Context(), 2, markLacking, lacking))

	run := func() {
		_, err := Run(t.Context(), Options{Store: store, Writer: writer}, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "generation 1 of store is still there beside the live one, 2")
	}
	run()
	require.Equal(t, []readmodel.Aside{later}, writer.noted)
	writer.noted = append(writer.noted, compared) // it is refused once more
	run()
	require.Equal(t, []readmodel.Aside{later, compared}, writer.noted)
}
