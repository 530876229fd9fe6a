//go:build integration

package allocator_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator"
)

// A life decided commands and died before it published their events; then the commands are gone. No allocator can poll
// them again, so the move publishes what they decided: once, also if it is cut off between Kafka and Postgres and done
// again. Commands that were not decided are given up.
func TestASkipPublishesWhatNobodyElseCan(t *testing.T) {
	for name, lose := range map[string]func(*bench, int32){
		"truncated": func(b *bench, partition int32) { b.deleteRecords(partition, 7) },
		"recreated": func(b *bench, _ int32) { b.recreate() },
	} {
		t.Run(name, func(t *testing.T) {
			b := onKfake(t)
			all := b.orders("CHAIR", 9)
			b.send(all[:5]...)
			partition := all[0].Partition
			p := newProxy(t, b.config.PostgresURL)
			blocked, unblock := b.blockEndTxn()
			stop := b.start(sudden, func(c *allocator.Config) { c.PostgresURL = p.url })
			<-blocked
			stop()
			unblock()
			b.send(all[5:8]...)
			lose(b, partition)
			if name == "recreated" {
				b.send(all[7:8]...)
			}
			desk := b.desk()
			standing := func() allocator.Standing {
				standings, err := desk.Look(t.Context())
				require.NoError(t, err)
				return standings[partition]
			}
			plan, err := desk.Plan(t.Context(), standing(), allocator.SkipAuto)
			require.NoError(t, err)
			require.Len(t, plan.Publish, 5)
			require.NotEmpty(t, plan.Stop)
			b.lock(partition, func() { require.Error(t, desk.Do(t.Context(), plan), "Postgres is not to be had") })
			b.events(5)
			require.ErrorIs(t, desk.Do(t.Context(), plan), allocator.ErrMoved, "they are published by now")
			plan, err = desk.Plan(t.Context(), standing(), allocator.SkipAuto)
			require.NoError(t, err)
			require.Empty(t, plan.Publish)
			require.NoError(t, desk.Do(t.Context(), plan))
			if name == "recreated" {
				for _, s := range must(desk.Look(t.Context())) {
					if s.Halted != "" {
						require.NoError(t, desk.Do(t.Context(), must(desk.Plan(t.Context(), s, allocator.SkipAuto))))
					}
				}
			}
			b.start()
			b.send(all[8:]...)
			b.check(5 + 3)
		})
	}
}

// lock keeps everybody else from a partition's row while fn runs, and ends whoever waits for it.
func (b *bench) lock(partition int32, fn func()) {
	b.t.Helper()
	conn := b.postgres()
	tx, err := conn.Begin(b.t.Context())
	require.NoError(b.t, err)
	_, err = tx.Exec(b.t.Context(), `SELECT FROM partitions WHERE partition = $1 FOR UPDATE`, partition)
	require.NoError(b.t, err)
	looking, ended := b.postgres(), make(chan struct{}) // apart: a transaction sees the sessions as they were
	go func() {
		defer close(ended)
		for n := 0; n == 0; time.Sleep(tick) {
			if err := looking.QueryRow(b.t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n); err != nil {
				b.t.Error(err)
				return
			}
		}
	}()
	fn()
	<-ended
	require.NoError(b.t, tx.Rollback(b.t.Context()))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Postgres is restored from a backup older than what is left of the commands. Going on after the hole would decide on a
// state that contradicts what was published.
func TestCommandsThatWerePublishedAreNotSkipped(t *testing.T) {
	b := onKfake(t)
	all := b.orders("CHAIR", 6)
	b.send(all...)
	stop := b.start()
	b.events(7)
	stop()
	_, err := b.postgres().Exec(t.Context(), `UPDATE partitions SET next_offset = 3, outbox_floor = 3 WHERE partition = $1`, all[0].Partition)
	require.NoError(t, err)
	b.deleteRecords(all[0].Partition, 5)
	desk := b.desk()
	s := b.standing(desk, all[0].Partition)
	require.Contains(t, s.Halted, "truncated")
	_, err = desk.Plan(t.Context(), s, allocator.SkipAuto)
	require.ErrorContains(t, err, "2 commands of offsets 3..4")
	require.ErrorContains(t, err, "restore a newer backup")
}

// What nobody can skip by mistake: what was never seen, what is behind, what an allocator does by itself.
func TestSkipsThatAreRefused(t *testing.T) {
	b := onKfake(t)
	desk := b.desk()
	refuse := func(says string, partition int32, to int64) {
		t.Helper()
		_, err := desk.Plan(t.Context(), b.standing(desk, partition), to)
		require.ErrorContains(t, err, says)
	}
	refuse("no allocator had it yet", 0, 0)
	all := b.orders("CHAIR", 4)
	b.send(all[:3]...)
	partition := all[0].Partition
	blocked, unblock := b.blockEndTxn()
	stop := b.start(sudden)
	<-blocked
	stop()
	unblock()
	b.send(all[3:]...)
	refuse("nothing is known that could not be read", partition, allocator.SkipAuto)
	refuse("not in its log, which is from 0 to 5", partition, 6)
	refuse("not past offset 0", partition, 0)
	refuse("offsets 0..2 are decided, and an allocator publishes them", partition, 4)
	b.start()
	b.events(5)
}
