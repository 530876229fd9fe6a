package offsets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator/internal/commandlog"
)

const (
	probeMax      = 5 * time.Second
	probeBytesMax = 1 << 20 // a broker hands out one batch at least, however large
)

// probe reads what each partition would be read on with, as an allocator does, and says of which that fails for good.
func (d *Desk) probe(ctx context.Context, all []Standing) error {
	topic := d.topics.Commands.Name
	asked := make(map[int32]*Standing)
	from := make(map[int32]kgo.Offset)
	for i := range all {
		if s := &all[i]; s.Seen == s.TopicID && s.position >= s.LogStart && s.position < s.LogEnd {
			asked[s.Partition], from[s.Partition] = s, kgo.NewOffset().At(s.position)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(d.opts[:len(d.opts):len(d.opts)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchMaxPartitionBytes(probeBytesMax),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	waiting, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	next := make(map[*Standing]*kgo.Record)
	for len(asked) > 0 && waiting.Err() == nil {
		fetches := client.PollFetches(waiting)
		fetches.EachRecord(func(r *kgo.Record) {
			s := asked[r.Partition]
			switch {
			case s == nil:
				return
			case !r.Attrs.IsControl():
				next[s] = r
			case s.Applied < s.published && r.Offset+1 < s.published:
				return // a command to decide again may come behind it
			}
			delete(asked, r.Partition)
		})
		fetches.EachError(func(_ string, partition int32, err error) {
			if s := asked[partition]; s != nil && waiting.Err() == nil && commandlog.Unreadable(err) {
				s.Halted = fmt.Sprintf("it cannot be read on from offset %d: %s", s.position, err)
				delete(asked, partition)
			}
		})
	}
	for s, r := range next {
		if r.Offset < s.published && s.Applied < s.published {
			d.recheck(ctx, s, r)
		}
	}
	for _, s := range asked {
		if s.Halted == "" && s.Note == "" {
			s.Note = fmt.Sprintf("nothing came of offset %d within %s: an open transaction hides it, or a broker is away", s.position, probeMax)
		}
	}
	for i := range all {
		s := &all[i]
		if s.Halted == "" || s.SkipTo >= 0 || s.position >= s.LogEnd || next[s] != nil {
			continue
		}
		end, err := d.batchEnd(ctx, s.Partition, s.position)
		if err != nil {
			s.Halted += fmt.Sprintf(" (where its batch ends is not known: %s)", err)
			continue
		}
		s.SkipTo = end
		s.Halted += fmt.Sprintf(" (one batch, which ends with offset %d)", end-1)
	}
	return nil
}

// batchEnd is the offset after the batch that has the record at offset: what is compressed together is lost together.
// The header of a batch is not compressed.
func (d *Desk) batchEnd(ctx context.Context, partition int32, offset int64) (int64, error) {
	topic := d.topics.Commands.Name
	found, err := d.admin.ListTopics(ctx, topic)
	if err = errors.Join(err, found[topic].Err); err != nil {
		return 0, fmt.Errorf("look at topic %s: %w", topic, err)
	}
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, probeBytesMax
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = topic, found[topic].ID, append(rt.Partitions, rp)
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MaxWaitMillis, req.SessionEpoch, req.Topics = probeBytesMax, 500, -1, append(req.Topics, rt)
	answer, err := d.client.Broker(int(found[topic].Partitions[partition].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return 0, fmt.Errorf("fetch the batch at %d@%d: %w", partition, offset, err)
	}
	for _, t := range answer.(*kmsg.FetchResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return 0, fmt.Errorf("fetch the batch at %d@%d: %w", partition, offset, err)
			}
			for rest := p.RecordBatches; ; {
				var b kmsg.RecordBatch
				if err := b.ReadFrom(rest); err != nil {
					return 0, fmt.Errorf("the batch at %d@%d has no header that can be read (%w)", partition, offset, err)
				}
				if end := b.FirstOffset + int64(b.LastOffsetDelta) + 1; end > offset {
					return end, nil
				}
				rest = rest[min(len(rest), 12+int(b.Length)):]
			}
		}
	}
	return 0, fmt.Errorf("fetch the batch at %d@%d: the broker's answer has nothing of it", partition, offset)
}
