//go:build integration

package allocator_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator"
)

// Of a poll that two connections commit side by side only one is committed: the other's request never arrives, its answer is lost, or
// the process dies before it comes. What was committed alone is not decided again, what was not is, and all of it is published once.
func TestOneConnectionOfTwoHasCommitted(t *testing.T) {
	for name, second := range map[string]func(*link) (forward bool){
		"the other's request never arrives": func(*link) bool { return false },
		"the other's answer is lost":        func(l *link) bool { l.loseAnswer(); return true },
		"the process dies":                  nil,
	} {
		t.Run(name, func(t *testing.T) {
			for range 8 { // what the first poll has is the client's affair, and may be of one partition alone
				if oneOfTwoCommits(t, second) {
					return
				}
			}
			require.Fail(t, "no poll was committed over both connections")
		})
	}
}

// oneOfTwoCommits says whether there were two commits at the same time.
func oneOfTwoCommits(t *testing.T, second func(*link) bool) (both bool) {
	b := onKfake(t)
	orders := b.orders("CHAIR", 80)
	b.send(orders...)
	b.send(b.orders(b.otherPartition(orders[0].Partition), 80)...) // a partition each, so a lane each; and too many for one transaction
	p := newProxy(t, b.config.PostgresURL)
	var commits, beside atomic.Int32
	came, stopped := make(chan struct{}), make(chan struct{})
	p.at(func(l *link) bool {
		switch commits.Add(1) {
		case 1:
			select { // the first is held until the second is there, which it is only if they are of one poll
			case <-came:
				beside.Store(1)
			case <-time.After(time.Second):
			}
			return true
		case 2:
			close(came)
			b.awaitOneApplied()
			if second == nil {
				<-stopped
				return false
			}
			return second(l)
		}
		return true
	})
	stop := b.start(sudden, func(c *allocator.Config) { c.PostgresURL = p.url })
	if second == nil {
		b.awaitOneApplied()
		stop()
		close(stopped)
		b.start(small)
	}
	b.check(162)
	return beside.Load() == 1
}

// awaitOneApplied waits until a partition is applied, whichever.
func (b *bench) awaitOneApplied() {
	conn := b.postgres()
	defer conn.Close(b.t.Context())
	for applied := 0; applied == 0 && b.t.Context().Err() == nil; {
		if err := conn.QueryRow(b.t.Context(), "SELECT count(*) FROM partitions WHERE next_offset > 0").Scan(&applied); err != nil {
			b.t.Errorf("read what is applied: %v", err)
			return
		}
	}
}
