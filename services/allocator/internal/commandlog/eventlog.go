package commandlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// clockMargin is how much earlier than its command an event may seem to be appended: by another broker's clock.
	clockMargin = time.Hour
	stuckMax    = 30 * time.Second // without a record before the end
)

// EventLog reads the events topic for what is published of commands. It is safe for concurrent use.
type EventLog struct {
	Topic string
	Admin *kadm.Client
	Opts  []kgo.Opt // of the client that reads
}

// Of calls each with the events of a partition's commands at offsets [from, next) of the commands topic with that id, among
// those that read_committed consumers see; as they come, so several partitions of the events topic are mixed. The first of
// the commands was appended at since; zero looks through the whole topic. It ends where the topic ended when it was called,
// or when each wants no more.
func (l EventLog) Of(ctx context.Context, topicID string, partition int32, from, next int64, since time.Time, each func(offset int64, r *kgo.Record) (more bool)) error {
	prefix := topicID + "/" + strconv.Itoa(int(partition)) + "/"
	err := l.scan(ctx, since, func(r *kgo.Record) bool {
		for _, h := range r.Headers {
			if h.Key != "ce_id" {
				continue
			}
			rest, ours := strings.CutPrefix(string(h.Value), prefix)
			if !ours {
				return true
			}
			offset, _, _ := strings.Cut(rest, "/")
			if n, err := strconv.ParseInt(offset, 10, 64); err == nil && n >= from && n < next {
				return each(n, r)
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("look for events of commands at %d@%d..%d: %w", partition, from, next-1, err)
	}
	return nil
}

func (l EventLog) scan(ctx context.Context, since time.Time, each func(*kgo.Record) (more bool)) error {
	starts, startsErr := l.Admin.ListStartOffsets(ctx, l.Topic)
	if !since.IsZero() {
		starts, startsErr = l.Admin.ListOffsetsAfterMilli(ctx, since.Add(-clockMargin).UnixMilli(), l.Topic)
	}
	ends, endsErr := l.Admin.ListEndOffsets(ctx, l.Topic)
	if err := errors.Join(startsErr, endsErr, starts.Error(), ends.Error()); err != nil {
		return fmt.Errorf("list the offsets of %s: %w", l.Topic, err)
	}
	from, left := make(map[int32]kgo.Offset), make(map[int32]int64)
	for p, start := range starts[l.Topic] {
		if end := ends[l.Topic][p].Offset; start.Offset >= 0 && start.Offset < end {
			from[p], left[p] = kgo.NewOffset().At(start.Offset), end
		}
	}
	if len(left) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(l.Opts[:len(l.Opts):len(l.Opts)], kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	for more := true; more && len(left) > 0; {
		waiting, cancel := context.WithTimeout(ctx, stuckMax)
		fetches := client.PollFetches(waiting)
		cancel()
		if err := fetches.Err(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				err = fmt.Errorf("its end was not reached within %s: a transaction is open there, or a broker is away", stuckMax)
			}
			return fmt.Errorf("read %s: %w", l.Topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if more && !r.Attrs.IsControl() {
				more = each(r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}
