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

// eventLog reads the events topic from its start, read_committed, and keeps its place between looks.
type eventLog struct {
	client *kgo.Client
	admin  *kadm.Client
	topic  string
	next   map[int32]int64 // per partition: all below was read
	read   int             // events that were read
	// hidden: an open transaction, such as a crash leaves until its time is over, keeps what was committed after it
	// from being read.
	hidden bool
}

func openEventLog(ctx context.Context, kafka kafkaclient.Config, topic string) (*eventLog, error) {
	client, err := kgo.NewClient(append(kafka.Opts("lotline-cli"),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords())...) // they show that the end was reached
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	l := &eventLog{client: client, admin: kadm.NewClient(client), topic: topic, next: make(map[int32]int64)}
	starts, err := l.admin.ListStartOffsets(ctx, topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		l.close()
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("the topic %s does not exist: check --kafka-topic-prefix", topic)
		}
		return nil, fmt.Errorf("list the start offsets of %s: %w", topic, err)
	}
	for p, start := range starts[topic] {
		if start.Offset > 0 {
			l.close()
			return nil, fmt.Errorf("%s/%d begins at offset %d: without the events before it there is nothing to compare with. Is its retention other than unlimited (lotline topics diff)?", topic, p, start.Offset)
		}
	}
	return l, nil
}

func (l *eventLog) close() { l.client.Close() }

// advance hands each event up to the ends that the topic has now to add, in the order of each partition. place names
// a record. What cannot be read is handed to unreadable.
func (l *eventLog) advance(ctx context.Context, add func(e *schemas.Event, place func() string), unreadable func(place string, err error)) error {
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
			l.next[end.Partition] = 0
			l.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {end.Partition: kgo.NewOffset().At(0)}})
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
			place := func() string { return fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset) }
			envelope, err := cloudevents.Parse(r.Headers)
			if err != nil {
				unreadable(place(), err)
				return
			}
			e, err := schemas.DecodeEvent(envelope.Type, envelope.ContentType, r.Value)
			if err != nil {
				unreadable(place(), err)
				return
			}
			add(&e, place)
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

// isProjected reports whether the group has committed all that was read here.
func (l *eventLog) isProjected(ctx context.Context, group string) (bool, error) {
	committed, err := l.admin.FetchOffsets(ctx, group)
	if err = errors.Join(err, committed.Error()); err != nil {
		return false, fmt.Errorf("fetch the offsets of group %s: %w", group, err)
	}
	for p, next := range l.next {
		if at, ok := committed.Lookup(l.topic, p); next > 0 && (!ok || at.At < next) {
			return false, nil
		}
	}
	return true, nil
}
