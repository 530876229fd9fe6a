package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/topics"
)

const (
	perSecond = 50 // commands for the SKU that is looked at
	probeSKU  = "PROBE"
	otherSKUs = 20
	// probeEvery is between two questions for the probe, as in the projector's benchmark: asked more often they take from what is
	// measured.
	probeEvery = 10 * time.Millisecond
)

// live is commands at a steady rate, and how long each of the probe's took to be a row.
type live struct {
	stopped context.CancelFunc
	group   *errgroup.Group

	mu   sync.Mutex
	seen []seen
}

// seen is when a command was acknowledged, and how long it took from then.
type seen struct {
	at   time.Time
	took time.Duration
}

func took(all []seen) []time.Duration {
	took := make([]time.Duration, len(all))
	for i := range all {
		took[i] = all[i].took
	}
	return took
}

// during returns the commands that were seen while fn ran, in the order in which they were acknowledged.
func (l *live) during(ctx context.Context, fn func() error) ([]seen, error) {
	l.mu.Lock()
	from := len(l.seen)
	l.mu.Unlock()
	if err := fn(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	found := slices.Clone(l.seen[from:])
	if len(found) < perSecond {
		return nil, fmt.Errorf("only %d rows were seen: the live path stands still (%w)", len(found), context.Cause(ctx))
	}
	return found, nil
}

func (l *live) stop() error {
	l.stopped()
	return l.group.Wait()
}

// follow sends commands, and watches the probe's become rows: each allocates a line, so the SKU's version counts them.
func (s *site) follow(ctx context.Context) (*live, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.on.Kafka...), kgo.DefaultProduceTopic(topics.Declared(s.on.TopicPrefix).Commands.Name))
	if err != nil {
		return nil, err
	}
	skus := []string{probeSKU}
	for i := range otherSKUs {
		skus = append(skus, fmt.Sprintf("OTHER-%d", i))
	}
	for _, sku := range skus {
		if err := client.ProduceSync(ctx, command("CreateBatch", sku, "b-"+sku, fmt.Sprintf(`{"ref":"b","sku":%q,"qty":1000000000,"eta":null}`, sku))).FirstErr(); err != nil {
			return nil, err
		}
	}
	running, cancel := context.WithCancel(ctx)
	l := &live{stopped: cancel, group: new(errgroup.Group)}
	acknowledged := make(chan time.Time, 100_000) // of the probe's commands, in order
	l.group.Go(func() error {
		defer client.Close()
		defer close(acknowledged)
		start := time.Now()
		for tick := 1; running.Err() == nil; tick++ {
			time.Sleep(time.Until(start.Add(time.Duration(tick) * time.Second / perSecond)))
			records := []*kgo.Record{allocate(probeSKU, tick, 0)}
			for i := 1; i < s.Rate/perSecond; i++ {
				records = append(records, allocate(skus[1+i%otherSKUs], tick, i))
			}
			if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
				return err
			}
			acknowledged <- time.Now()
		}
		return nil
	})
	l.group.Go(func() error { return l.watch(ctx, s, acknowledged) })
	return l, nil
}

func allocate(sku string, tick, i int) *kgo.Record {
	order := fmt.Sprintf("live-%d-%d", tick, i)
	return command("Allocate", sku, order, fmt.Sprintf(`{"orderid":%q,"sku":%q,"qty":1}`, order, sku))
}

func command(kind, sku, id, value string) *kgo.Record {
	return &kgo.Record{Key: []byte(sku), Value: []byte(value), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(id)},
		{Key: "ce_source", Value: []byte("/bench")},
		{Key: "ce_type", Value: []byte("lotline.command.v1." + kind)},
	}}
}

// watch asks for the probe's version all the time, and notes for each command how long it took until an answer had it.
func (l *live) watch(ctx context.Context, s *site, acknowledged <-chan time.Time) error {
	version := uint64(1) // the batch
	for at := range acknowledged {
		version++
		newest, err := s.await(ctx, version)
		if err != nil {
			return err
		}
		answered := time.Now()
		l.note(at, answered)
		for ; version < newest; version++ { // other commands that this answer has
			at, more := <-acknowledged
			if !more {
				return nil
			}
			l.note(at, answered)
		}
	}
	return nil
}

// note may be told of a row that was there before its acknowledgement.
func (l *live) note(acknowledged, answered time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, seen{acknowledged, max(0, answered.Sub(acknowledged))})
}

// await returns the probe's version for readers once it is at least that.
func (s *site) await(ctx context.Context, version uint64) (uint64, error) {
	for {
		var newest uint64
		if err := s.conn.QueryRow(ctx, "SELECT max(version) FROM skus FINAL WHERE sku = ? SETTINGS max_threads = 1", probeSKU).Scan(&newest); err != nil {
			return 0, err
		}
		if newest >= version {
			return newest, nil
		}
		if err := pause(ctx, probeEvery); err != nil {
			return 0, err
		}
	}
}
