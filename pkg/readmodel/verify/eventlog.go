package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
)

// idleMax is how long records that the broker says are there may stay away.
const idleMax = 30 * time.Second

// eventLog reads the events topic from where it begins, read_committed, and keeps its place between looks.
type eventLog struct {
	client *kgo.Client
	admin  *kadm.Client
	topic  string
	starts map[int32]int64 // per partition: where the topic began when it was opened, after what retention deleted
	next   map[int32]int64 // per partition: all below was read
	read   int             // events that were read
	// hidden: an open transaction, such as a crash leaves until its time is over, keeps what was committed after it
	// from being read.
	hidden bool
}

// logged is an event of the log and its record.
type logged struct {
	schemas.Event
	id        string // the event's ce_id
	time      int64  // when its command was appended, Unix ms
	topic     string
	partition int32
	offset    int64
}

// place names the record, for people.
func (e *logged) place() string { return placeOf(e.topic, e.partition, e.offset) }

func placeOf(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d@%d", topic, partition, offset)
}

func openEventLog(ctx context.Context, kafka kafkaclient.Config, topic string) (*eventLog, error) {
	client, err := kgo.NewClient(append(kafka.Opts("lotline-cli"),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords())...) // they show that the end was reached
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	l := &eventLog{client: client, admin: kadm.NewClient(client), topic: topic, starts: make(map[int32]int64), next: make(map[int32]int64)}
	starts, err := l.admin.ListStartOffsets(ctx, topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		l.close()
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("the topic %s does not exist: check --kafka-topic-prefix", topic)
		}
		return nil, fmt.Errorf("list the start offsets of %s: %w", topic, err)
	}
	for p, start := range starts[topic] {
		l.starts[p] = start.Offset
	}
	return l, nil
}

func (l *eventLog) close() { l.client.Close() }

// isWhole reports whether the topic still has its first events.
func (l *eventLog) isWhole() bool {
	for _, start := range l.starts {
		if start > 0 {
			return false
		}
	}
	return true
}

// advance hands each event up to the ends that the topic has now to add, in the order of each partition. What cannot
// be read is handed to unreadable.
func (l *eventLog) advance(ctx context.Context, add func(e *logged), unreadable func(place string, err error)) error {
	ends, err := l.admin.ListCommittedOffsets(ctx, l.topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("list the end offsets of %s: %w", l.topic, err)
	}
	all, err := l.admin.ListEndOffsets(ctx, l.topic)
	if err = errors.Join(err, all.Error()); err != nil {
		return fmt.Errorf("list the end offsets of %s: %w", l.topic, err)
	}
	l.hidden = false
	left := make(map[int32]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if last, ok := all.Lookup(l.topic, end.Partition); ok && last.Offset > end.Offset {
			l.hidden = true
		}
		if _, known := l.next[end.Partition]; !known {
			start := l.starts[end.Partition] // 0 for a partition that was added since
			l.next[end.Partition] = start
			l.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {end.Partition: kgo.NewOffset().At(start)}})
		}
		if l.next[end.Partition] < end.Offset {
			left[end.Partition] = end.Offset
		}
	})
	for len(left) > 0 {
		fetches, err := l.poll(ctx)
		if err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			l.next[r.Partition] = r.Offset + 1
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			l.read++
			envelope, data, err := cloudevents.Read(r.Headers, r.Value)
			if err != nil {
				unreadable(placeOf(r.Topic, r.Partition, r.Offset), err)
				return
			}
			e, err := schemas.DecodeEvent(envelope.Type, envelope.ContentType, data)
			if err != nil {
				unreadable(placeOf(r.Topic, r.Partition, r.Offset), err)
				return
			}
			add(&logged{e, envelope.ID, envelope.Time.UnixMilli(), r.Topic, r.Partition, r.Offset})
		})
	}
	return nil
}

func (l *eventLog) poll(ctx context.Context) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, idleMax, fmt.Errorf("nothing came for %s, though the broker says that there is more", idleMax))
	defer cancel()
	fetches := l.client.PollFetches(ctx)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read %s: %w", l.topic, context.Cause(ctx))
	}
	if err := fetches.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.topic, err)
	}
	return fetches, nil
}

// projected returns the offsets that a group has committed: of a partition that is not in it, none, and none at all if
// there is no such group, as before the first projector runs.
func (l *eventLog) projected(ctx context.Context, group string) (map[int32]int64, error) {
	committed, err := l.admin.FetchOffsets(ctx, group)
	if err = errors.Join(err, committed.Error()); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch the offsets of group %s: %w", group, err)
	}
	offsets := make(map[int32]int64)
	for p, at := range committed[l.topic] {
		offsets[p] = at.At
	}
	return offsets, nil
}

// isProjected reports whether the group has committed all that was read here.
func (l *eventLog) isProjected(ctx context.Context, group string) (bool, error) {
	offsets, err := l.projected(ctx, group)
	if err != nil {
		return false, err
	}
	for p, next := range l.next {
		at, committed := offsets[p]
		if !committed {
			at = l.starts[p] // it never will be if all of the partition had expired when the group came
		}
		if at < next {
			return false, nil
		}
	}
	return true, nil
}
