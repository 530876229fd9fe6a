package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/topics"
)

const (
	zipfExponent = 1.1
	// transactions of events a second, as an allocator that has something to do.
	transactions = 50
	freshWithin  = time.Second // what answers have to be, from when the question was asked
)

// stock is what was published of the SKUs, and what was answered: nobody may be told less than somebody was told before he asked,
// nor what was another second ago.
type stock struct {
	mu   sync.Mutex
	skus []published
	// what the answers came to
	oldest       time.Duration
	back, old    int
	lastViolated string
}

// published is of one SKU: when its versions from 2 on were committed, and the newest that anybody was told of.
type published struct {
	committed []time.Time
	told      uint64
}

func newZipf(skus int) *rand.Zipf {
	return rand.NewZipf(rand.New(rand.NewPCG(rand.Uint64(), 0)), zipfExponent, 1, uint64(skus-1))
}

// publish changes SKUs at a steady rate until ctx ends, whether or not anybody keeps up: each event allocates one unit.
func (s *site) publish(ctx context.Context, k *stock) error {
	client, err := kgo.NewClient(append(s.config.Gateway.Kafka.Opts("bench"), kgo.TransactionalID(s.name))...)
	if err != nil {
		return err
	}
	defer client.Close()
	zipf := newZipf(s.SKUs)
	topic := topics.Declared(s.name).Events.Name
	next := map[int]uint64{}
	start := time.Now()
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(start.Add(time.Duration(tick) * time.Second / transactions))):
		}
		var records []*kgo.Record
		var changed []int
		for range s.Events / transactions {
			sku := int(zipf.Uint64())
			if next[sku] == 0 {
				next[sku] = 2
			}
			changed, records = append(changed, sku), append(records, eventOf(topic, sku, next[sku]))
			next[sku]++
		}
		// A transaction that was begun is ended: what is not known of cannot be checked.
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		whole := context.WithoutCancel(ctx)
		if err := client.ProduceSync(whole, records...).FirstErr(); err != nil {
			return err
		}
		if err := client.EndTransaction(whole, kgo.TryCommit); err != nil {
			return err
		}
		k.commit(changed, time.Now())
	}
}

// projected waits until the read model has all that was published, by an earlier measurement: a gateway that begins before that does
// not know the events that it lacks, and may tell of a SKU with batches that are newer.
func (s *site) projected(ctx context.Context) error {
	client, err := kgo.NewClient(s.config.Gateway.Kafka.Opts("bench")...)
	if err != nil {
		return err
	}
	defer client.Close()
	group := topics.Declared(s.name).ProjectorGroupOf(stores.ClickHouse)
	for end := time.Now().Add(readyWithin); ; time.Sleep(20 * time.Millisecond) {
		lags, err := kadm.NewClient(client).Lag(ctx, group)
		if err == nil {
			err = lags.Error()
		}
		if err == nil {
			of := lags[group]
			lag := of.Lag.Total()
			if lag == 0 {
				return nil
			}
			err = fmt.Errorf("%d events are not projected", lag)
		}
		if time.Now().After(end) { // a broker that has just started has no coordinator at first
			return fmt.Errorf("ask how far the projector is: %w", err)
		}
	}
}

func eventOf(topic string, sku int, version uint64) *kgo.Record {
	name, left := fmt.Sprint("SKU-", sku), stockOf-int32(version)+1
	event := schemas.Event{
		Type: schemas.EventAllocated, SKU: name, Version: version, CommandID: fmt.Sprintf("%s-%d", name, version), CommandSource: "/bench", Last: true,
		OrderID: fmt.Sprintf("%s-%d", name, version), Qty: 1, BatchRef: "batch", BatchQty: stockOf, BatchAvailable: left, Available: int64(left),
	}
	return &kgo.Record{
		Topic: topic, Key: []byte(name), Value: schemas.AppendEvent(nil, &event),
		Headers: cloudevents.Headers(cloudevents.Envelope{
			ID: event.CommandID, Source: "/lotline/allocator", Type: event.Type.CEType(), ContentType: schemas.ContentTypeJSON, Time: time.Now(),
		}),
	}
}

func (k *stock) commit(skus []int, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, sku := range skus {
		k.skus[sku].committed = append(k.skus[sku].committed, at)
	}
}

// told returns the newest version of SKUs that anybody was told of.
func (k *stock) told(skus ...int) []uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	told := make([]uint64, len(skus))
	for i, sku := range skus {
		told[i] = k.skus[sku].told
	}
	return told
}

// answered takes in that whoever asked at that time, when told was the newest that anybody had been told of, was told of a
// version.
func (k *stock) answered(asked time.Time, told uint64, sku int, version uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := &k.skus[sku]
	if version < told {
		k.back++
		k.lastViolated = fmt.Sprintf("SKU-%d: %d after %d", sku, version, told)
	}
	p.told = max(p.told, version)
	if newer := int(version) - 1; newer < len(p.committed) { // the next version's
		age := asked.Sub(p.committed[newer])
		k.oldest = max(k.oldest, age)
		if age > freshWithin {
			k.old++
			k.lastViolated = fmt.Sprintf("SKU-%d: version %d, %s after the next was committed", sku, version, age)
		}
	}
}
