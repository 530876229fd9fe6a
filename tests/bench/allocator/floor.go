package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/tests/bench/report"
)

const floorTable = "floor"

// floor measures what one command costs at the least, alone: a Kafka transaction of one record, and a Postgres commit of one row.
func (b *bench) floor(ctx context.Context) (err error) {
	site, err := b.ground.NewSite(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	conn, err := pgx.Connect(ctx, site.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "INSERT INTO partitions (partition, topic_id) VALUES (0, '')"); err != nil {
		return err
	}
	commit, err := each(b.FloorTimes, func() error {
		_, err := conn.Exec(ctx, "UPDATE partitions SET next_offset = next_offset + 1")
		return err
	})
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(site.Config.Opts("floor"), kgo.TransactionalID(site.Config.TopicPrefix),
		kgo.DefaultProduceTopic(site.Set.Events.Name), kgo.ConcurrentTransactionsBackoff(time.Millisecond))...)
	if err != nil {
		return err
	}
	defer client.Close()
	transaction, err := each(b.FloorTimes, func() error {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		if err := client.ProduceSync(ctx, kgo.StringRecord("floor")).FirstErr(); err != nil {
			return err
		}
		return client.EndTransaction(ctx, kgo.TryCommit)
	})
	b.report.Add(floorTable, "a Kafka transaction of one record", "took", "ms", transaction)
	b.report.Add(floorTable, "a Postgres commit of one row", "took", "ms", commit)
	return err
}

// each returns the median of how long something took, so many times one after the other, in ms.
func each(times int, do func() error) (float64, error) {
	took := make([]float64, times)
	for i := range took {
		began := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = float64(time.Since(began).Microseconds()) / 1000
	}
	return report.Median(took), nil
}
