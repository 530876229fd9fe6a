package commandlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

const (
	pollBytesMax  = 64 << 20              // of decided events in one Kafka transaction, unless one command has more
	settleMax     = 10 * time.Second      // for asking what is committed after an unclear end
	publishSlow   = 5 * time.Second       // events that are not taken for so long are named
	abortPauseMin = 20 * time.Millisecond // after the broker refused a record
	abortPauseMax = 2 * time.Second
)

// collect finds everything that the polls have to publish. Cuts can make any number of events of a few commands, so
// memory is bounded by polling less: what was decided is in the outbox, and smaller polls publish it in parts.
func (s *session) collect(ctx context.Context, polls []*polled) ([]*kgo.Record, error) {
	finding, cancel := s.grace(ctx)
	defer cancel()
	count := 0
	for _, p := range polls {
		count += len(p.records)
	}
	budget := pollBytesMax
	if count == 1 {
		budget = math.MaxInt // one command's events are never divided
	}
	var out []*kgo.Record
	for _, p := range polls {
		records, bytes, err := s.toPublish(finding, p, budget)
		if errors.Is(err, errTooMuch) {
			s.recordsMax = max(1, count/2)
			return nil, fmt.Errorf("%w: %w", errStale, err)
		}
		if err != nil {
			return nil, err
		}
		budget -= bytes
		out = append(out, records...)
	}
	s.recordsMax = min(s.config.PollRecordsMax, 2*max(s.recordsMax, count))
	return out, nil
}

// errTooMuch says that a poll's events are too many to be held at once.
var errTooMuch = errors.New("its commands decided very many events, polling fewer at once")

// toPublish finds the records that this poll has to publish: for each of its commands that is not published yet, what
// was decided for it, now or by an earlier life. A segment may reach beyond the poll, because an earlier poll had
// other boundaries; only the commands of this poll are taken from it.
func (s *session) toPublish(ctx context.Context, p *polled, bytesMax int) (out []*kgo.Record, bytes int, err error) {
	s.mu.Lock()
	from := max(p.state.position, p.state.published)
	topicID := p.state.topicID
	s.mu.Unlock()
	first := sort.Search(len(p.records), func(i int) bool { return p.records[i].Offset >= from })
	wanted := p.records[first:]
	if len(wanted) == 0 {
		return nil, 0, nil
	}
	segments, floor := p.decided, int64(0)
	if len(segments) == 0 || wanted[0].Offset < segments[0].First {
		waiting, err := s.store.Outbox(ctx, p.partition, wanted[0].Offset, p.next, bytesMax)
		if err != nil {
			s.applier.Forget()
			return nil, 0, fmt.Errorf("%w: %w", errStale, err)
		}
		if waiting.NextOffset < p.next {
			return nil, 0, fmt.Errorf("%w: partition %d is applied to %d and was to %d", errBehind, p.partition, waiting.NextOffset, p.next)
		}
		if waiting.TooMuch {
			return nil, 0, errTooMuch
		}
		for _, r := range wanted {
			if len(segments) == 0 || r.Offset < segments[0].First {
				s.metrics.recovered.Inc()
			}
		}
		segments, floor = waiting.Segments, waiting.OutboxFloor
	}
	for _, segment := range segments {
		bytes += len(segment.Data)
	}
	if bytes > bytesMax {
		return nil, 0, errTooMuch
	}
	out, err = s.match(p, topicID, wanted, segments, floor)
	if err != nil {
		s.stop(p.partition, err)
		return nil, 0, fmt.Errorf("%w: %w", errStale, err)
	}
	return out, bytes, nil
}

// match walks the wanted commands and the decided entries, both in order of offset. A command that is neither in a
// segment nor below the floor has lost its events: that is said by name, never passed over.
func (s *session) match(p *polled, topicID string, wanted []*kgo.Record, segments []outbox.Segment, floor int64) ([]*kgo.Record, error) {
	out := make([]*kgo.Record, 0, len(wanted))
	var entries []outbox.Entry
	for _, r := range wanted {
		for len(entries) == 0 || entries[0].Offset < r.Offset {
			if len(entries) > 0 {
				entries = entries[1:]
				continue
			}
			if len(segments) == 0 {
				break
			}
			var err error
			if entries, err = segments[0].Entries(); err != nil {
				return nil, err
			}
			segments = segments[1:]
		}
		switch {
		case len(entries) > 0 && entries[0].Offset == r.Offset && entries[0].DeadLetter != "":
			out = append(out, deadLetter(s.config.Topics.DeadLetters.Name, r, entries[0].DeadLetter))
			p.deadLetters++
		case len(entries) > 0 && entries[0].Offset == r.Offset:
			out = append(out, eventRecords(s.config.Topics.Events.Name, topicID, p.partition, entries[0])...)
			p.events += len(entries[0].Messages)
		case r.Offset < floor:
			// Published and deleted by an earlier life.
		default:
			return nil, fmt.Errorf("the command at offset %d is applied, and its events are neither in the outbox nor published", r.Offset)
		}
	}
	return out, nil
}

// publish ends the poll: its records and the group's offsets become visible together, or not at all.
func (s *session) publish(ctx context.Context, polls []*polled, out []*kgo.Record, generation int32) error {
	finishing, cancel := s.grace(ctx)
	defer cancel()
	taken := s.nameWait()
	defer taken()
	if err := s.settled(finishing); err != nil {
		return err
	}
	if err := s.kafka.Begin(); err != nil {
		return fmt.Errorf("begin the Kafka transaction: %w", err)
	}
	var failed producing
	for _, r := range out {
		s.kafka.Produce(finishing, r, failed.note)
	}
	want := kgo.TryCommit
	flushed := s.kafka.Client().Flush(finishing)
	taken()
	if err := errors.Join(flushed, failed.first()); err != nil {
		// An event that did not arrive must not be counted as published: abort, and publish from the outbox.
		s.log.Warn("aborting: not every record was taken", "error", err)
		want = kgo.TryAbort
		s.setHealth("publishing", err)
		s.backOff(ctx)
	} else {
		s.aborts = 0
		s.setHealth("publishing", nil)
	}
	if _, now := s.kafka.Client().GroupMetadata(); now != generation {
		want = kgo.TryAbort
	}
	before := s.published(polls)
	finishing = kgo.PreTxnCommitFnContext(finishing, func(req *kmsg.TxnOffsetCommitRequest) error {
		return s.offsets(req, generation, before)
	})
	return s.end(finishing, want, polls)
}

// nameWait says in /readyz that events wait for Kafka, once they have for a while, until taken is called: the client
// offers them for as long as Kafka is away. What taken leaves there is the caller's to change.
func (s *session) nameWait() (taken func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var naming sync.WaitGroup
	naming.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(publishSlow):
			s.setHealth("publishing", errNotTaken)
		}
	})
	return func() { cancel(); naming.Wait() }
}

var errNotTaken = fmt.Errorf("events wait for Kafka, which has not taken them for %s", publishSlow)

// backOff waits before an abort, longer each time in a row: what the broker refuses now it will refuse at once again.
func (s *session) backOff(ctx context.Context) {
	pause := min(abortPauseMin<<min(s.aborts, 10), abortPauseMax)
	s.aborts++
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// end ends the transaction, if there is one, and learns from how it went. done holds the polls that a commit covers.
// ctx must be one of grace: an end that is cut off leaves the client unusable.
func (s *session) end(ctx context.Context, want kgo.TransactionEndTry, done []*polled) error {
	if !s.last.pending { // which is true only of an end that ends nothing
		s.last = ending{pending: true, cuts: s.cuts.Load()}
	}
	committed, err := s.kafka.End(ctx, want)
	if err != nil {
		s.metrics.aborts.Inc()
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	if !committed {
		s.metrics.aborts.Inc()
		return s.rewound(ctx)
	}
	s.metrics.transactions.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	commands := 0
	for _, p := range done {
		commands += len(p.records)
		p.state.position = p.next
		p.state.published = max(p.state.published, p.next)
		if p.state.suspect {
			p.state.suspect, p.state.retryPause = false, 0
			s.unhalt(p.partition)
			s.log.Info("a halted partition goes on", "partition", p.partition, "offset", p.next)
		}
		s.metrics.published(p)
		s.newest[p.partition] = p.records[len(p.records)-1].Timestamp
	}
	s.metrics.pollCommands.Observe(float64(commands))
	return nil
}

// published copies up to where the polled partitions are published, for the commit's callback, which must not lock.
func (s *session) published(polls []*polled) map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	offsets := make(map[int32]int64, len(s.parts))
	for _, p := range polls {
		offsets[p.partition] = p.state.published
	}
	return offsets
}

// offsets is the last look at what is about to be committed: never under another generation than the poll's, never
// below what is published already (after a restore, positions are lower than that).
func (s *session) offsets(req *kmsg.TxnOffsetCommitRequest, generation int32, published map[int32]int64) error {
	if req.Generation != generation {
		return fmt.Errorf("the poll is of generation %d and the group is at %d", generation, req.Generation)
	}
	for t := range req.Topics {
		for i := range req.Topics[t].Partitions {
			p := &req.Topics[t].Partitions[i]
			before, ok := published[p.Partition]
			if !ok {
				return fmt.Errorf("partition %d would be committed and is not of this poll", p.Partition)
			}
			if p.Offset < before {
				p.Offset, p.LeaderEpoch = before, -1
			}
		}
	}
	return nil
}

// rewound adopts the positions that the client went back to. That the transaction was not committed is what the
// client believes; a lost answer may hide a commit, so what is published is asked for again. Otherwise: the commit
// happened, the answer was lost, the records come again, and their events would be published twice.
func (s *session) rewound(ctx context.Context) error {
	asking, cancel := context.WithTimeout(kadm.RequireStable(ctx), settleMax)
	defer cancel()
	topic := s.config.Topics.Commands.Name
	committed, err := s.admin.FetchOffsets(asking, s.config.Group)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("read the group's offsets after an aborted transaction: %w", err)
	}
	believed := s.kafka.Client().CommittedOffsets()[topic]
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition, state := range s.parts {
		if at, ok := believed[partition]; ok {
			state.position = at.Offset
		}
		if at, ok := committed.Lookup(topic, partition); ok {
			state.published = max(state.published, at.At)
		}
		state.applied = unknown
	}
	s.applier.Forget()
	return nil
}

// producing remembers the first record that was not taken. The client calls note from its own goroutine.
type producing struct {
	mu  sync.Mutex
	err error
}

func (p *producing) note(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = fmt.Errorf("produce to %s: %w", r.Topic, err)
	}
}

func (p *producing) first() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
