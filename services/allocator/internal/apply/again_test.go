package apply

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// was is a check against what a store had published of a partition.
func (f *fakeStore) was(t require.TestingT, partition int32) Check {
	then := make(map[int64]outbox.Entry)
	for _, segment := range f.outbox[partition] {
		entries, err := segment.Entries()
		require.NoError(t, err)
		for _, e := range entries {
			then[e.Offset] = e
		}
	}
	same := func(a, b outbox.Entry) bool {
		if len(a.Messages) != len(b.Messages) || a.DeadLetter != b.DeadLetter {
			return false
		}
		for i := range a.Messages {
			if !bytes.Equal(a.Messages[i].Value, b.Messages[i].Value) {
				return false
			}
		}
		return true
	}
	return func(segments []outbox.Segment) (int64, bool, error) {
		for _, segment := range segments {
			entries, err := segment.Entries()
			if err != nil {
				return 0, false, err
			}
			for _, e := range entries {
				if !same(e, then[e.Offset]) {
					return e.Offset, true, nil
				}
			}
		}
		return 0, false, nil
	}
}

// TestWhatDiffersIsNotCommitted: a SKU came over two partitions, and its commands are decided in another order this time.
// What comes before the difference is committed and nothing else; once the other partition has done its part, the rest is.
func TestWhatDiffersIsNotCommitted(t *testing.T) {
	before, after := newFakeStore(), newFakeStore()
	mine := at(0, create("S", "b1", 10), allocate("S", "o1", 1), allocate("S", "o2", 1), allocate("T", "o", 1))
	other := at(0, allocate("S", "o9", 1))
	then := newApplier(t, before)
	for _, part := range []struct {
		partition  int32
		from, next int64
		in         []Input
	}{{0, 0, 2, mine[:2]}, {1, 0, 1, other}, {0, 2, 4, mine[2:]}} {
		_, err := then.Apply(t.Context(), "topic", part.partition, part.from, part.next, part.in)
		require.NoError(t, err)
	}

	now := newApplier(t, after)
	_, err := now.ApplyAgain(t.Context(), "topic", 0, 0, 4, mine, before.was(t, 0))
	require.ErrorIs(t, err, ErrDiffers)
	require.ErrorContains(t, err, "the command at offset 2 (SKU S) is decided otherwise")
	require.EqualValues(t, 2, after.next[0], "what is as it was")
	require.Len(t, after.commits, 1)
	_, err = now.ApplyAgain(t.Context(), "topic", 0, 2, 4, mine[2:], before.was(t, 0))
	require.ErrorIs(t, err, ErrDiffers)
	require.Len(t, after.commits, 1)

	_, err = now.ApplyAgain(t.Context(), "topic", 1, 0, 1, other, before.was(t, 1))
	require.NoError(t, err)
	_, err = now.ApplyAgain(t.Context(), "topic", 0, 2, 4, mine[2:], before.was(t, 0))
	require.NoError(t, err)
	require.Equal(t, before.rows(), after.rows())
}

// TestADifferenceOfAStaleCacheIsNone: another allocator has changed the SKU since it was cached. What is decided from the
// cache differs; what is decided from the rows does not.
func TestADifferenceOfAStaleCacheIsNone(t *testing.T) {
	before, after := newFakeStore(), newFakeStore()
	mine, other := at(0, create("S", "b1", 10), allocate("S", "o1", 1)), at(0, allocate("S", "o9", 1))
	run := func(a, b *Applier, check func(partition int32) Check) {
		_, err := a.ApplyAgain(t.Context(), "topic", 0, 0, 1, mine[:1], check(0))
		require.NoError(t, err)
		_, err = b.ApplyAgain(t.Context(), "topic", 1, 0, 1, other, check(1))
		require.NoError(t, err)
		_, err = a.ApplyAgain(t.Context(), "topic", 0, 1, 2, mine[1:], check(0))
		require.NoError(t, err)
	}
	run(newApplier(t, before), newApplier(t, before), func(int32) Check { return nil })
	run(newApplier(t, after), newApplier(t, after), func(partition int32) Check { return before.was(t, partition) })
	require.Equal(t, before.rows(), after.rows())
}

// TestAReplayFindsTheOrderOfThen: orders for few SKUs come over several partitions and are decided in any order: who comes
// first gets the better batch. Decided again, in any other order, nothing that differs is committed, some partition can always
// go on, and all ends as it was.
func TestAReplayFindsTheOrderOfThen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const partitions = 3
		batches := at(0, create("S0", "b0", 9), create("S0", "b1", 9), create("S1", "b0", 5))
		in := [partitions][]Input{batches}
		for p := range in {
			for i := range rapid.IntRange(1, 30).Draw(t, "orders") {
				order := allocate(fmt.Sprint("S", rapid.IntRange(0, 1).Draw(t, "sku")), fmt.Sprint("o", p, "-", i), int32(rapid.IntRange(1, 3).Draw(t, "qty")))
				in[p] = append(in[p], at(int64(len(in[p])), order)...)
			}
			for i := range in[p] {
				in[p][i].Command.Position.Partition = int32(p)
			}
		}
		turn := func(f *fakeStore, a *Applier, p int32, check Check) error {
			from := f.next[p]
			next := min(int64(len(in[p])), from+int64(rapid.IntRange(1, 12).Draw(t, "poll")))
			_, err := a.ApplyAgain(t.Context(), "topic", p, from, next, in[p][from:next], check)
			return err
		}
		left := func(f *fakeStore) (n int64) {
			for p := range in {
				n += int64(len(in[p])) - f.next[int32(p)]
			}
			return n
		}
		before, after := newFakeStore(), newFakeStore()
		appliers := map[*fakeStore][]*Applier{before: {newApplier(t, before), newApplier(t, before)}, after: {newApplier(t, after), newApplier(t, after)}}
		for f, appliers := range appliers {
			_, err := appliers[0].Apply(t.Context(), "topic", 0, 0, int64(len(batches)), batches)
			require.NoError(t, err)
			require.Positive(t, left(f))
		}
		for left(before) > 0 {
			p := int32(rapid.IntRange(0, partitions-1).Draw(t, "partition"))
			require.NoError(t, turn(before, appliers[before][rapid.IntRange(0, 1).Draw(t, "applier")], p, nil))
		}
		for left(after) > 0 {
			was := left(after)
			for _, p := range rapid.Permutation([]int32{0, 1, 2}).Draw(t, "round") {
				if err := turn(after, appliers[after][rapid.IntRange(0, 1).Draw(t, "applier")], p, before.was(t, p)); err != nil {
					require.ErrorIs(t, err, ErrDiffers)
				}
			}
			require.Less(t, left(after), was, "somebody can always go on")
		}
		for p := range int32(partitions) {
			require.Equal(t, before.published(t, p), after.published(t, p))
		}
		require.Equal(t, before.rows(), after.rows())
	})
}
