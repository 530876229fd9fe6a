package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/projector/internal/projection"
)

// replayIdleMax is how long records that the broker says are there may stay away.
const replayIdleMax = 30 * time.Second

// Replay hands the events of some SKUs to the sink once more, from the topic's start to the end that it has now, and
// returns how many they were. It needs no group and disturbs none. Records that cannot be projected are left out: the
// consumer that stops at them names them.
func Replay(ctx context.Context, topic string, skus []string, opts []kgo.Opt, sink Sink) (events int, err error) {
	wanted := make(map[string]bool, len(skus))
	for _, sku := range skus {
		wanted[sku] = true
	}
	client, err := kgo.NewClient(append(opts, kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(fetchMaxBytes),
		kgo.KeepControlRecords())...) // they show that the end was reached
	if err != nil {
		return 0, fmt.Errorf("set up the Kafka client: %w", err)
	}
	defer client.Close()
	left, err := spans(ctx, client, topic)
	if err != nil {
		return 0, err
	}
	var block projection.Block
	for len(left) > 0 {
		fetches, err := pollOrGiveUp(ctx, client, topic)
		if err != nil {
			return events, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() || !wanted[string(r.Key)] {
				return
			}
			_, _ = add(&block, r) // see above
		})
		if n := block.Len(); n > 0 {
			if err := sink.Insert(ctx, &block); err != nil {
				return events, err
			}
			events += n
			block.Reset()
		}
	}
	return events, nil
}

// spans has the client read every partition from its start, and returns where each ends.
func spans(ctx context.Context, client *kgo.Client, topic string) (ends map[int32]int64, err error) {
	adm := kadm.NewClient(client)
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return nil, fmt.Errorf("list the start offsets of %s: %w", topic, err)
	}
	committed, err := adm.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, committed.Error()); err != nil {
		return nil, fmt.Errorf("list the end offsets of %s: %w", topic, err)
	}
	ends = make(map[int32]int64)
	from := make(map[int32]kgo.Offset)
	committed.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, end.Partition); start.Offset < end.Offset {
			ends[end.Partition], from[end.Partition] = end.Offset, kgo.NewOffset().At(start.Offset)
		}
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	return ends, nil
}

func pollOrGiveUp(ctx context.Context, client *kgo.Client, topic string) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, replayIdleMax,
		fmt.Errorf("nothing came for %s, though the broker says that there is more", replayIdleMax))
	defer cancel()
	fetches := client.PollRecords(ctx, 10_000)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read %s: %w", topic, context.Cause(ctx))
	}
	if err := fetches.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	return fetches, nil
}
