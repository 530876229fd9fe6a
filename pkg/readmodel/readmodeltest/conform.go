package readmodeltest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// Store is a store that Conform holds to the contract.
type Store struct {
	// Open returns a place of the test's own on the real server, without a row in it.
	Open func(t *testing.T) Place
	// InOrder says that events reach the place once each, and in order: those that made them write it.
	InOrder bool
	// What the store keeps.
	KeepsOutcomes, KeepsBatchVersions bool
	// Ledger says that its writers are a readmodel.Ledger, and its Places can Refuse.
	Ledger bool
	// Lists says that its readers are a readmodel.Lister, HasGenerations that places have Generations.
	Lists, HasGenerations bool
}

// Place is where one test keeps and asks. Whoever opened it closes what is in it.
type Place struct {
	Writer func(t *testing.T) readmodel.Writer // another writer to the place
	Reader readmodel.Reader
	// Refuse has the store refuse whatever is about a SKU of which it has nothing yet, until it is undone.
	Refuse func(t *testing.T, sku string) (undo func())
	// Generations, of a store that has them, opens them once more, as another process does.
	Generations func(t *testing.T) readmodel.Generations
}

// Conform runs everything that a read model promises against a store. Each subtest has a place of its own.
func Conform(t *testing.T, s Store) {
	t.Run("view", s.view)
	t.Run("moves", s.moves)
	t.Run("odd ids", s.oddIDs)
	t.Run("limits", s.limits)
	t.Run("large order", s.largeOrder)
	t.Run("many keys", s.manyKeys)
	t.Run("list", s.list)
	t.Run("first outcome", s.firstOutcome)
	t.Run("any history", s.anyHistory)
	if !s.InOrder {
		t.Run("late rows", s.lateRows)
		t.Run("any order", s.anyOrder)
		t.Run("zombie", s.zombie)
		t.Run("published twice", s.publishedTwice)
	}
	t.Run("never back", s.neverBack)
	if s.Ledger {
		t.Run("ledger", s.ledger)
		t.Run("missing", s.missing)
		t.Run("refused", s.refused)
	}
	if s.HasGenerations {
		t.Run("generations", s.generations)
	}
}

// told opens a place and tells it a history in order, in small blocks.
func (s Store) told(t *testing.T, history []readmodel.Record) Place {
	t.Helper()
	p := s.Open(t)
	require.NoError(t, tellTo(t.Context(), p.Writer(t), history, 500))
	return p
}

func tellTo(ctx context.Context, w readmodel.Writer, history []readmodel.Record, blockMax int) error {
	for block := range slices.Chunk(history, blockMax) {
		if err := w.Apply(ctx, block); err != nil {
			return err
		}
	}
	return nil
}

// view is the test of the book's chapter on CQRS: an order of several SKUs, a batch that nothing is allocated to and an
// order that nobody asks about.
func (s Store) view(t *testing.T) {
	h := newStory()
	h.batch("sku1", "sku1batch", 50, "")
	h.batch("sku2", "sku2batch", 50, "2031-01-02")
	h.allocate("order1", "sku1", "sku1batch", 20)
	h.allocate("order1", "sku2", "sku2batch", 20)
	h.batch("sku1", "sku1batch-later", 50, "2031-01-02")
	h.allocate("otherorder", "sku1", "sku1batch", 30)
	h.allocate("otherorder", "sku2", "sku2batch", 10)
	p := s.told(t, h.records)

	orders, err := p.Reader.Orders(t.Context(), []string{"order1", "no order"})
	require.NoError(t, err)
	require.Equal(t, map[string][]readmodel.Allocation{"order1": {
		{SKU: "sku1", BatchRef: "sku1batch", Version: 2},
		{SKU: "sku2", BatchRef: "sku2batch", Version: 2},
	}}, orders)
	key := readmodel.LineKey{OrderID: "order1", SKU: "sku2"}
	lines, err := p.Reader.Lines(t.Context(), []readmodel.LineKey{key, {OrderID: "order1", SKU: "no sku"}})
	require.NoError(t, err)
	require.Equal(t, map[readmodel.LineKey]readmodel.Line{
		key: {OrderID: "order1", SKU: "sku2", BatchRef: "sku2batch", Qty: 20, ETA: "2031-01-02", Version: 2},
	}, lines)
	found, err := p.Reader.Availability(t.Context(), []string{"sku1"})
	require.NoError(t, err)
	require.Equal(t, []string{"sku1batch", "sku1batch-later"}, []string{found["sku1"].Batches[0].Ref, found["sku1"].Batches[1].Ref})
	require.EqualValues(t, 50, found["sku1"].Available)
	tell(h.records).require(t, s, p.Reader)
}

// moves has lines that leave a batch, come to another, come back, and an order whose lines change SKU.
func (s Store) moves(t *testing.T) {
	h := newStory()
	for _, sku := range []string{"CHAIR", "TABLE"} {
		h.batch(sku, "b1", 10, "")
		h.batch(sku, "b2", 10, "2031-01-02")
	}
	h.allocate("o1", "CHAIR", "b1", 3)
	h.deallocate("o1", "CHAIR")
	h.change("CHAIR", "b1", 2)
	h.allocate("o1", "CHAIR", "b2", 3) // the same line, elsewhere
	h.allocate("o2", "CHAIR", "b1", 2)
	h.deallocate("o2", "CHAIR")
	h.allocate("o2", "TABLE", "b1", 2) // the same order, another SKU
	h.outOfStock("o3", "CHAIR", 100)
	h.allocate("o4", "TABLE", "b1", 1)
	h.deallocate("o4", "TABLE") // and nothing of it is left
	p := s.told(t, h.records)
	orders, err := p.Reader.Orders(t.Context(), []string{"o1", "o2", "o3", "o4"})
	require.NoError(t, err)
	require.Equal(t, map[string][]readmodel.Allocation{
		"o1": {{SKU: "CHAIR", BatchRef: "b2", Version: 6}},
		"o2": {{SKU: "TABLE", BatchRef: "b1", Version: 3}},
	}, orders)
	tell(h.records).require(t, s, p.Reader)
}

// oddIDs would break a query or a key that was put together from text.
var oddIDs = []string{
	"o1", "a/b", `quote"s'`, `back\slash`, `\`, `\'`, `']`, `'], sleep(3), ['`, "{keys:String}", "a,b", "a b", "a:b", "a|b", "{a}", "{}", `\N`,
	"100%", "$1", "NULL", "Größe 🪑", "e\u0301", "\u00e9", " ", "_", "-1", "00", "0", strings.Repeat("x", 255), strings.Repeat("ü", 127),
}

func (s Store) oddIDs(t *testing.T) {
	h := newStory()
	for _, id := range oddIDs {
		h.batch(id, id, 10, "")
		h.batch("SKU", id, 10, "2031-01-02")
		h.allocate(id, id, id, 1)
		h.allocate(id, "SKU", id, 1)
		h.allocate("gone "+id, "SKU", id, 1)
		h.deallocate("gone "+id, "SKU")
		h.publish(schemas.Event{
			Type: schemas.EventCommandRejected, SKU: id, Version: 2, CommandID: id, CommandSource: "/" + id, OrderID: id, BatchRef: id,
			Last: true, Reason: "conflicting_line", Message: "Line " + id + " is allocated with another quantity",
		})
	}
	tell(h.records).require(t, s, s.told(t, h.records).Reader)
}

// limits are the largest numbers and the first and last days that a read model holds.
func (s Store) limits(t *testing.T) {
	h := newStory()
	const large = 1_000_000_000
	for i, eta := range []string{"1970-01-01", "2299-12-31", "", "2028-02-29", "2000-01-01"} {
		h.batch("MANY", fmt.Sprintf("b%d", i), large, eta)
		h.allocate(fmt.Sprintf("o%d", i), "MANY", fmt.Sprintf("b%d", i), large-int32(i))
	}
	// Numbers of 64 bits that a double would take for one another.
	h.batch("OLD", "b", 10, "")
	h.sku("OLD").version = 1<<53 - 1
	h.allocate("o1", "OLD", "b", 1)
	h.deallocate("o1", "OLD")
	h.allocate("o1", "OLD", "b", 2)
	h.sku("OLD").version = math.MaxInt64 - 3
	h.allocate("o2", "OLD", "b", 3)
	h.deallocate("o2", "OLD")
	h.allocate("o2", "OLD", "b", 4)
	want := tell(h.records)
	want.require(t, s, s.told(t, h.records).Reader)
	reversed := slices.Clone(h.records)
	slices.Reverse(reversed)
	for _, order := range [][]readmodel.Record{h.records, reversed} {
		if !s.InOrder { // one at a time, so that the store itself compares them
			p := s.Open(t)
			require.NoError(t, tellTo(t.Context(), p.Writer(t), order, 1))
			want.require(t, s, p.Reader)
		}
	}
}

func (s Store) largeOrder(t *testing.T) {
	const lines = readmodel.OrderLinesMax + 10
	h := newStory()
	for i := range lines {
		sku := fmt.Sprintf("SKU-%05d", i)
		h.batch(sku, "b", 10, "")
		h.allocate("large", sku, "b", 1)
	}
	p := s.Open(t)
	require.NoError(t, tellTo(t.Context(), p.Writer(t), h.records, 10_000))
	for _, asked := range [][]string{{"large"}, {"large", "nobody's"}} {
		orders, err := p.Reader.Orders(t.Context(), asked)
		require.NoError(t, err)
		require.Len(t, orders["large"], readmodel.OrderLinesMax+1, "one more shows that there are too many")
		require.True(t, slices.IsSortedFunc(orders["large"], func(a, b readmodel.Allocation) int { return strings.Compare(a.SKU, b.SKU) }))
	}
	found, err := p.Reader.SKUs(t.Context(), []string{"b"})
	require.NoError(t, err)
	require.Len(t, found["b"], readmodel.RefSKUsMax)
	require.Equal(t, []string{"SKU-00000", "SKU-00099"}, []string{found["b"][0], found["b"][99]})
}

// manyKeys asks about as many keys as a question may have, half of which nobody knows, and about none.
func (s Store) manyKeys(t *testing.T) {
	h := newStory()
	keys, lines := []string{}, []readmodel.LineKey{}
	for i := range readmodel.KeysMax {
		key := fmt.Sprintf("key-%03d", i)
		keys, lines = append(keys, key), append(lines, readmodel.LineKey{OrderID: key, SKU: key})
		if i%2 == 0 {
			h.batch(key, key, 10, "")
			h.allocate(key, key, key, 1)
		}
	}
	r := s.told(t, h.records).Reader
	for _, n := range []int{0, readmodel.KeysMax} {
		orders, err := r.Orders(t.Context(), keys[:n])
		require.NoError(t, err)
		require.Len(t, orders, n/2)
		single, err := r.Lines(t.Context(), lines[:n])
		require.NoError(t, err)
		require.Len(t, single, n/2)
		available, err := r.Availability(t.Context(), keys[:n])
		require.NoError(t, err)
		require.Len(t, available, n/2)
		skus, err := r.SKUs(t.Context(), keys[:n])
		require.NoError(t, err)
		require.Len(t, skus, n/2)
		if s.KeepsOutcomes {
			outcomes, err := r.Outcomes(t.Context(), keys[:n])
			require.NoError(t, err)
			require.Empty(t, outcomes)
		}
	}
	orders, err := r.Orders(t.Context(), []string{"key-000", "key-000"})
	require.NoError(t, err)
	require.Len(t, orders["key-000"], 1, "a key that is asked twice is answered once")
	lines = []readmodel.LineKey{{OrderID: "key-000", SKU: "key-002"}, {OrderID: "key-002", SKU: "key-000"}, {OrderID: "key-004", SKU: "key-004"}}
	single, err := r.Lines(t.Context(), lines)
	require.NoError(t, err)
	require.Len(t, single, 1, "an order and a SKU of two different keys are no line")
}

// list goes through all SKUs, of which each has another number of batches.
func (s Store) list(t *testing.T) {
	h := newStory()
	const skus, page, batchesMax = 100, 30, 7
	var names []string
	for i := range skus {
		name := fmt.Sprintf("sku-%03d", i)
		names = append(names, name)
		for b, eta := range []string{"2031-01-02", "", "2030-01-02"} {
			if b <= i%3 {
				h.batch(name, fmt.Sprint("batch", b), 10, eta)
			}
		}
		h.outOfStock("order", name, 1000)
	}
	p := s.told(t, h.records)
	lister, ok := p.Reader.(readmodel.Lister)
	if !ok {
		require.False(t, s.Lists, "the store can list its SKUs")
		return
	}
	require.True(t, s.Lists)
	asked, err := p.Reader.Availability(t.Context(), names)
	require.NoError(t, err)
	require.Len(t, asked, skus)
	for _, most := range []int{1, batchesMax, 3 * skus} { // with the last, nothing is cut off
		listed := map[string]readmodel.Availability{}
		for after := ""; ; {
			more, err := lister.List(t.Context(), after, page, most)
			require.NoError(t, err)
			if len(more) == 0 {
				break
			}
			after = more[len(more)-1].SKU
			batches := 0
			for _, a := range more {
				require.Less(t, batches, most, "no more SKUs once there are so many")
				require.NotContains(t, listed, a.SKU)
				listed[a.SKU] = a
				batches += len(a.Batches)
			}
			require.True(t, batches >= most || len(more) == min(page, skus-len(listed)+len(more)), "as many as there may be")
		}
		require.Equal(t, asked, listed)
	}
	first, err := lister.List(t.Context(), "sku-", 1, batchesMax)
	require.NoError(t, err)
	require.Len(t, first, 1, "the one before need not exist")
}

// firstOutcome has commands that share an id: sent twice, and by two who did not know of each other.
func (s Store) firstOutcome(t *testing.T) {
	h := newStory()
	h.batch("CHAIR", "b", 10, "")
	at := h.at
	outcome := func(kind schemas.EventType, after int, partition int32, offset int64) {
		h.publish(schemas.Event{Type: kind, SKU: "CHAIR", Version: 1, CommandID: "twice", CommandSource: kind.String(), Last: true, Message: kind.String()})
		r := &h.records[len(h.records)-1]
		r.Time, r.Partition, r.Offset = at.Add(time.Duration(after)*time.Millisecond), partition, offset
	}
	outcome(schemas.EventCommandIgnored, 2, 0, 1)
	outcome(schemas.EventCommandRejected, 1, 3, 10)
	outcome(schemas.EventCommandIgnored, 1, 2, 10)
	outcome(schemas.EventCommandRejected, 1, 2, 9)
	p := s.told(t, h.records)
	want := tell(h.records)
	require.Equal(t, "CommandRejected", want.outcomes["twice"].Type)
	want.require(t, s, p.Reader)
	if s.InOrder {
		return
	}
	slices.Reverse(h.records)
	p = s.Open(t)
	require.NoError(t, tellTo(t.Context(), p.Writer(t), h.records, 1))
	want.require(t, s, p.Reader)
}
