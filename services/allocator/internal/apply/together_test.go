package apply

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// applyTogether is Together for a single applier.
func applyTogether(t *testing.T, a *Applier, parts []Part, decided func([][]outbox.Segment) error) ([][]outbox.Segment, error) {
	return Together(t.Context(), []Share{{a, parts}}, decided)
}

// TestTogether: several partitions are one load and one commit, become what they would have become apart, and leave their SKUs
// cached.
func TestTogether(t *testing.T) {
	f := newFakeStore()
	a := newApplier(t, f)
	in := [][]Input{at(0, create("S", "b1", 10), allocate("S", "o1", 3)), at(0, create("T", "b1", 5), allocate("U", "o1", 1))}
	segments, err := applyTogether(t, a, []Part{{"topic", 0, 0, 2, in[0]}, {"topic", 1, 0, 2, in[1]}}, nil)
	require.NoError(t, err)
	require.Equal(t, 1, f.transactions)
	require.Len(t, f.needs, 1)
	require.Len(t, f.commits, 2)
	require.Equal(t, Counters{Commands: 4, Events: 4}, a.Counters)

	apart := newFakeStore()
	for p, in := range in {
		want, err := newApplier(t, apart).Apply(t.Context(), "topic", int32(p), 0, 2, in)
		require.NoError(t, err)
		require.Equal(t, want, segments[p])
		require.Equal(t, apart.published(t, int32(p)), f.published(t, int32(p)))
	}
	require.Equal(t, apart.rows(), f.rows())

	_, err = applyTogether(t, a, []Part{{"topic", 0, 2, 3, at(2, allocate("S", "o2", 1))}, {"topic", 1, 2, 3, at(2, allocate("T", "o2", 1))}}, nil)
	require.NoError(t, err)
	require.Empty(t, f.needs[1].Products)

	a.keptBytesMax = 1
	segments, err = applyTogether(t, a, []Part{{"topic", 0, 3, 4, at(3, allocate("S", "o3", 1))}, {"topic", 1, 3, 4, at(3, allocate("T", "o3", 1))}}, nil)
	require.NoError(t, err)
	require.Len(t, segments, 2)
	require.Empty(t, segments[0], "they are read from the outbox, in parts")
	require.Empty(t, segments[1])
}

// TestTogetherWithWhatEachKnows: parts of several appliers are one commit, decided with what each has cached.
func TestTogetherWithWhatEachKnows(t *testing.T) {
	f := newFakeStore()
	a, b := newApplier(t, f), newApplier(t, f)
	poll := func(offset int64, s, u allocation.Command) {
		shares := []Share{{a, []Part{{"topic", 0, offset, offset + 1, at(offset, s)}}}, {b, []Part{{"topic", 1, offset, offset + 1, at(offset, u)}}}}
		segments, err := Together(t.Context(), shares, nil)
		require.NoError(t, err)
		require.Len(t, segments, 2)
	}
	poll(0, create("S", "b1", 10), create("U", "b1", 5))
	poll(1, allocate("S", "o1", 3), allocate("U", "o1", 1))
	require.Equal(t, 2, f.transactions)
	require.Empty(t, f.needs[1].Products)
	require.Equal(t, Counters{Commands: 2, Events: 2}, a.Counters)
	require.Equal(t, Counters{Commands: 2, Events: 2}, b.Counters)
}

// TestWhatIsOlderThanTheConnectionIsForgotten: S and U are read over the connection of one lane. It is lost, as when Postgres is restored
// from a backup, and nobody notices but who uses it next. What either lane knows is not used over a connection that is younger.
func TestWhatIsOlderThanTheConnectionIsForgotten(t *testing.T) {
	for name, next := range map[string]func(a, b *Applier, s, u Part) error{
		"each over its own": func(a, b *Applier, s, u Part) error {
			_, err := b.Apply(t.Context(), "topic", 1, u.From, u.Next, u.In)
			if err == nil {
				_, err = a.Apply(t.Context(), "topic", 0, s.From, s.Next, s.In)
			}
			return err
		},
		"both over one": func(a, b *Applier, s, u Part) error {
			_, err := Together(t.Context(), []Share{{a, []Part{s}}, {b, []Part{u}}}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeStore()
			a, b := newApplier(t, f), newApplier(t, f)
			other := *f // the other lane's connection to the same database
			b.store = &other
			poll := func(offset int64, s, u allocation.Command) (Part, Part) {
				return Part{"topic", 0, offset, offset + 1, at(offset, s)}, Part{"topic", 1, offset, offset + 1, at(offset, u)}
			}
			s, u := poll(0, create("S", "b1", 10), create("U", "b1", 5))
			_, err := Together(t.Context(), []Share{{a, []Part{s}}, {b, []Part{u}}}, nil)
			require.NoError(t, err)
			f.made, other.made = time.Now(), time.Now()
			f.needs, other.needs = nil, nil
			s, u = poll(1, allocate("S", "o1", 3), allocate("U", "o1", 1))
			require.NoError(t, next(a, b, s, u))
			var asked []string
			for _, need := range append(f.needs, other.needs...) {
				asked = append(asked, need.Products...)
			}
			require.ElementsMatch(t, []string{"S", "U"}, asked)
		})
	}
}

// TestPresumed: that a line to allocate, and the id of its command, were never there is not asked for. Where that was wrong nothing is
// written, and it is asked for again, for some polls.
func TestPresumed(t *testing.T) {
	f := newFakeStore()
	a := newApplier(t, f)
	var next int64
	together := func(commands ...allocation.Command) error {
		from := next
		_, err := applyTogether(t, a, []Part{{"topic", 0, from, from + int64(len(commands)), at(from, commands...)}}, nil)
		if err == nil {
			next += int64(len(commands))
		}
		return err
	}
	withID := func(c allocation.Command, id string) allocation.Command {
		c.ID = allocation.CommandID{Source: "shop", ID: id}
		return c
	}
	deallocate := allocation.Command{Kind: allocation.Deallocate, SKU: "S", OrderID: "o1"}
	key := func(order string) LineKey { return LineKey{SKU: "S", OrderID: order} }
	require.NoError(t, together(create("S", "b1", 10), create("T", "b1", 10)))

	require.NoError(t, together(withID(allocate("S", "o1", 3), "c1"), withID(allocate("S", "o2", 8), "c2")))
	require.Zero(t, f.needs[1], "nothing is asked for")
	require.Equal(t, &Presumed{
		Lines: []LineKey{key("o2")}, // out of stock; o1 is inserted
		Seen: []SeenKey{
			{SKU: "S", Command: allocation.CommandID{Source: "shop", ID: "c1"}}, {SKU: "S", Command: allocation.CommandID{Source: "shop", ID: "c2"}},
		},
	}, f.commits[1].Presumed)

	for name, repeat := range map[string]allocation.Command{
		"a line that would be inserted": allocate("S", "o1", 3),
		"a line that would not be":      allocate("S", "o1", 100),
		"an id":                         withID(allocate("S", "o2", 8), "c2"),
	} {
		t.Run(name, func(t *testing.T) {
			a.presuming = presuming{}
			loads, commits := len(f.needs), len(f.commits)
			require.ErrorIs(t, together(allocate("T", "new", 1), repeat), ErrRefused)
			require.Len(t, f.commits, commits)
			require.Zero(t, f.needs[loads].Lines)
			require.False(t, a.products.Contains("S"), "what was decided is forgotten")

			require.NoError(t, together(allocate("T", name, 1), repeat))
			require.Equal(t, []LineKey{{SKU: "T", OrderID: name}, {SKU: "S", OrderID: repeat.OrderID}}, f.needs[loads+1].Lines)
			require.Nil(t, f.commits[commits].Presumed)
		})
	}

	a.presuming = presuming{}
	require.NoError(t, together(allocate("S", "o3", 1), deallocate))
	require.Equal(t, []LineKey{key("o1")}, f.needs[len(f.needs)-1].Lines, "others are asked for as ever")
	require.NoError(t, together(allocate("S", "o4", 1), allocation.Command{Kind: allocation.Deallocate, SKU: "S", OrderID: "o3"}, allocate("S", "o3", 1)))
	require.Empty(t, f.commits[len(f.commits)-1].Presumed.Lines, "o3 is known, since another command named it")
}

// TestPresumingRests: it rests longer the more often it is wrong, up to a bound, and as short as at first once it was right for long.
func TestPresumingRests(t *testing.T) {
	var p presuming
	rest := func() (polls int) {
		for !p.may() {
			p.held()
			polls++
		}
		return polls
	}
	require.Zero(t, rest())
	var rests []int
	for range 12 {
		p.refused()
		rests = append(rests, rest()+1)
	}
	require.Equal(t, []int{16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096, 4096}, rests)
	for range 20 {
		require.True(t, p.may())
		p.held()
	}
	p.refused()
	require.Equal(t, 16, rest()+1)
}

// TestApart: what is not normal is left to Apply before anything is read or written.
func TestApart(t *testing.T) {
	f := newFakeStore()
	a, other := newApplier(t, f), newApplier(t, f)
	create := func(p int32, skus ...string) {
		t.Helper()
		for _, sku := range skus {
			from := f.next[p]
			_, err := a.Apply(t.Context(), "topic", p, from, from+1, at(from, create(sku, "b1", 10)))
			require.NoError(t, err)
		}
	}
	create(0, "S")
	create(1, "T", "SHARED")
	loads, commits := len(f.needs), f.transactions
	apart := func(first, second allocation.Command) {
		t.Helper()
		_, err := applyTogether(t, a, []Part{{"topic", 0, f.next[0], f.next[0] + 1, at(f.next[0], first)}, {"topic", 1, f.next[1], f.next[1] + 1, at(f.next[1], second)}}, nil)
		require.ErrorIs(t, err, ErrApart)
		require.Len(t, f.needs, loads)
		require.Equal(t, commits, f.transactions)
	}
	apart(allocate("S", "o1", 1), allocate("S", "o2", 1))
	apart(allocate("S", "o1", 1), cut("T", "b1", 1))
	require.True(t, a.products.Contains("S"), "nothing has happened to what is cached")

	_, err := other.Apply(t.Context(), "topic", 2, 0, 1, at(0, allocate("SHARED", "theirs", 1)))
	require.NoError(t, err)
	_, err = a.Apply(t.Context(), "topic", 1, 2, 3, at(2, allocate("SHARED", "ours", 1)))
	require.NoError(t, err)
	loads, commits = len(f.needs), f.transactions
	apart(allocate("S", "o1", 1), allocate("SHARED", "o2", 1))
}

// TestNothingOfWhatIsRefusedTogetherRemains: of two partitions, of a lane each, one was moved by another allocator. Neither is written,
// and nothing of the decision stays in memory.
func TestNothingOfWhatIsRefusedTogetherRemains(t *testing.T) {
	f := newFakeStore()
	a, b := newApplier(t, f), newApplier(t, f)
	_, err := Together(t.Context(), []Share{{a, []Part{{"topic", 0, 0, 1, at(0, create("S", "b1", 1))}}}, {b, []Part{{"topic", 1, 0, 1, at(0, create("T", "b1", 1))}}}}, nil)
	require.NoError(t, err)
	f.next[1] = 9
	_, err = Together(t.Context(), []Share{{a, []Part{{"topic", 0, 1, 2, at(1, allocate("S", "o1", 1))}}}, {b, []Part{{"topic", 1, 1, 2, at(1, allocate("T", "o1", 1))}}}}, nil)
	require.ErrorIs(t, err, ErrRefused)
	require.EqualValues(t, 1, f.next[0])
	require.EqualValues(t, 1, a.Counters.Refusals+b.Counters.Refusals)
	require.False(t, b.products.Contains("T"))
	for _, each := range []*Applier{a, b} {
		require.False(t, each.presuming.may(), "what it names is asked for, for a while")
	}
	_, err = a.Apply(t.Context(), "topic", 0, 1, 2, at(1, allocate("S", "o2", 1)))
	require.NoError(t, err)
	require.Contains(t, f.published(t, 0)[1][0], "Kind:Allocated", "the one unit is still there")
}

// TestNothingOfWhatIsLeftApartRemains: another lane did not come to a decision, after this one had. Nothing was written, so nothing of
// the decision stays in memory; what it did not touch does, and no refusal is counted.
func TestNothingOfWhatIsLeftApartRemains(t *testing.T) {
	f := newFakeStore()
	a := newApplier(t, f)
	_, err := applyTogether(t, a, []Part{{"topic", 0, 0, 2, at(0, create("S", "b1", 1), create("OTHER", "b1", 1))}}, nil)
	require.NoError(t, err)
	_, err = applyTogether(t, a, []Part{{"topic", 0, 2, 3, at(2, allocate("S", "o1", 1))}}, func(segments [][]outbox.Segment) error {
		require.Len(t, segments[0], 1, "it is decided")
		return fmt.Errorf("%w: another lane", ErrApart)
	})
	require.ErrorIs(t, err, ErrApart)
	require.Equal(t, 1, f.transactions)
	require.Zero(t, a.Counters.Refusals)
	require.True(t, a.presuming.may())
	require.True(t, a.products.Contains("OTHER"))

	_, err = a.Apply(t.Context(), "topic", 0, 2, 3, at(2, allocate("S", "o1", 1)))
	require.NoError(t, err)
	require.Contains(t, f.published(t, 0)[2][0], "Kind:Allocated", "the one unit is still there")
	require.EqualValues(t, 2, f.products["S"].version)
	require.Zero(t, a.Counters.Refusals, "what is not known is loaded, not guessed")
}

// TestTogetherOrApartDoesNotMatter: several partitions, of one lane or several, which may have SKUs in common, are applied together where
// that works and apart where it does not, with refused commits, commits whose outcome is not known, and lost caches. What becomes of them
// is what becomes of the same polls apart and without bad luck.
func TestTogetherOrApartDoesNotMatter(t *testing.T) {
	together, several, presumed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		polls := anyPolls(t)
		limits := func(l *Limits) { l.CutLinesMax, l.CommandIDRetention = 3, 10*time.Minute }
		calm := newFakeStore()
		a := newApplier(t, calm, limits)
		for _, poll := range polls {
			for _, p := range poll {
				_, err := a.Apply(t.Context(), "topic", p.Partition, p.From, p.Next, p.In)
				require.NoError(t, err)
			}
		}

		rough := newFakeStore()
		rough.fate = func() (lost, done bool) {
			lost = rapid.IntRange(0, 5).Draw(t, "lost") == 0
			return lost, !lost || rapid.Bool().Draw(t, "done")
		}
		rough.beforeCommit = func(locked bool) { rough.refuseNext = !locked && rapid.IntRange(0, 5).Draw(t, "refused") == 0 }
		lanes := make([]*Applier, rapid.IntRange(1, 3).Draw(t, "lanes"))
		for i := range lanes {
			lanes[i] = newApplier(t, rough, limits, func(l *Limits) { l.ProductsCachedMax = rapid.IntRange(1, 5).Draw(t, "cached") })
		}
		for _, poll := range polls {
			if len(poll) > 1 {
				presumes := rapid.Bool().Draw(t, "presumes")
				var shares []Share
				for i, a := range lanes {
					if presumes {
						a.presuming = presuming{} // it would rest for longer than the test lasts
					}
					of := func(p Part) bool { return int(p.Partition)%len(lanes) == i }
					if slices.ContainsFunc(poll, of) {
						theirs := slices.DeleteFunc(slices.Clone(poll), func(p Part) bool { return !of(p) })
						shares = append(shares, Share{a, theirs})
					}
				}
				_, err := Together(t.Context(), shares, nil)
				if err == nil {
					together++
					if len(shares) > 1 {
						several++
					}
					if rough.commits[len(rough.commits)-1].Presumed != nil {
						presumed++
					}
					continue
				}
			}
			for _, p := range poll {
				for applied := rough.next[p.Partition]; applied < p.Next; applied = rough.next[p.Partition] {
					if _, err := lanes[int(p.Partition)%len(lanes)].Apply(t.Context(), "topic", p.Partition, applied, p.Next, between(p.In, applied, p.Next)); err != nil {
						require.ErrorIs(t, err, errLost)
					}
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "forget") == 0 {
				lanes[0].Forget()
			}
		}
		for p := range int32(3) {
			require.Equal(t, calm.published(t, p), rough.published(t, p))
		}
		require.Equal(t, calm.rows(), rough.rows())
	})
	require.Positive(t, together)
	require.Positive(t, several)
	require.Positive(t, presumed)
}

// anyPolls are polls of three partitions, whose SKUs are mostly their own.
func anyPolls(t *rapid.T) (polls [][]Part) {
	next := map[int32]int64{}
	for range rapid.IntRange(3, 15).Draw(t, "polls") {
		var poll []Part
		for p := range int32(3) {
			var commands []allocation.Command
			for i := range rapid.IntRange(0, 4).Draw(t, "commands") {
				sku := fmt.Sprint("S", p, rapid.IntRange(0, 1).Draw(t, "sku"))
				if rapid.IntRange(0, 15).Draw(t, "shared") == 0 {
					sku = "SHARED"
				}
				switch rapid.IntRange(0, 11).Draw(t, "kind") {
				case 0, 1:
					commands = append(commands, create(sku, fmt.Sprint("b", rapid.IntRange(0, 3).Draw(t, "ref")), 3))
				case 2:
					commands = append(commands, cut(sku, fmt.Sprint("b", rapid.IntRange(0, 3).Draw(t, "ref")), 1))
				case 3:
					commands = append(commands, allocate(sku, fmt.Sprint("again", rapid.IntRange(0, 2).Draw(t, "order")), rapid.SampledFrom([]int32{1, 9}).Draw(t, "qty")))
				case 4:
					c := allocate(sku, "seen", 9) // more than there is
					c.ID.ID = "seen"
					commands = append(commands, c)
				case 5, 6:
					c := allocation.Command{Kind: allocation.Deallocate, SKU: sku, OrderID: fmt.Sprint("again", rapid.IntRange(0, 2).Draw(t, "order"))}
					c.ID.ID = rapid.SampledFrom([]string{"", "seen", "x", "y"}).Draw(t, "id")
					commands = append(commands, c)
				case 7, 8:
					c := allocate(sku, fmt.Sprint("again", rapid.IntRange(0, 2).Draw(t, "order")), rapid.SampledFrom([]int32{0, 1, 9}).Draw(t, "qty"))
					c.ID.ID = rapid.SampledFrom([]string{"", "seen", "x", "y"}).Draw(t, "id")
					commands = append(commands, c)
				default:
					commands = append(commands, allocate(sku, fmt.Sprint("o", p, next[p], i), 1))
				}
			}
			if from := next[p]; len(commands) > 0 {
				next[p] += int64(len(commands))
				poll = append(poll, Part{"topic", p, from, next[p], at(from, commands...)})
			}
		}
		polls = append(polls, poll)
	}
	return polls
}
