package eventlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// picky is a store that refuses some events, and remembers which.
type picky struct {
	*sink
	refuses func(id string) bool
	noted   []readmodel.Aside
}

var _ readmodel.Ledger = (*picky)(nil)

func (p *picky) Apply(ctx context.Context, b []readmodel.Record) error {
	if slices.ContainsFunc(ids(b), p.refuses) {
		p.mu.Lock()
		p.attempts = append(p.attempts, ids(b))
		p.mu.Unlock()
		return &readmodel.RefusedError{Err: errors.New("what is this")}
	}
	return p.sink.Apply(ctx, b)
}

func (p *picky) SetAside(_ context.Context, what []readmodel.Aside) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noted = append(p.noted, what...)
	return nil
}

func (p *picky) Asides(_ context.Context, after readmodel.Aside, limit int) ([]readmodel.Aside, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	order := func(a, b readmodel.Aside) int {
		return cmp.Or(strings.Compare(a.SKU, b.SKU), cmp.Compare(a.Version, b.Version), strings.Compare(a.EventID, b.EventID), strings.Compare(a.What, b.What))
	}
	noted := slices.SortedFunc(slices.Values(p.noted), order)
	noted = slices.DeleteFunc(noted, func(a readmodel.Aside) bool { return order(a, after) <= 0 })
	return noted[:min(limit, len(noted))], len(p.noted), nil
}

func (p *picky) Missing(context.Context, []readmodel.Aside, time.Time) ([]readmodel.Aside, error) {
	return nil, nil
}

func (p *picky) Returned(context.Context, []readmodel.Aside) error { return nil }

func TestRefusedEventsAreSetAsideAndTheRestFlows(t *testing.T) {
	b := newBroker(t)
	s := &picky{sink: newSink(), refuses: func(id string) bool { return id == "0-a0" || id == "0-a63" || id == "1-a5" }}
	all := slices.Concat(b.produce(0, "a", 64), b.produce(1, "a", 20))
	p := b.start(s)
	want := slices.DeleteFunc(slices.Clone(all), s.refuses)
	s.waitFor(t, want)
	b.waitCommitted(map[int32]int64{0: 64, 1: 20})
	require.ElementsMatch(t, want, s.all(), "each is written once")
	var noted []string
	for _, a := range s.noted {
		require.Equal(t, readmodel.AsideRefused, a.What)
		require.Equal(t, "LAMP", a.SKU)
		require.Equal(t, "what is this", a.Reason)
		require.Contains(t, a.Event, `"sku":"LAMP"`)
		noted = append(noted, fmt.Sprintf("%d-a%d", a.Partition, a.Offset))
		require.Equal(t, noted[len(noted)-1], a.EventID)
	}
	require.ElementsMatch(t, []string{"0-a0", "0-a63", "1-a5"}, noted)
	require.Less(t, len(s.blocks()), 60, "halved, not tried one by one")
	require.Contains(t, p.health.Ready()[asideComponent], `store lacks 3 events, the first of SKU "LAMP": refused is version 1`)
	require.InDelta(t, 3, testutil.ToFloat64(p.consumer.metrics.asides), 0)
	p.stop()

	// Whoever comes next knows it, and the day it is mended.
	next := b.start(s)
	eventually(t, func() bool { return next.health.Ready()[asideComponent] != "" }, func() string { return fmt.Sprint(next.health.Ready()) })
	s.mu.Lock()
	s.noted = nil
	s.mu.Unlock()
	eventually(t, func() bool { return next.health.Ready()[asideComponent] == "" }, func() string { return fmt.Sprint(next.health.Ready()) })
}

// A table that refuses everything is no table of bad rows: nothing is set aside, and the block waits.
func TestATableThatRefusesEverythingIsWaitedFor(t *testing.T) {
	b := newBroker(t)
	s := &picky{sink: newSink(), refuses: func(string) bool { return true }}
	b.produce(0, "a", refusedMax+1)
	p := b.start(s)
	eventually(t, func() bool {
		return strings.Contains(p.health.Ready()["store"], "more than 10 events of a block are refused, so it is not for what is in them")
	}, func() string { return fmt.Sprint(p.health.Ready()) })
	eventually(t, func() bool {
		return testutil.ToFloat64(p.consumer.metrics.insertRetries.WithLabelValues(reasonRefused)) >= 2
	},
		func() string { return "it is not tried again" })
	require.Empty(t, s.all())
	s.mu.Lock()
	require.Empty(t, s.noted)
	s.mu.Unlock()
}

// A store that is overloaded is asked less often the longer it is, and again as often as before once it is not.
func TestAnOverloadedStoreIsAskedMoreSlowly(t *testing.T) {
	var p pace
	overloaded := fmt.Errorf("insert: %w", &readmodel.OverloadedError{Err: errors.New("too many parts")})
	var pauses []time.Duration
	for range 7 {
		p.answered(overloaded)
		pauses = append(pauses, p.pause)
	}
	require.Equal(t, []time.Duration{200e6, 400e6, 800e6, 1600e6, 3200e6, 5e9, 5e9}, pauses)
	p.answered(errors.New("away"))
	require.Equal(t, 5*time.Second, p.pause, "an outage says nothing of the load")
	n := 0
	for ; p.pause > 0; n++ {
		p.answered(nil)
	}
	require.Equal(t, 6, n)

	b := newBroker(t)
	s := newSink()
	s.fail(overloaded)
	consumer := b.start(s)
	want := b.produce(0, "a", 3)
	eventually(t, func() bool {
		return testutil.ToFloat64(consumer.consumer.metrics.insertRetries.WithLabelValues(reasonOverloaded)) >= 2
	},
		func() string { return "it is not tried again" })
	require.Contains(t, consumer.health.Ready()["store"], "too many parts")
	s.fail(nil)
	s.waitFor(t, want)
}
