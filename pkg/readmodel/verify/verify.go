// Package verify holds Postgres, the events topic and ClickHouse against each other while everything runs.
//
// What it believes is the topic: a fold of the events (fold.go) must be what Postgres has, and what ClickHouse has. Of
// what the topic's retention has deleted, ClickHouse's log of events is what remains, and is believed (history.go).
// The stores hash their own rows (hash.go, stores.go), so that what crosses the network is a checksum a bucket of
// SKUs; only where checksums differ are SKUs asked for, and only of SKUs that differ their rows (rows.go). judge.go
// tells a store that is behind from one that is wrong. What became of commands is compared apart (outcomes.go).
//
// The operator's `lotline verify` calls it. It may import schemas, pkg and client libraries, and neither a service nor a
// store of readmodel: it judges what they wrote, and so reads their tables by SQL of its own.
package verify

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

// Options say what to compare. The connections are the caller's to close; Run uses them one query at a time.
type Options struct {
	Kafka       kafkaclient.Config
	EventsTopic string
	Group       string // the projector's consumer group
	Postgres    *pgx.Conn
	ClickHouse  driver.Conn // nil: Postgres alone is held against the events
	// Wait is how long a store that is behind is given to catch up.
	Wait time.Duration
	// SKUsMax bounds the SKUs whose rows are compared one by one.
	SKUsMax int
}

// Run compares. An error says that it could not; what does not agree is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	began := time.Now()
	events, err := openEventLog(ctx, o.Kafka, o.EventsTopic)
	if err != nil {
		return nil, err
	}
	defer events.close()
	j := &judge{Options: o, log: events, fold: newFold()}
	if o.ClickHouse != nil {
		if j.outcomes.marks, err = events.projected(ctx, o.Group); err != nil {
			return nil, err
		}
	}
	older, err := j.history(ctx, events, nil, j.fold.add)
	if err != nil {
		return nil, err
	}
	report, differ, err := j.compareBuckets(ctx)
	if err != nil {
		return nil, err
	}
	report.EventsOlder = older
	outcomes, err := j.compareOutcomes(ctx, report)
	if err != nil {
		return nil, err
	}
	if len(differ) > 0 {
		if err := j.settle(ctx, differ); err != nil {
			return nil, err
		}
	}
	if err := j.report(ctx, report, outcomes); err != nil {
		return nil, err
	}
	report.Seconds = time.Since(began).Seconds()
	return report, nil
}

// compareBuckets reads the topic to its end, and returns the buckets in which a store comes to something else than
// the events. While commands come in the three are not looked at in one moment, so that is no fault yet.
func (j *judge) compareBuckets(ctx context.Context) (*Report, []int32, error) {
	var postgres, clickHouse map[sumKey]sum
	asking, asked := errgroup.WithContext(ctx)
	asking.Go(func() (err error) {
		postgres, _, err = postgresSums(asked, j.Postgres, scope{})
		return err
	})
	asking.Go(func() (err error) {
		clickHouse, err = j.clickHouseSums(asked, scope{})
		return err
	})
	asking.Go(func() error { return j.advance(asked) }) // meanwhile: most of it
	if err := asking.Wait(); err != nil {
		return nil, nil, err
	}
	// What the stores have got since is in the rest.
	if err := j.advance(ctx); err != nil {
		return nil, nil, err
	}
	folded := j.fold.byBucket()
	var differ []int32
	for b := range int32(buckets) {
		key := sumKey{bucket: b}
		if want := folded[key]; !postgres[key].sameState(want) || j.ClickHouse != nil && clickHouse[key] != want {
			differ = append(differ, b)
		}
	}
	counts := []Counts{count(storeEvents, folded), count(storePostgres, postgres)}
	if j.ClickHouse != nil {
		counts = append(counts, count(storeClickHouse, clickHouse))
	}
	return &Report{
		Stores: counts, Buckets: buckets, BucketsDiffering: len(differ), Events: j.log.read,
	}, differ, nil
}

// advance folds what has come since the last time.
func (j *judge) advance(ctx context.Context) error {
	add := func(e *logged) {
		j.fold.add(e)
		j.outcomes.add(e)
	}
	return j.log.advance(ctx, add, func(place string, err error) { j.fold.fault("", "%s cannot be read: %v", place, err) })
}

func count(store string, sums map[sumKey]sum) Counts {
	c := Counts{Store: store}
	for _, s := range sums {
		c.SKUs += s.parts[skuPart].rows
		c.Batches += s.parts[batchPart].rows
		c.Lines += s.parts[linePart].rows
	}
	return c
}
