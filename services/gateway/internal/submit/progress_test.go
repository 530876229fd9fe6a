package submit

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shadow is a Follower that remembers what it heard.
type shadow struct {
	mu         sync.Mutex
	began      []map[int32]int64
	heard      map[string]uint64 // the newest version, by SKU
	unreadable int
	current    time.Time
	proofs     []time.Time
	ofThen     map[string]uint64 // what was heard by then
}

func (e *shadow) Began(from map[int32]int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.began, e.heard, e.current = append(e.began, from), map[string]uint64{}, time.Time{}
}

func (e *shadow) Event(event *schemas.Event, _ int32, _ int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard[event.SKU] = event.Version
}

func (e *shadow) Unreadable(int32, int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unreadable++
}

func (e *shadow) Current(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.ofThen, e.proofs = at, maps.Clone(e.heard), append(e.proofs, at)
}

// proof is what was heard when everything committed before at had been; false: nobody has said so.
func (e *shadow) proof(at time.Time) (heard map[string]uint64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ofThen, e.current.After(at)
}

// listen is newRig with somebody who listens.
func shadowed(t *testing.T) (*rig, *shadow) {
	r := newRig(t)
	return r, r.shadow(t)
}

func (r *rig) shadow(t *testing.T) *shadow {
	e := new(shadow)
	r.tail = NewTail(r.tail.opts, events, r.waiters, r.tail.report, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), e)
	r.follow(t)
	return e
}

// publish commits an event in a transaction of its own, after one that is aborted.
func (r *rig) publish(t *testing.T, partition int32, sku string, version uint64) (committed time.Time) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.TransactionalID("allocator"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		require.NoError(t, client.BeginTransaction())
		event := &schemas.Event{Type: schemas.EventAllocated, SKU: sku, Version: version, CommandID: "c", CommandSource: "/other"}
		if end == kgo.TryAbort {
			event.Version += 1000
		}
		record := eventRecord(event)
		record.Partition = partition
		require.NoError(t, client.ProduceSync(t.Context(), record).FirstErr())
		require.NoError(t, client.EndTransaction(t.Context(), end))
	}
	return time.Now()
}

// requireHeard waits for the proof that everything committed until now was heard, and returns what that is.
func (e *shadow) requireHeard(t *testing.T, committed time.Time) (heard map[string]uint64) {
	t.Helper()
	require.Eventually(t, func() (ok bool) { heard, ok = e.proof(committed); return ok }, 30*time.Second, 10*time.Millisecond)
	return heard
}

func TestWhoIsCurrentHasHeardOfEverything(t *testing.T) {
	r, e := shadowed(t)
	require.Len(t, e.began[0], 3)
	for version := range uint64(5) {
		r.publish(t, int32(version%3), "CHAIR", version+1)
		committed := r.publish(t, int32(version+1)%3, "LAMP", version+1)
		require.Equal(t, map[string]uint64{"CHAIR": version + 1, "LAMP": version + 1}, e.requireHeard(t, committed))
	}
	require.Len(t, e.began, 1)
}

// A partition cannot be read for a while, or it is not known where it ends: nobody may think that nothing came.
func TestWhoMissesSomethingIsNotCurrent(t *testing.T) {
	for name, key := range map[string]kmsg.Key{"no records": kmsg.Fetch, "no ends": kmsg.ListOffsets, "no partitions": kmsg.Metadata} {
		t.Run(name, func(t *testing.T) {
			r, e := shadowed(t)
			e.requireHeard(t, time.Now())
			var blind atomic.Bool
			blinded := make(chan struct{}, 1000)
			r.cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
				r.cluster.KeepControl()
				if !blind.Load() {
					return nil, nil, false
				}
				r.cluster.SleepControl(func() { time.Sleep(10 * time.Millisecond) })
				blinded <- struct{}{}
				return req.ResponseKind(), nil, true
			})
			blind.Store(true)
			<-blinded
			since := time.Now()
			if key == kmsg.Fetch { // the others are asked for by who publishes too, and then nothing comes
				r.publish(t, 0, "CHAIR", 1)
				since = time.Now()
			}
			require.Never(t, func() bool { _, ok := e.proof(since); return ok }, 500*time.Millisecond, 10*time.Millisecond)
			e.mu.Lock()
			mended, proofs := time.Now(), len(e.proofs)
			e.mu.Unlock()
			blind.Store(false)
			heard := e.requireHeard(t, since)
			if key == kmsg.Fetch {
				require.Equal(t, map[string]uint64{"CHAIR": 1}, heard)
				e.mu.Lock()
				defer e.mu.Unlock()
				require.True(t, e.proofs[proofs].Before(mended), "what is proven is how it was when the ends were asked for")
			}
		})
	}
}

func TestWhoIsCurrentHasHeardOfNewPartitions(t *testing.T) {
	r, e := shadowed(t)
	_, err := kadm.NewClient(r.client).CreatePartitions(t.Context(), 1, events)
	require.NoError(t, err)
	committed := r.publish(t, 3, "CHAIR", 7)
	require.Equal(t, map[string]uint64{"CHAIR": 7}, e.requireHeard(t, committed))
}

func TestFollowersHearThatTheTailBeginsAgain(t *testing.T) {
	r, e := shadowed(t)
	e.requireHeard(t, r.publish(t, 0, "CHAIR", 1))
	admin := kadm.NewClient(r.client)
	_, err := admin.DeleteTopic(t.Context(), events)
	require.NoError(t, err)
	_, err = admin.CreateTopic(t.Context(), 3, 1, nil, events)
	require.NoError(t, err)
	r.await(t, false)
	r.awaitRunning(t)
	require.Equal(t, map[string]uint64{"CHAIR": 2}, e.requireHeard(t, r.publish(t, 1, "CHAIR", 2)))
	e.mu.Lock()
	defer e.mu.Unlock()
	require.GreaterOrEqual(t, len(e.began), 2)
}

// The client learns of it from its next fetch only. Until then the end of the new topic looks like one that was reached.
func TestATopicMadeAnewIsNotTakenForTheOldOne(t *testing.T) {
	r, e := shadowed(t)
	e.requireHeard(t, r.publish(t, 0, "CHAIR", 1))
	blinded := make(chan struct{}, 1000)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.cluster.SleepControl(func() { time.Sleep(10 * time.Millisecond) })
		blinded <- struct{}{}
		return req.ResponseKind(), nil, true
	})
	<-blinded
	admin := kadm.NewClient(r.client)
	_, err := admin.DeleteTopic(t.Context(), events)
	require.NoError(t, err)
	_, err = admin.CreateTopic(t.Context(), 3, 1, nil, events)
	require.NoError(t, err)
	made := time.Now()
	r.await(t, false)
	e.mu.Lock()
	defer e.mu.Unlock()
	require.False(t, e.current.After(made))
}

// An event that is not committed yet is not missed, and nobody waits for it.
func TestAnOpenTransaction(t *testing.T) {
	r := newRig(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.TransactionalID("open"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.BeginTransaction())
	require.NoError(t, client.ProduceSync(t.Context(), eventRecord(&schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", Version: 1, CommandID: "c"})).FirstErr())
	e := r.shadow(t)
	require.Empty(t, e.requireHeard(t, time.Now()))
	require.NoError(t, client.EndTransaction(t.Context(), kgo.TryCommit))
	require.Equal(t, map[string]uint64{"CHAIR": 1}, e.requireHeard(t, time.Now()))
}

func TestFollowersHearOfWhatCannotBeRead(t *testing.T) {
	r, e := shadowed(t)
	record := &kgo.Record{Topic: events, Value: []byte("\x00 no event"), Headers: cloudevents.Headers(cloudevents.Envelope{ID: "e", Type: "lotline.event.v1.Allocated"})}
	require.NoError(t, r.client.ProduceSync(t.Context(), record).FirstErr())
	e.requireHeard(t, time.Now())
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Equal(t, 1, e.unreadable)
}
