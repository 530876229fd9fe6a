package console

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/topics"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestASlowViewerIsLetGoAndComesBack(t *testing.T) {
	h := newHub(newMeter())
	_, slow, leaveSlow, err := h.join(0)
	require.NoError(t, err)
	_, quick, leaveQuick, err := h.join(0)
	require.NoError(t, err)
	var seen int64
	for range viewerBehindMax + 5 {
		h.publish(&Sample{Time: time.Now().UnixMilli()})
		s := <-quick
		require.Greater(t, s.ID, seen)
		seen = s.ID
	}
	received := 0
	var last int64
	for s := range slow { // it is closed
		received, last = received+1, s.ID
	}
	require.Equal(t, viewerBehindMax, received)
	require.EqualValues(t, 1, h.meter.watched.Load())
	leaveSlow()
	kept, _, leave, err := h.join(last)
	require.NoError(t, err)
	require.Len(t, kept, 5, "what it missed")
	leave()
	leave()
	leaveQuick()
	require.False(t, h.meter.Listening())
}

func TestViewersAndSamplesAreBounded(t *testing.T) {
	c := newConsole(&library{})
	for range viewersMax {
		_, _, _, err := c.hub.join(0)
		require.NoError(t, err)
	}
	status, body, _ := get(c, "/console/live")
	require.Equal(t, 503, status)
	require.Contains(t, body, "64 consoles are open")
	for range samplesKept + 10 {
		c.hub.publish(&Sample{})
	}
	require.Len(t, c.hub.kept, samplesKept)
	c.hub.close()
	require.False(t, c.meter.Listening())
}

// Samples are made while somebody looks. Those of hours ago are not what happens now.
func TestOldSamplesAreNotShown(t *testing.T) {
	h := newHub(newMeter())
	h.publish(&Sample{Time: time.Now().Add(-3 * time.Hour).UnixMilli()})
	h.publish(&Sample{Time: time.Now().Add(-time.Minute).UnixMilli()})
	kept, _, leave, err := h.join(0)
	require.NoError(t, err)
	defer leave()
	require.Len(t, kept, 1)
	require.WithinDuration(t, time.Now(), time.UnixMilli(kept[0].Time), 2*time.Minute)
}

// event is one of the meter's, decided so long after its command came.
func event(m *meter, partition int32, offset int64, appended time.Time, took time.Duration) {
	m.Event(&kgo.Record{Partition: partition, Offset: offset, Timestamp: appended}, &cloudevents.Envelope{Time: appended.Add(-took)},
		&schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", Qty: 1})
}

func TestMeter(t *testing.T) {
	m := newMeter()
	now := time.Now()
	for i := range 100 {
		event(m, 0, int64(i), now.Add(time.Duration(i)*10*time.Millisecond), time.Duration(i+1)*time.Millisecond)
	}
	at, ok := m.appended(0, 42)
	require.True(t, ok)
	require.WithinDuration(t, now.Add(420*time.Millisecond), at, markEvery)
	_, ok = m.appended(0, 100)
	require.False(t, ok, "there is none yet")
	_, ok = m.appended(1, 0)
	require.False(t, ok)
	events, latency, recent := m.take()
	require.Equal(t, 100, events)
	require.Equal(t, &Latency{P50: 51, P95: 96, Max: 100}, latency)
	require.Len(t, recent, recentMax)
	events, latency, _ = m.take()
	require.Zero(t, events)
	require.Nil(t, latency)
	for i := range 2 * marksMax {
		event(m, 0, int64(i), now.Add(time.Duration(i)*time.Second), -time.Second)
	}
	require.LessOrEqual(t, len(m.marks[0]), marksMax)
	_, latency, _ = m.take()
	require.Zero(t, latency.Max, "clocks that went back are no time at all")
}

// How far the read model is behind is known of each event that was seen, also of one that came right after another.
func TestAProjectorThatStandsStillWithinABurst(t *testing.T) {
	c := newConsole(&library{})
	now := time.Now()
	for i, at := range []time.Duration{0, 30 * time.Millisecond, 60 * time.Millisecond} {
		event(c.meter, 0, int64(10+2*i), now.Add(at-time.Hour), 0)
	}
	s := standing{at: now, events: map[int32]int64{0: 16}, projected: map[int32]int64{0: 14}}
	require.InDelta(t, time.Hour.Milliseconds(), *c.unprojected(s), 200)
	event(c.meter, 0, 16, now.Add(-time.Second), 0)
	s.events[0] = 18
	require.InDelta(t, time.Hour.Milliseconds(), *c.unprojected(s), 200)
	s.projected[0] = 16
	require.InDelta(t, time.Second.Milliseconds(), *c.unprojected(s), 200)
}

// TestLive watches a Kafka in which a group is behind, then one that is away, and then one that is back.
func TestLive(t *testing.T) {
	set := topics.Declared("lotline")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, set.Commands.Name, set.Events.Name), kfake.SeedTopics(1, set.DeadLetters.Name))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	for range 5 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: set.Commands.Name, Partition: 1}).FirstErr())
	}
	var committed kadm.Offsets
	committed.AddOffset(set.Commands.Name, 1, 2, -1)
	require.NoError(t, kadm.NewClient(client).CommitAllOffsets(t.Context(), set.AllocatorGroup, committed))

	c := newConsole(&library{}, kgo.SeedBrokers(cluster.ListenAddrs()...))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	server := httptest.NewServer(c.Handler())
	defer server.Close()
	response, err := http.Get(server.URL + "/console/live")
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	next := func() (s Sample) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && strings.Contains(data, `"time"`) {
				require.NoError(t, json.Unmarshal([]byte(data), &s))
				return s
			}
		}
		require.Fail(t, "the stream has ended", "%v", lines.Err())
		return s
	}
	s := next()
	require.Equal(t, []int64{0, 3}, s.Allocators.Lag)
	require.Equal(t, []int64{0, 0}, s.Projectors.Lag)
	require.Nil(t, s.Commands, "one look is no rate")
	require.Zero(t, *s.Unprojected)
	for range 7 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: set.Commands.Name, Partition: 0}).FirstErr())
	}
	rate := 0.0
	for s.Allocators.Lag[0] < 7 {
		s = next()
		rate = max(rate, *s.Commands)
	}
	require.Equal(t, []int64{7, 3}, s.Allocators.Lag)
	require.Positive(t, rate)

	unprojecting := newConsole(&library{}, kgo.SeedBrokers(cluster.ListenAddrs()...))
	unprojecting.ProjectorGroup = "" // the write side answers
	sample, _ := unprojecting.measure(t.Context(), kadm.NewClient(client), standing{}, time.Now())
	require.Equal(t, []int64{7, 3}, sample.Allocators.Lag)
	require.Nil(t, sample.Projectors)
	require.Zero(t, *sample.Unprojected)

	stop()
	require.NoError(t, <-done)
	for lines.Scan() { // to the end of the stream: a server that stops waits for nobody
	}
	require.NoError(t, lines.Err())
}
