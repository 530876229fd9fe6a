//go:build integration

package allocator_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator"
)

// A partition to which commands come all the time, and which is healthy, is not halted.
func TestALookAtABusyPartitionFindsNoHalt(t *testing.T) {
	b := onKfake(t)
	b.start()
	b.send(b.command("batch", create("b1", "CHAIR", 1_000_000)))
	b.events(1)
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			b.client.Produce(ctx, b.command("", allocate(name("o", i), "CHAIR", 1)), func(*kgo.Record, error) {})
			time.Sleep(time.Millisecond)
		}
	})
	defer sending.Wait()
	defer stop()
	desk := b.desk()
	halted, failed := map[string]int{}, map[string]int{}
	for range 40 {
		start := time.Now()
		all, err := desk.Look(t.Context())
		if err != nil {
			failed[err.Error()]++
			t.Logf("after %s: %v", time.Since(start), err)
			continue
		}
		for _, s := range all {
			if s.Halted != "" {
				halted[s.Halted]++
			}
		}
	}
	t.Logf("%d looks failed", len(failed))
	require.Empty(t, halted)
	require.Empty(t, failed)
}

// The producer's commands come in transactions, so that where a backup stands is a transaction's marker. That what comes next is
// decided otherwise after the restore is seen all the same.
func TestADifferenceBehindAMarkerIsShown(t *testing.T) {
	b := onKfake(t)
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("shop"), kgo.TransactionalID("shop"+b.topics.Commands.Name), kgo.DefaultProduceTopic(b.topics.Commands.Name))...)
	require.NoError(t, err)
	defer client.Close()
	transact := func(records ...*kgo.Record) {
		t.Helper()
		require.NoError(t, client.BeginTransaction())
		require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
		require.NoError(t, client.EndTransaction(t.Context(), kgo.TryCommit))
	}
	sent := []*kgo.Record{b.command("b1", create("b1", "CHAIR", 2)), b.command("b2", create("b2", "CHAIR", 50))}
	transact(sent...)
	stop := b.start(small)
	b.events(2)
	stop()
	restore := b.backup()
	transact(b.lineCommands(0, 4)...)
	stop = b.start(small)
	b.events(6)
	stop()

	restore(`UPDATE batches SET qty = qty + 2 WHERE ref = 'b1'`)
	ready := b.startReady(small)
	require.Eventually(t, func() bool { return ready.says("decided otherwise than it was published") }, waitMax, tick)
	ready.stop()
	s := b.standing(b.desk(), sent[0].Partition)
	require.Contains(t, s.Halted, "is decided otherwise")
}

// A partition that Postgres does not know, and of which events are published, is not new.
func TestAPartitionThatTheBackupHasNeverSeenIsNotCalledNew(t *testing.T) {
	b := onKfake(t)
	all := b.orders("CHAIR", 4)
	b.send(all...)
	stop := b.start()
	b.check(5)
	stop()
	_, err := b.postgres().Exec(t.Context(), `TRUNCATE partitions, products, batches, order_lines, command_seen, outbox`)
	require.NoError(t, err)
	s := b.standing(b.desk(), all[0].Partition)
	require.EqualValues(t, 5, s.Committed)
	require.Empty(t, s.Halted)
	require.Contains(t, s.Note, "offsets 0..4 are applied again")

	// What is to be applied again has to be there.
	b.deleteRecords(all[0].Partition, 3)
	s = b.standing(b.desk(), all[0].Partition)
	require.Contains(t, s.Halted, "truncated: its log starts at offset 3, and offset 0 would be next")
	_, err = b.desk().Plan(t.Context(), s, allocator.SkipAuto)
	require.ErrorContains(t, err, "nothing is known that could not be read")
}

// What was decided and has lost its events: to move past it is to give them up, and the plan says so.
func TestASkipSaysThatLostEventsAreGivenUp(t *testing.T) {
	b := onKfake(t)
	all := b.orders("CHAIR", 4)
	b.send(all...)
	partition := all[0].Partition
	blocked, unblock := b.blockEndTxn()
	stop := b.start(sudden)
	<-blocked
	stop()
	unblock()
	_, err := b.postgres().Exec(t.Context(), `DELETE FROM outbox WHERE partition = $1`, partition)
	require.NoError(t, err)
	desk := b.desk()
	s := b.standing(desk, partition)
	require.Contains(t, s.Halted, "offsets 0..4 are decided, and their events are neither in the outbox nor known to be published")
	plan, err := desk.Plan(t.Context(), s, allocator.SkipAuto)
	require.NoError(t, err)
	require.EqualValues(t, 5, plan.To)
	t.Logf("%q %v %v", plan.GivenUp, plan.Publish, plan.Lost)
	require.Contains(t, fmt.Sprint(plan.GivenUp), "0..4")
}
