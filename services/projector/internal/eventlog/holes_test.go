package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// keeper is a store that knows which versions it has.
type keeper struct{ picky }

var _ readmodel.Ledger = (*keeper)(nil)

func newKeeper() *keeper {
	return &keeper{picky{sink: newSink(), refuses: func(string) bool { return false }}}
}

func (k *keeper) Missing(_ context.Context, of []readmodel.Aside, _ time.Time) ([]readmodel.Aside, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(of), func(a readmodel.Aside) bool {
		return slices.Contains(k.received, fmt.Sprintf("%s/%d", a.SKU, a.Version))
	}), nil
}

func (k *keeper) Returned(_ context.Context, what []readmodel.Aside) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noted = slices.DeleteFunc(k.noted, func(a readmodel.Aside) bool { return slices.Contains(what, a) })
	return nil
}

func (k *keeper) missingNow() (what []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range k.noted {
		what = append(what, fmt.Sprintf("%s %s/%d", a.What, a.SKU, a.Version))
	}
	return what
}

// say appends events of a SKU; their ids are SKU/version, and of an outcome that changes nothing that and "=".
func (b *broker) say(partition int32, sku string, versions ...int) {
	b.t.Helper()
	for _, v := range versions {
		kind, id := schemas.EventOutOfStock, fmt.Sprintf("%s/%d", sku, v)
		if v < 0 {
			kind, v, id = schemas.EventCommandRejected, -v, fmt.Sprintf("%s/%d=", sku, -v)
		}
		r := event(partition, id)
		e := schemas.Event{Type: kind, SKU: sku, Version: uint64(v), CommandID: id, OrderID: "o1", Qty: 1, Last: true}
		if kind == schemas.EventCommandRejected {
			e.Reason, e.Message = "conflicting_line", "The line has another quantity"
		}
		r.Key, r.Value = []byte(sku), schemas.AppendEvent(nil, &e)
		retype(r, "lotline.event.v1."+kind.String())
		require.NoError(b.t, b.plain.ProduceSync(b.t.Context(), r).FirstErr())
	}
}

// meanwhile is a store that, while it is asked what is missing, gets another note of the SKU from another projector.
type meanwhile struct{ *keeper }

func (m meanwhile) Missing(ctx context.Context, of []readmodel.Aside, since time.Time) ([]readmodel.Aside, error) {
	m.mu.Lock()
	m.noted = append(m.noted, readmodel.Aside{What: readmodel.AsideMissing, SKU: "BED", Version: 8})
	m.mu.Unlock()
	return m.keeper.Missing(ctx, of, since)
}

func TestANoteThatIsMadeMeanwhileStays(t *testing.T) {
	k := newKeeper()
	k.received = []string{"BED/3"}
	k.noted = []readmodel.Aside{{What: readmodel.AsideMissing, SKU: "BED", Version: 3}}
	(&Consumer{writer: meanwhile{k}, log: slog.New(slog.DiscardHandler)}).lookForMissing(t.Context())
	require.Equal(t, []string{"missing BED/8"}, k.missingNow())
}

// Of more notes than are looked at in one go, the last are looked at too, in their turn, and then the first once more.
func TestEachOfManyNotesIsLookedAt(t *testing.T) {
	k := newKeeper()
	for version := range holesMax + 1 {
		k.noted = append(k.noted, readmodel.Aside{What: readmodel.AsideMissing, SKU: "BED", Version: uint64(version + 1)})
	}
	c := &Consumer{writer: k, log: slog.New(slog.DiscardHandler)}
	last := fmt.Sprintf("missing BED/%d", holesMax+1)
	k.received = []string{fmt.Sprintf("BED/%d", holesMax+1)}
	c.lookForMissing(t.Context())
	require.True(t, slices.Contains(k.missingNow(), last), "so many are not looked at in one go")
	c.lookForMissing(t.Context())
	require.False(t, slices.Contains(k.missingNow(), last))
	k.received = []string{"BED/1", fmt.Sprintf("BED/%d", holesMax)}
	c.lookForMissing(t.Context())
	require.Len(t, k.missingNow(), holesMax-2)
}

func (k *keeper) waitMissing(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func() bool { return slices.Equal(k.missingNow(), want) }, func() string { return fmt.Sprint(k.missingNow(), " and not ", want) })
}

// A SKU jumps over versions that the topic does not have. All else is projected, the hole is named for as long as it is
// there, by whoever projects, and no longer.
func TestAHoleIsNamedUntilItIsMended(t *testing.T) {
	b := newBroker(t)
	k := newKeeper()
	p := b.start(k)
	b.say(0, "BED", 1, 2, 5, 6)
	b.say(0, "CHAIR", 1, 2, 3)
	b.say(1, "DESK", 7, 8) // where one starts is no hole
	b.say(1, "EASEL", 1, -1, 2, -4, 5)
	k.waitMissing(t, "missing BED/3", "missing BED/4", "missing EASEL/3", "missing EASEL/4")
	for _, id := range []string{"BED/6", "CHAIR/3", "DESK/8", "EASEL/5"} {
		require.Contains(t, k.all(), id, "nothing waits for what is missing")
	}
	b.waitCommitted(map[int32]int64{0: 7, 1: 7})
	require.Contains(t, p.health.Ready()[asideComponent], `store lacks 4 events, the first of SKU "BED": missing is version 3 (t.events/0@2): the topic does not have it`)
	require.InDelta(t, 4, testutil.ToFloat64(p.consumer.metrics.asides), 0)
	require.NotContains(t, p.health.Ready(), topic+"/0")

	p.stop()
	p = b.start(k) // knows no SKU, and still knows this
	eventually(t, func() bool { return strings.Contains(p.health.Ready()[asideComponent], "BED") }, func() string { return fmt.Sprint(p.health.Ready()) })
	b.say(0, "BED", 4, 3)
	k.waitMissing(t, "missing EASEL/3", "missing EASEL/4")
	b.say(1, "EASEL", 3, 4)
	k.waitMissing(t)
	eventually(t, func() bool { return p.health.Ready()[asideComponent] == "" }, func() string { return fmt.Sprint(p.health.Ready()) })
}

// The reader lost an event that the topic has: it is read again.
func TestWhatWasJumpedOverIsReadAgain(t *testing.T) {
	b := newBroker(t)
	k := newKeeper()
	p := b.start(k)
	b.say(0, "BED", 1, 2)
	k.waitFor(t, []string{"BED/1", "BED/2"})
	p.consumer.client.PauseFetchPartitions(map[string][]int32{topic: {0}})
	b.say(0, "BED", 3, 4)
	p.consumer.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 3}}})
	p.consumer.client.ResumeFetchPartitions(map[string][]int32{topic: {0}})
	eventually(t, func() bool { return slices.Contains(k.all(), "BED/3") }, func() string { return fmt.Sprint(k.all()) })
	require.Empty(t, k.missingNow())
	eventually(t, func() bool { return len(p.consumer.holes.due(time.Now())) == 0 }, func() string { return "it is looked for still" })
}

// Versions that come over several partitions, late, again or from the middle are no holes.
func TestNoHoleIsSeenWhereNoneIs(t *testing.T) {
	for name, versions := range map[string][]int{
		"in order": {1, 2, 3}, "from the middle": {7, 8, 9}, "again": {1, 2, 3, 2, 3, 4, 1, 5},
		"outcomes between": {1, -1, 2, -2, -2, 3, -1}, "an outcome first": {-4, 5, 6},
		"over two partitions": {1, 4, 2, 3, 5}, "far apart": {1, 2, 7, 8, 3, 4, 5, 6, 9}, "an outcome ahead": {1, -3, 2, 3},
	} {
		h := newHoles()
		for _, v := range versions {
			r := readmodel.Record{Event: schemas.Event{Type: schemas.EventOutOfStock, SKU: "BED", Version: uint64(v)}}
			if v < 0 {
				r.Event.Type, r.Event.Version = schemas.EventCommandIgnored, uint64(-v)
			}
			h.see(&r)
		}
		require.Empty(t, h.due(time.Now().Add(time.Hour)), name)
	}
	// Two projectors share a SKU: each sees every other version, and the store has them all.
	b := newBroker(t)
	k := newKeeper()
	b.start(k)
	for i := range 10 {
		k.mu.Lock()
		k.received = append(k.received, fmt.Sprintf("BED/%d", 2*i+2))
		k.mu.Unlock()
		b.say(0, "BED", 2*i+1)
	}
	time.Sleep(4 * rereadPauses * 200 * time.Millisecond / 10) // long enough for it to be looked after
	require.Empty(t, k.missingNow())
	seen := len(k.blocks())
	require.LessOrEqual(t, seen, 10, "nothing is read again")
}

// A partition goes to another projector and comes back: what that one read is no hole.
func TestAPartitionThatComesBackHasNoHole(t *testing.T) {
	b := newBroker(t)
	first, second := newKeeper(), newKeeper()
	stays := b.start(first)
	b.say(0, "BED", 1, 2)
	b.say(1, "DESK", 1, 2)
	first.waitFor(t, []string{"BED/1", "BED/2", "DESK/1", "DESK/2"})
	goes := b.start(second)
	sku, moved := "BED", int32(0)
	eventually(t, func() bool {
		if goes.consumer.Owns(1) {
			sku, moved = "DESK", 1
		}
		return goes.consumer.Owns(moved)
	}, func() string { return "the second projector got no partition" })
	b.say(moved, sku, 3, 4, 5)
	second.waitFor(t, []string{sku + "/3", sku + "/4", sku + "/5"})
	b.waitCommitted(map[int32]int64{0: 2, 1: 2, moved: 5})
	goes.stop()
	b.say(moved, sku, 6)
	eventually(t, func() bool { return slices.Contains(first.all(), sku+"/6") }, func() string { return fmt.Sprint(first.all()) })
	require.Empty(t, stays.consumer.holes.due(time.Now().Add(time.Hour)))
}

// Many SKUs with large holes, as when partitions are added while much waits in the old ones.
func TestHolesAreBounded(t *testing.T) {
	h := newHoles()
	see := func(sku, version int) {
		h.see(&readmodel.Record{Event: schemas.Event{SKU: fmt.Sprint("SKU-", sku), Version: uint64(version), Type: schemas.EventAllocated}})
	}
	for sku := range 2 * holesMax / versionsMissingMax {
		see(sku, 1)
		see(sku, versionsMissingMax+100)
	}
	due := func() []readmodel.Aside { return h.due(time.Now().Add(time.Hour)) }
	all := due()
	require.Len(t, all, holesMax)
	h.settled(all[:10])
	require.Len(t, due(), holesMax-10)
	see(150, versionsMissingMax+200)
	all = due()
	require.Len(t, all, holesMax, "there is room again")
	h.settled(all)
	require.Empty(t, h.open)
	see(98, versionsMissingMax+102)
	require.Len(t, due(), 1)
}

func TestVersionsAreBounded(t *testing.T) {
	before := heap()
	v := newVersions(versionGroups)
	const skus = 1_000_000
	for i := range skus {
		v.see(fmt.Sprint("SKU-", i), 1)
	}
	require.Less(t, heap()-before, uint64(40<<20))
	kept := 0
	for i := range skus {
		hash := fmt.Sprint("SKU-", i)
		if v.see(hash, 2) == 1 {
			kept++
		}
	}
	require.Greater(t, kept, skus*9/10)

	v = newVersions(1)
	for i := range versionsEach + 1 {
		require.Zero(t, v.see(fmt.Sprint(i), uint64(10+i)))
		require.Equal(t, uint64(10+i), v.see(fmt.Sprint(i), 3), "an older version takes nothing back")
		require.Equal(t, uint64(10), v.see("0", 10), "what is used stays")
	}
	require.Zero(t, v.see("1", 5), "the one that was not used for longest is gone")
	v.forget()
	require.Zero(t, v.see("0", 11))
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// dated is a store that looks among events since a time, as ClickHouse does.
type dated struct {
	*keeper
	at map[string]time.Time // of versions that it has
}

func (d dated) Missing(_ context.Context, of []readmodel.Aside, since time.Time) ([]readmodel.Aside, error) {
	return slices.DeleteFunc(slices.Clone(of), func(a readmodel.Aside) bool {
		at, there := d.at[fmt.Sprintf("%s/%d", a.SKU, a.Version)]
		return there && !at.Before(since)
	}), nil
}

// Two SKUs have holes while a backlog is read: BED's events are of June, and TABLE's of January, whose version 2 is there.
func TestEachHoleIsLookedForFromItsOwnTime(t *testing.T) {
	january, june := time.Date(2030, 1, 10, 0, 0, 0, 0, time.UTC), time.Date(2030, 6, 10, 0, 0, 0, 0, time.UTC)
	store := dated{newKeeper(), map[string]time.Time{"TABLE/2": january.Add(-time.Minute)}}
	c := &Consumer{writer: store, log: slog.New(slog.DiscardHandler), holes: newHoles()}
	for sku, at := range map[string]time.Time{"BED": june, "TABLE": january} {
		for _, version := range []uint64{1, 3} {
			c.holes.see(&readmodel.Record{Event: schemas.Event{Type: schemas.EventOutOfStock, SKU: sku, Version: version}, Time: at})
		}
	}
	blocks := make(chan *delivery)
	go func() {
		d := <-blocks
		d.done <- d.ask(t.Context(), store)
	}()
	missing, err := c.missing(t.Context(), c.holes.due(time.Now().Add(time.Second)), blocks)
	require.NoError(t, err)
	require.Len(t, missing, 1)
	require.Equal(t, "BED", missing[0].SKU)
}
