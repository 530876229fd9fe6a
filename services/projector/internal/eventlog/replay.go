package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/readmodel"
)

// replayIdleMax is how long records that the broker says are there may stay away.
const replayIdleMax = 30 * time.Second

// Starts is where the topic begins in each partition, after what its retention has deleted.
func Starts(ctx context.Context, topic string, opts []kgo.Opt) (map[int32]int64, error) {
	return offsets(ctx, topic, opts, "start", (*kadm.Client).ListStartOffsets)
}

// Ends is where what can be read of the topic ends in each partition.
func Ends(ctx context.Context, topic string, opts []kgo.Opt) (map[int32]int64, error) {
	return offsets(ctx, topic, opts, "end", (*kadm.Client).ListCommittedOffsets)
}

func offsets(ctx context.Context, topic string, opts []kgo.Opt, which string, list func(*kadm.Client, context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]int64, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("set up the Kafka client: %w", err)
	}
	defer client.Close()
	listed, err := list(kadm.NewClient(client), ctx, topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		return nil, fmt.Errorf("list the %s offsets of %s: %w", which, topic, err)
	}
	found := make(map[int32]int64)
	listed.Each(func(at kadm.ListedOffset) { found[at.Partition] = at.Offset })
	return found, nil
}

// Replay hands the events of some SKUs, or of all if skus is nil, to each once more, from the given offsets to the ends that the topic has now, in
// blocks that each may keep, and returns these ends. It needs no group and disturbs none. Records that cannot be
// projected are left out: the consumer that stops at them names them.
func Replay(ctx context.Context, topic string, skus []string, from map[int32]int64, opts []kgo.Opt, each func([]readmodel.Record) error) (ends map[int32]int64, err error) {
	wanted := make(map[string]bool, len(skus))
	for _, sku := range skus {
		wanted[sku] = true
	}
	client, err := kgo.NewClient(append(opts, kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(fetchMaxBytes),
		kgo.KeepControlRecords())...) // they show that the end was reached
	if err != nil {
		return nil, fmt.Errorf("set up the Kafka client: %w", err)
	}
	defer client.Close()
	ends, left, err := spans(ctx, client, topic, from)
	if err != nil {
		return nil, err
	}
	for len(left) > 0 {
		fetches, err := pollOrGiveUp(ctx, client, topic)
		if err != nil {
			return nil, err
		}
		var block []readmodel.Record
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() || skus != nil && !wanted[string(r.Key)] {
				return
			}
			if record, err := decode(r); err == nil { // see above
				block = append(block, record)
			}
		})
		if len(block) > 0 {
			if err := each(block); err != nil {
				return nil, err
			}
		}
	}
	return ends, nil
}

// spans has the client read every partition on from an offset, 0 for one that was added since, and returns where each
// ends, and the ends of those that have something to read.
func spans(ctx context.Context, client *kgo.Client, topic string, from map[int32]int64) (ends, left map[int32]int64, err error) {
	committed, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, committed.Error()); err != nil {
		return nil, nil, fmt.Errorf("list the end offsets of %s: %w", topic, err)
	}
	ends, left = make(map[int32]int64), make(map[int32]int64)
	at := make(map[int32]kgo.Offset)
	committed.Each(func(end kadm.ListedOffset) {
		ends[end.Partition] = max(end.Offset, from[end.Partition])
		if start := from[end.Partition]; start < end.Offset {
			left[end.Partition], at[end.Partition] = end.Offset, kgo.NewOffset().At(start)
		}
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: at})
	return ends, left, nil
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
