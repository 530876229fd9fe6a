package commandlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// polled is one partition's part of a poll.
type polled struct {
	partition int32
	state     *part // as assigned when it was polled
	records   []*kgo.Record
	inputs    []apply.Input    // the records, decoded
	light     int64            // from this offset on, records that could be read are without what they came as
	next      int64            // past the last record
	decided   []outbox.Segment // what this poll's commands became, as far as it was decided now

	keyMismatches int // counted once the poll is committed: a dropped one comes again

	traced traced
}

// poll waits for records, a second at the most, and groups them by partition in the order in which they are decided.
func (s *session) poll(ctx context.Context) ([]*polled, error) {
	s.resume()
	if s.hand.records == 0 {
		fetched, since := s.fetch(ctx)
		if ctx.Err() != nil {
			return nil, nil
		}
		if fetched.IsClientClosed() {
			return nil, errors.New("the Kafka client was closed")
		}
		s.heed(ctx, fetched, since)
		s.hand.generation = s.generation
		s.hand.add(append(fetched, since...))
	}
	if s.hand.generation != s.generation {
		return nil, fmt.Errorf("%w: the group moved on since it was read", errStale)
	}
	dealt := s.hand.deal(s.recordsMax, s.lane)
	var polls []*polled
	var stale error
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range dealt {
		if err := s.readable(d.topicID, d.partition); err != nil {
			stale = fmt.Errorf("%w: %w", errStale, err)
			continue
		}
		at := slices.IndexFunc(polls, func(p *polled) bool { return p.partition == d.partition })
		if at < 0 {
			at = len(polls)
			state := s.parts[d.partition]
			polls = append(polls, &polled{partition: d.partition, state: state, light: lightFrom(state)})
		}
		polls[at].records = append(polls[at].records, d.records...)
	}
	var decoding sync.WaitGroup
	for _, p := range polls {
		decoding.Go(func() { s.decode(p) })
	}
	decoding.Wait()
	return polls, stale
}

// heed heeds the errors of a poll, but for those of what came since that only concern what comes after its records.
//
// What must be heeded before them: a log that lost records, of which the client speaks once, going on where it begins now.
// Heeded late, the records from there would be decided as if nothing were missing before them. And the group: which
// generation it was that this member was thrown out of is only known now.
func (s *session) heed(ctx context.Context, fetched, since kgo.Fetches) {
	errs := append(s.errorsSince, fetched...)
	var lost *kgo.ErrDataLoss
	var group *kgo.ErrGroupSession
	now := false
	since.EachError(func(_ string, _ int32, err error) {
		now = now || errors.As(err, &lost) || errors.As(err, &group)
	})
	if s.errorsSince = since; now {
		errs, s.errorsSince = append(errs, since...), nil
	}
	s.fetchErrors(ctx, errs)
}

// sinceMax is how long what has come since the last poll is waited for: brokers have it in memory.
const sinceMax = 5 * time.Millisecond

// fetch takes what the client has, and then what has come since. The client asks for more only when the last is taken, and
// the answer comes at once: what it has at hand came when the last was taken, a step ago or more, and whatever came
// since is only asked for now. It would wait for another step, most of a command's latency.
func (s *session) fetch(ctx context.Context) (fetched, since kgo.Fetches) {
	waiting, cancel := context.WithTimeout(ctx, s.pollMax())
	defer cancel()
	atHand := s.kafka.BufferedFetchRecords() > 0
	fetched = s.kafka.PollFetches(waiting)
	if !atHand || fetched.NumRecords() >= s.recordsMax {
		return fetched, nil
	}
	asking, stop := context.WithTimeout(ctx, s.sinceMax)
	defer stop()
	return fetched, s.kafka.PollFetches(asking)
}

// readable refuses records that must not be decided. Then the whole poll is dropped: ending its transaction would
// commit the offsets of all its partitions. The caller holds mu.
func (s *session) readable(topicID [16]byte, partition int32) error {
	state := s.parts[partition]
	switch id := TopicName(topicID); {
	case state == nil:
		return fmt.Errorf("partition %d is not assigned", partition)
	case state.halted:
	case topicID != [16]byte{} && id != state.topicID:
		s.halt(partition, fmt.Errorf("the topic was created anew (its id was %s and is %s): offsets of the old one mean nothing in it", state.topicID, id), false)
	default:
		return nil
	}
	s.pause(partition)
	return fmt.Errorf("partition %d is halted", partition)
}

// decode reads what was polled of a partition. It may be called for several partitions at once.
func (s *session) decode(p *polled) {
	p.inputs = make([]apply.Input, 0, len(p.records))
	p.next = p.records[len(p.records)-1].Offset + 1
	for _, r := range p.records {
		in := Decode(r)
		s.follow(p, r, &in)
		if in.DeadLetter == "" && string(r.Key) != in.Command.SKU {
			p.keyMismatches++
			s.warnOfKey(r, in.Command.SKU)
		}
		p.inputs = append(p.inputs, in)
		if in.DeadLetter == "" && r.Offset >= p.light {
			r.Key, r.Value, r.Headers = nil, nil, nil
		}
	}
}

// lightFrom is the offset from which on this poll decides: nobody will ask there what a record that could be read came as, and
// what a fetch inflated to is held by each of its records. The caller holds mu.
func lightFrom(state *part) int64 {
	if state.applied == unknown {
		return math.MaxInt64
	}
	return state.applied
}

// heavy says whether what a record came as is still there.
func (p *polled) heavy(r *kgo.Record) bool {
	at := sort.Search(len(p.inputs), func(i int) bool { return p.inputs[i].Offset >= r.Offset })
	return r.Offset < p.light || p.inputs[at].DeadLetter != ""
}

// warnOfKey explains the first command whose key is not its SKU.
func (s *session) warnOfKey(r *kgo.Record, sku string) {
	s.metrics.warnKeyOnce.Do(func() {
		s.log.Warn("a command's key is not its SKU: it is accepted, but if commands of one SKU come over several partitions they are decided more slowly; key commands by SKU with the murmur2 partitioner",
			"place", place(r.Topic, r.Partition, r.Offset), "key_bytes", len(r.Key), "sku", sku)
	})
}
