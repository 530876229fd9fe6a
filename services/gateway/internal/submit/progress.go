package submit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Follower has to know every event, and how far the tail is. Its methods are called one after the other, but for Current,
// and must be quick.
type Follower interface {
	// Began says that the tail begins at these offsets, by partition: what is below them, and was not handed over by an
	// earlier beginning, is not seen. Partitions that are added later are read from their start.
	Began(from map[int32]int64)
	// Event hands over an event, which must not be changed. Those of a partition come in its order.
	Event(e *schemas.Event, partition int32, offset int64)
	// Unreadable says that the record at offset is no event that this build can read.
	Unreadable(partition int32, offset int64)
	// Current says that all that was committed before at, in any partition, has been handed over.
	Current(at time.Time)
}

// errTopicMadeAnew ends the tail, which begins again: offsets mean other records now.
var errTopicMadeAnew = errors.New("the topic was made anew")

// ends is where the partitions of the events topic end, for those who read committed events only.
type ends struct {
	topic  [16]byte // its id; 0: the broker has none
	offset map[int32]int64
}

// findEnds asks the brokers for the ends, and for the partitions too, as they are now: what the client remembers of them
// may be seconds old.
func (t *Tail) findEnds(ctx context.Context, client *kgo.Client) (ends, error) {
	ctx, cancel := context.WithTimeout(ctx, endsTimeout)
	defer cancel()
	found := ends{offset: map[int32]int64{}}
	ask := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(t.topic)
	ask.Topics = append(ask.Topics, topic)
	described, err := ask.RequestWith(ctx, client)
	if err != nil {
		return found, fmt.Errorf("ask for the partitions of %s: %w", t.topic, err)
	}
	list := kmsg.NewPtrListOffsetsRequest()
	list.ReplicaID, list.IsolationLevel = -1, 1 // committed
	listed := kmsg.NewListOffsetsRequestTopic()
	listed.Topic = t.topic
	for _, described := range described.Topics {
		if err := kerr.ErrorForCode(described.ErrorCode); err != nil {
			return found, fmt.Errorf("ask for the partitions of %s: %w", t.topic, err)
		}
		found.topic = described.TopicID
		for _, p := range described.Partitions {
			end := kmsg.NewListOffsetsRequestTopicPartition()
			end.Partition, end.Timestamp = p.Partition, -1 // the end
			listed.Partitions = append(listed.Partitions, end)
		}
	}
	list.Topics = append(list.Topics, listed)
	answer, err := list.RequestWith(ctx, client)
	if err != nil {
		return found, fmt.Errorf("ask where %s ends: %w", t.topic, err)
	}
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return found, fmt.Errorf("ask where partition %d of %s ends: %w", p.Partition, t.topic, err)
			}
			found.offset[p.Partition] = p.Offset
		}
	}
	if len(found.offset) != len(listed.Partitions) || len(found.offset) == 0 {
		return found, fmt.Errorf("ask where %s ends: %d of %d partitions answered", t.topic, len(found.offset), len(listed.Partitions))
	}
	return found, nil
}

// progress is how far the tail has come in each partition that it follows.
type progress struct {
	mu    sync.Mutex
	next  map[int32]int64 // the offset after what was handed over, transactions' marks included
	moved chan struct{}   // holds something if next has changed
}

func newProgress(from map[int32]int64) *progress {
	return &progress{next: maps.Clone(from), moved: make(chan struct{}, 1)}
}

// move says that everything below these offsets was handed over.
func (p *progress) move(next map[int32]int64) {
	p.mu.Lock()
	maps.Copy(p.next, next)
	p.mu.Unlock()
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// add returns those partitions that are not followed yet, to be followed from their start: all in them is new.
func (p *progress) add(partitions map[int32]int64) map[int32]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := map[int32]int64{}
	for partition := range partitions {
		if _, ok := p.next[partition]; !ok {
			added[partition] = 0
		}
	}
	maps.Copy(p.next, added)
	return added
}

func (p *progress) reached(ends map[int32]int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, end := range ends {
		if p.next[partition] < end {
			return false
		}
	}
	return true
}

// await reports whether everything below ends was handed over before ctx ended.
func (p *progress) await(ctx context.Context, ends map[int32]int64) bool {
	for !p.reached(ends) {
		select {
		case <-ctx.Done():
			return false
		case <-p.moved:
		}
	}
	return true
}
