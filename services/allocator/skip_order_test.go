//go:build integration

package allocator_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator"
)

// lostInTurn has lives decide commands of CHAIR on partitions 0 and 1 in turn, none of which publishes anything; then the
// commands are gone. Segments of the two depend on each other, and only a skip can publish them.
func (b *bench) lostInTurn(turns ...int32) {
	b.t.Helper()
	_, unblock := b.blockEndTxn()
	b.sendTo(0, b.command("batch", create("b1", "CHAIR", 1000)))
	applied := map[int32]int64{0: 1}
	for i, partition := range turns {
		b.sendTo(partition, b.lineCommands(2*i, 2*i+2)...)
		applied[partition] += 2
		stop := b.start(sudden)
		b.awaitApplied(partition, applied[partition])
		stop()
	}
	unblock()
	for partition, end := range applied {
		b.deleteRecords(partition, end)
	}
}

// plan looks anew and plans to move a partition past what is gone.
func (b *bench) plan(desk *allocator.Desk, partition int32) *allocator.Skip {
	b.t.Helper()
	plan, err := desk.Plan(b.t.Context(), must(desk.Look(b.t.Context()))[partition], allocator.SkipLogStart)
	require.NoError(b.t, err)
	require.NotEmpty(b.t, plan.Publish)
	return plan
}

// Partition 0 made versions 1..3 of CHAIR and partition 1 went on with 4 and 5; nothing is published, and the commands are
// gone. Were 4 and 5 published first, a consumer that keeps the highest version would skip 1..3.
func TestASkipKeepsVersionsInOrder(t *testing.T) {
	t.Parallel()
	b := onKfake(t)
	b.lostInTurn(0, 1)
	desk := b.desk()
	late := b.plan(desk, 1)
	const says = "partition 1 has events that come after those of partition 0 up to offset 2, which are not published"
	require.ErrorContains(t, allocator.SkipsOrdered(late), says)
	require.ErrorContains(t, desk.Do(t.Context(), late), says, "whoever does not ask")
	require.NoError(t, desk.Do(t.Context(), b.plan(desk, 0)))
	require.NoError(t, desk.Do(t.Context(), b.plan(desk, 1)))
	b.check(5)
}

// The partitions went on from each other, back and forth: neither can be first, but both at once can, whichever is named
// first.
func TestSkipsThatDependOnEachOther(t *testing.T) {
	t.Parallel()
	b := onKfake(t)
	b.lostInTurn(0, 1, 0, 1)
	desk := b.desk()
	first, second := b.plan(desk, 1), b.plan(desk, 0)
	require.ErrorContains(t, allocator.SkipsOrdered(first), "name both in one skip")
	require.ErrorContains(t, allocator.SkipsOrdered(second), "name both in one skip")
	require.NoError(t, allocator.SkipsOrdered(first, second))
	require.ErrorContains(t, desk.Do(t.Context(), first, second, first), "named twice")
	require.NoError(t, desk.Do(t.Context(), first, second))
	b.check(9)
}
