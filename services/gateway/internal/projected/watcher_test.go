package projected

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// group is a projector group that answers after a while, with what it had when it was asked.
type group struct {
	mu    sync.Mutex
	at    map[int32]int64
	err   error
	asked atomic.Int64
}

func (g *group) commit(partition int32, next int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = map[int32]int64{partition: next}
}

func (g *group) fetch(context.Context) (map[int32]int64, error) {
	g.asked.Add(1)
	g.mu.Lock()
	at, err := g.at, g.err
	g.mu.Unlock()
	time.Sleep(5 * time.Millisecond)
	return at, err
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestAWaiterWaitsUntilItsTokenIsProjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(group)
		w := NewWatcher(g.fetch, nil, quiet())
		g.commit(3, 7) // event 6 is projected, 7 is not
		require.NoError(t, w.Wait(t.Context(), Token{3: 6}))
		done := make(chan error, 1)
		go func() { done <- w.Wait(t.Context(), Token{3: 7}) }()
		time.Sleep(time.Second)
		require.Empty(t, done)
		g.commit(3, 8)
		require.NoError(t, <-done)
		synctest.Wait()
		asked := g.asked.Load()
		require.Less(t, asked, int64(60))
		time.Sleep(time.Minute)
		require.Equal(t, asked, g.asked.Load(), "it sleeps while nobody waits")
	})
}

func TestATokenOfSeveralPartitionsNeedsAll(t *testing.T) {
	token := Token{0: 5, 1: 9}
	require.False(t, token.covered(map[int32]int64{0: 6}))
	require.False(t, token.covered(map[int32]int64{0: 6, 1: 9}))
	require.True(t, token.covered(map[int32]int64{0: 6, 1: 10}))
	require.False(t, Token{0: 0}.covered(nil), "a group that committed nothing has projected nothing")
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(group)
		w := NewWatcher(g.fetch, nil, quiet())
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		require.ErrorIs(t, w.Wait(ctx, Token{3: 7}), ErrBehind)
		time.Sleep(time.Minute) // for the watch to end
		w.mu.Lock()
		defer w.mu.Unlock()
		require.Empty(t, w.waiting)
		require.False(t, w.busy)
	})
}

// An answer to a request that was made before the waiter came says nothing: the group's offsets may have been set back
// meanwhile, as by a rebuild.
func TestAnswersToEarlierRequestsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(group)
		g.commit(3, 8)
		w := NewWatcher(g.fetch, nil, quiet())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- w.Wait(t.Context(), Token{3: 7}) }()
		synctest.Wait() // the request is under way
		g.commit(3, 0)
		go func() { second <- w.Wait(t.Context(), Token{3: 7}) }()
		require.NoError(t, <-first)
		time.Sleep(time.Second)
		require.Empty(t, second)
		g.commit(3, 8)
		require.NoError(t, <-second)
	})
}

func TestManyShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(group)
		g.commit(3, 8)
		w := NewWatcher(g.fetch, nil, quiet())
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if err := w.Wait(t.Context(), Token{3: 7}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, g.asked.Load(), int64(2))
	})
}

func TestKafkaAwayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &group{err: errors.New("no broker")}
		log := new(bytes.Buffer)
		w := NewWatcher(g.fetch, nil, slog.New(slog.NewTextHandler(log, nil)))
		done := make(chan error, 1)
		go func() { done <- w.Wait(t.Context(), Token{3: 7}) }()
		time.Sleep(25 * time.Second)
		require.Empty(t, done, "it is not known to be projected")
		g.mu.Lock()
		g.err, g.at = nil, map[int32]int64{3: 8}
		g.mu.Unlock()
		require.NoError(t, <-done)
		require.Equal(t, 3, bytes.Count(log.Bytes(), []byte("no broker")), "said now and then")
	})
}

func TestNobodyWaitsOnceItIsToStop(t *testing.T) {
	stop := make(chan struct{})
	w := NewWatcher(new(group).fetch, stop, quiet())
	done := make(chan error, 1)
	go func() { done <- w.Wait(t.Context(), Token{3: 7}) }()
	close(stop)
	require.ErrorIs(t, <-done, ErrBehind)
	require.ErrorIs(t, w.Wait(t.Context(), Token{3: 7}), ErrBehind)
}

func TestNothingToWaitFor(t *testing.T) {
	require.NoError(t, NewWatcher(nil, nil, quiet()).Wait(t.Context(), Token{3: 7}), "the write side")
	require.NoError(t, NewWatcher(new(group).fetch, nil, quiet()).Wait(t.Context(), nil))
}

func TestCommitted(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "events", "other"))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	fetch := Committed(client, "events", "projector")
	offsets, err := fetch(t.Context())
	require.NoError(t, err)
	require.Empty(t, offsets, "the group is not there yet")
	var commit kadm.Offsets
	commit.AddOffset("events", 2, 41, -1)
	commit.AddOffset("other", 1, 7, -1)
	require.NoError(t, kadm.NewClient(client).CommitAllOffsets(t.Context(), "projector", commit))
	offsets, err = fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{2: 41}, offsets)
	cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = fetch(ctx)
	require.ErrorContains(t, err, "projector")
}
