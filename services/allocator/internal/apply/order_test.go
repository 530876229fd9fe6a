package apply

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
)

// TestDependencies: what goes on from another partition's version depends on the events of the command that made it, and
// on no later ones; so does an outcome that names such a version.
func TestDependencies(t *testing.T) {
	f := newFakeStore()
	a, other := newApplier(t, f), newApplier(t, f)
	apply := func(a *Applier, partition int32, from int64, commands ...allocation.Command) map[int32]int64 {
		t.Helper()
		next := from + int64(len(commands))
		segments, err := a.Apply(t.Context(), "topic", partition, from, next, at(from, commands...))
		require.NoError(t, err)
		require.Equal(t, f.commits[len(f.commits)-1].DependsOn, segments[0].DependsOn)
		return segments[0].DependsOn
	}
	require.Empty(t, apply(a, 0, 0, create("S", "b1", 100), create("T", "b1", 100), allocate("S", "o1", 1), allocate("U", "o", 1)), "nothing was before")
	require.Empty(t, apply(a, 0, 4, allocate("S", "o2", 1)), "a partition is in order by itself")
	require.Equal(t, map[int32]int64{0: 5}, apply(other, 1, 0, allocate("S", "o3", 1), allocate("T", "o3", 1)), "S by the command at 4, T by that at 1")
	require.Empty(t, apply(other, 1, 2, allocate("S", "o4", 1)), "its own version, though another came before")
	require.Equal(t, map[int32]int64{1: 3}, apply(other, 2, 0, allocate("S", "o5", 1), allocate("U", "o", 1), allocate("T", "o5", 1)), "S by the command at 2")
	require.Equal(t, map[int32]int64{2: 1}, apply(a, 0, 5, allocate("S", "o2", 1)), "S is only read, and was cached at an older version")
	require.Empty(t, f.commits[len(f.commits)-1].Changes)

	f.next[2] = 0 // moved back, which Move does not tell those who have S cached
	_, err := a.Apply(t.Context(), "topic", 0, 6, 7, at(6, allocate("S", "o6", 1)))
	require.ErrorIs(t, err, ErrRefused)
	f.products["S"].by.Partition = -1 // but it tells the rows
	require.Empty(t, apply(a, 0, 6, allocate("S", "o6", 1)))
}

// TestDependenciesNameWhoWasBefore: several allocators with caches of their own, several partitions, refused and lost
// commits. What each commit depends on is exactly who made the versions that it goes on from.
func TestDependenciesNameWhoWasBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFakeStore()
		f.fate = func() (lost, done bool) {
			lost = rapid.IntRange(0, 5).Draw(t, "lost") == 0
			return lost, !lost || rapid.Bool().Draw(t, "done")
		}
		f.beforeCommit = func(locked bool) { f.refuseNext = !locked && rapid.IntRange(0, 5).Draw(t, "refused") == 0 }
		appliers := []*Applier{newApplier(t, f), newApplier(t, f)}
		for i := range rapid.IntRange(5, 40).Draw(t, "polls") {
			partition := int32(rapid.IntRange(0, 2).Draw(t, "partition"))
			from := f.next[partition]
			var commands []allocation.Command
			for c := range rapid.IntRange(1, 4).Draw(t, "commands") {
				sku := fmt.Sprint("S", rapid.IntRange(0, 3).Draw(t, "sku"))
				if rapid.Bool().Draw(t, "create") {
					commands = append(commands, create(sku, fmt.Sprint("b", rapid.IntRange(0, 5).Draw(t, "ref")), 10))
				} else {
					commands = append(commands, allocate(sku, fmt.Sprint("o", i, c), 1))
				}
			}
			a := rapid.SampledFrom(appliers).Draw(t, "applier")
			if _, err := a.Apply(t.Context(), "topic", partition, from, from+int64(len(commands)), at(from, commands...)); err != nil {
				require.ErrorIs(t, err, errLost)
			}
		}
		made := map[string]allocation.Position{}
		for _, w := range f.commits {
			var want map[int32]int64
			for _, m := range w.Products {
				if by, ok := made[m.SKU]; ok && by.Partition != w.Partition {
					if want == nil {
						want = map[int32]int64{}
					}
					want[by.Partition] = max(want[by.Partition], by.Offset+1)
				}
			}
			require.Equal(t, want, w.DependsOn)
			for _, m := range w.Products {
				if m.New != m.Old {
					made[m.SKU] = allocation.Position{Partition: w.Partition, Offset: m.Offset}
				}
			}
		}
	})
}

// TestSharedSKUsAreLockedAtOnce: what another partition changes all the time is not cached, and is locked before it is read,
// instead of being refused each time. Once the other has left it alone for long enough, it is cached again.
func TestSharedSKUsAreLockedAtOnce(t *testing.T) {
	f := newFakeStore()
	a, other := newApplier(t, f), newApplier(t, f)
	next := map[int32]int64{}
	one := func(a *Applier, partition int32) {
		t.Helper()
		from := next[partition]
		next[partition]++
		_, err := a.Apply(t.Context(), "topic", partition, from, from+1, at(from, allocate("S", fmt.Sprint("o", partition, from), 1)))
		require.NoError(t, err)
	}
	_, err := a.Apply(t.Context(), "topic", 0, 0, 1, at(0, create("S", "b1", 1000)))
	require.NoError(t, err)
	next[0] = 1
	one(other, 1)
	one(a, 0)
	require.EqualValues(t, 1, a.Counters.Refusals, "that it is shared is found out by a refusal")
	for range 5 {
		one(other, 1)
		one(a, 0)
	}
	require.EqualValues(t, 1, a.Counters.Refusals)
	require.EqualValues(t, 6, a.Counters.Locked)
	require.Zero(t, other.Counters.Refusals)
	for range sharedFor {
		require.False(t, a.products.Contains("S"))
		one(a, 0)
	}
	require.True(t, a.products.Contains("S"))
	locked := a.Counters.Locked
	one(a, 0)
	require.Equal(t, locked, a.Counters.Locked, "it is its own again")
}
