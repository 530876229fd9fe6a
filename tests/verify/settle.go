package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/topics"
)

// Settle waits until both consumer groups, or the one that there is, are done with their topics.
func Settle(ctx context.Context, t Target) error {
	client, err := kgo.NewClient(t.Kafka.Opts("lotline-verify")...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	declared := topics.Declared(t.Kafka.TopicPrefix)
	projected := func(ctx context.Context) (map[int32]int64, error) {
		return committed(ctx, adm, declared.ProjectorGroup, declared.Events.Name)
	}
	published := func(ctx context.Context) (map[int32]int64, error) { return Published(ctx, t, adm) }
	for _, stage := range []struct {
		what, topic string
		done        func(context.Context) (map[int32]int64, error)
	}{
		{"what is published", declared.Commands.Name, published},
		{"what is projected", declared.Events.Name, projected},
	} {
		if stage.topic == declared.Events.Name && t.ClickHouse == "" {
			continue
		}
		for {
			done, err := stage.done(ctx)
			behind := int64(-1)
			if err == nil {
				behind, err = lag(ctx, t, adm, stage.topic, done)
			}
			if err == nil && behind == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s has not reached the end of %s, %d records behind: %w", stage.what, stage.topic, behind, errors.Join(err, ctx.Err()))
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// Published says by partition below which offset of the commands everything is published: what the allocators' group
// has committed. A partition of which it has nothing, because its offsets were deleted and no command came since, is
// where Postgres says. It is for waiting: whoever ends too early finds faults, and misses none.
func Published(ctx context.Context, t Target, adm *kadm.Client) (map[int32]int64, error) {
	declared := topics.Declared(t.Kafka.TopicPrefix)
	topic := declared.Commands
	published, err := committed(ctx, adm, declared.AllocatorGroup, topic.Name)
	if err != nil || len(published) >= int(topic.Partitions) {
		return published, err
	}
	id, err := topicID(ctx, adm, topic.Name)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, t.PostgresURL)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT partition, outbox_floor FROM partitions WHERE topic_id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("ask Postgres what is published: %w", err)
	}
	var partition int32
	var floor int64
	if _, err := pgx.ForEachRow(rows, []any{&partition, &floor}, func() error {
		if _, known := published[partition]; !known {
			published[partition] = floor
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read from Postgres what is published: %w", err)
	}
	return published, nil
}

// committed are a group's offsets by partition, without those that it does not have.
func committed(ctx context.Context, adm *kadm.Client, group, topic string) (map[int32]int64, error) {
	offsets, err := adm.FetchOffsets(ctx, group)
	if err = errors.Join(err, offsets.Error()); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch the offsets of %s: %w", group, err)
	}
	by := make(map[int32]int64)
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == topic && o.At >= 0 {
			by[o.Partition] = o.At
		}
	})
	return by, nil
}

// lag counts the records of a topic after what is done. Markers of transactions are no records, so the end is taken
// from the last record and not from the log's end.
func lag(ctx context.Context, t Target, adm *kadm.Client, topic string, done map[int32]int64) (int64, error) {
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return 0, err
	}
	// A transaction that a crash left open hides all that was committed after it, until its time is over: not the end.
	all, err := adm.ListEndOffsets(ctx, topic)
	if err = errors.Join(err, all.Error()); err != nil {
		return 0, err
	}
	var hidden int64
	all.Each(func(end kadm.ListedOffset) { hidden += end.Offset - must(ends.Lookup(topic, end.Partition)).Offset })
	if hidden > 0 {
		return hidden, nil
	}
	var behind int64
	open := make(map[int32]kgo.Offset)
	ends.Each(func(end kadm.ListedOffset) {
		if at := done[end.Partition]; at < end.Offset {
			behind += end.Offset - at
			open[end.Partition] = kgo.NewOffset().At(at)
		}
	})
	if behind == 0 || behind > 64 {
		return behind, nil
	}
	return recordsAfter(ctx, t.Kafka, topic, open)
}

// recordsAfter counts what lies between offsets and the ends.
func recordsAfter(ctx context.Context, kafka kafkaclient.Config, topic string, starts map[int32]kgo.Offset) (int64, error) {
	records, err := readFrom(ctx, kafka, topic, starts)
	return int64(len(records)), err
}

func must[T any](v T, _ bool) T { return v }
