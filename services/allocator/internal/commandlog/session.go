package commandlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// session is one membership of the group and everything that is believed during it.
type session struct {
	*Worker
	kafka *kgo.GroupTransactSession

	mu    sync.Mutex // guards parts and what they point to against adjust
	parts map[int32]*part

	paused map[int32]bool // partitions that the client was told to leave alone
	aborts int            // transactions aborted in a row because records were not taken

	recordsMax int // of the next poll: less than configured while polls decide very much
	trimmed    time.Time
	newest     map[int32]time.Time // append time of the newest command, for forgetting ids
}

const (
	idlePollMax  = time.Second            // an idle session looks for a restore this often
	trimInterval = 500 * time.Millisecond // published outbox rows are deleted this often at the most
	settleMax    = 10 * time.Second       // for asking what is committed after an unclear end

	pollBytesMax = 64 << 20 // of decided events in one Kafka transaction, unless one command has more

	abortPauseMin = 20 * time.Millisecond // after the broker refused a record
	abortPauseMax = 2 * time.Second
)

// polled is one partition's part of a poll.
type polled struct {
	partition int32
	state     *part // as assigned when it was polled
	records   []*kgo.Record
	inputs    []apply.Input    // the records, decoded
	next      int64            // past the last record
	decided   []outbox.Segment // what this poll's commands became, as far as it was decided now

	events, deadLetters int // to be published
	keyMismatches       int // counted once the poll is committed: a dropped one comes again
}

// step takes one poll all the way: applied in Postgres, published in Kafka. An error means that the session must end.
func (s *session) step(ctx context.Context) error {
	// Read before the poll: if the group moves on in between, the records may belong to an older membership than
	// this generation says, never to a newer one, and the commit below is refused for either.
	_, generation := s.kafka.Client().GroupMetadata()
	polls, err := s.poll(ctx)
	if err != nil {
		return s.giveUp(ctx, err)
	}
	if ctx.Err() != nil {
		return nil
	}
	if len(polls) == 0 {
		return s.idle(ctx)
	}
	for _, p := range polls {
		if err := s.apply(ctx, p, generation); err != nil {
			return s.giveUp(ctx, err)
		}
	}
	out, err := s.collect(ctx, polls)
	if err != nil {
		return s.giveUp(ctx, err)
	}
	if err := s.publish(ctx, polls, out, generation); err != nil {
		return err
	}
	s.health.Set(s.name, nil)
	s.trim(ctx)
	return nil
}

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

// errStale says that this poll must not be published: the group has a new generation, or a partition was halted.
// What it applied is in the outbox and is found there by whoever polls the records next.
var errStale = errors.New("the poll is not to be published")

// giveUp drops a poll. The client goes back to the committed offsets, so its records come again.
func (s *session) giveUp(ctx context.Context, why error) error {
	if !errors.Is(why, errStale) {
		return why
	}
	s.log.Info("dropping a poll", "reason", why)
	ending, cancel := s.grace(ctx)
	defer cancel()
	return s.end(ending, kgo.TryAbort, nil)
}

// poll waits for records, a second at the most, and groups them by partition in the order in which they are decided.
func (s *session) poll(ctx context.Context) ([]*polled, error) {
	s.resume()
	waiting, cancel := context.WithTimeout(ctx, idlePollMax)
	defer cancel()
	fetches := s.kafka.PollRecords(waiting, s.recordsMax)
	if ctx.Err() != nil {
		return nil, nil
	}
	if fetches.IsClientClosed() {
		return nil, errors.New("the Kafka client was closed")
	}
	s.fetchErrors(fetches)
	var polls []*polled
	var stale error
	s.mu.Lock()
	defer s.mu.Unlock()
	fetches.EachTopic(func(t kgo.FetchTopic) {
		for _, f := range t.Partitions {
			if len(f.Records) == 0 {
				continue
			}
			if err := s.readable(t.TopicID, f.Partition); err != nil {
				stale = fmt.Errorf("%w: %w", errStale, err)
				continue
			}
			polls = append(polls, s.decode(f))
		}
	})
	return polls, stale
}

// readable refuses records that must not be decided. Then the whole poll is dropped: ending its transaction would
// commit the offsets of all its partitions. The caller holds mu.
func (s *session) readable(topicID [16]byte, partition int32) error {
	state := s.parts[partition]
	switch id := topicName(topicID); {
	case state == nil:
		return fmt.Errorf("partition %d is not assigned", partition)
	case state.halted:
	case topicID != [16]byte{} && id != state.topicID:
		s.halt(partition, fmt.Errorf("the topic was created anew (its id was %s and is %s): offsets of the old one mean nothing in it", state.topicID, id))
	default:
		return nil
	}
	s.pause(partition)
	return fmt.Errorf("partition %d is halted", partition)
}

func (s *session) decode(f kgo.FetchPartition) *polled {
	p := &polled{
		partition: f.Partition,
		state:     s.parts[f.Partition],
		records:   f.Records,
		inputs:    make([]apply.Input, len(f.Records)),
		next:      f.Records[len(f.Records)-1].Offset + 1,
	}
	for i, r := range f.Records {
		p.inputs[i] = decode(r)
		if p.inputs[i].DeadLetter == "" && string(r.Key) != p.inputs[i].Command.SKU {
			p.keyMismatches++
			s.warnOfKey(r, p.inputs[i].Command.SKU)
		}
	}
	return p
}

// warnOfKey explains the first command whose key is not its SKU.
func (s *session) warnOfKey(r *kgo.Record, sku string) {
	s.metrics.warnKeyOnce.Do(func() {
		s.log.Warn("a command's key is not its SKU: it is accepted, but if commands of one SKU come over several partitions they are decided more slowly; key commands by SKU with the murmur2 partitioner",
			"place", place(r.Topic, r.Partition, r.Offset), "key_bytes", len(r.Key), "sku", sku)
	})
}

// fetchErrors halts partitions whose log is not what it was. Everything else is an outage that the client waits out.
func (s *session) fetchErrors(fetches kgo.Fetches) {
	var outage error
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
			// No records within the poll's wait.
		case topic == s.config.Topics.Commands.Name && unreadable(err): // faults of the group come without a topic
			s.mu.Lock()
			s.halt(partition, fmt.Errorf("its log cannot be read on from where it was left: %w", err))
			s.mu.Unlock()
			s.pause(partition)
		default:
			outage = err
		}
	})
	if outage != nil {
		s.log.Warn("reading commands", "error", outage)
	}
	s.setHealth("kafka", outage)
}

// unreadable tells errors after which a partition's log is not what it was from those that pass.
func unreadable(err error) bool {
	var lost *kgo.ErrDataLoss
	return errors.As(err, &lost) || errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, kgo.ErrMaxDecompress) ||
		errors.Is(err, kerr.CorruptMessage) || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
}

// pause makes the client leave a halted partition alone.
func (s *session) pause(partition int32) {
	s.paused[partition] = true
	s.kafka.Client().PauseFetchPartitions(map[string][]int32{s.config.Topics.Commands.Name: {partition}})
}

// resume ends the pause of partitions that were assigned anew since they were halted: the client would remember it.
func (s *session) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition := range s.paused {
		if state := s.parts[partition]; state != nil && !state.halted {
			delete(s.paused, partition)
			s.kafka.Client().ResumeFetchPartitions(map[string][]int32{s.config.Topics.Commands.Name: {partition}})
		}
	}
}

// publish ends the poll: its records and the group's offsets become visible together, or not at all.
func (s *session) publish(ctx context.Context, polls []*polled, out []*kgo.Record, generation int32) error {
	if err := s.kafka.Begin(); err != nil {
		return fmt.Errorf("begin the Kafka transaction: %w", err)
	}
	finishing, cancel := s.grace(ctx)
	defer cancel()
	var failed producing
	for _, r := range out {
		s.kafka.Produce(finishing, r, failed.note)
	}
	want := kgo.TryCommit
	if err := errors.Join(s.kafka.Client().Flush(finishing), failed.first()); err != nil {
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
	for _, p := range done {
		p.state.position = p.next
		p.state.published = max(p.state.published, p.next)
		s.metrics.events.Add(float64(p.events))
		s.metrics.deadLetters.Add(float64(p.deadLetters))
		s.metrics.keyMismatches.Add(float64(p.keyMismatches))
		if s.newest == nil {
			s.newest = make(map[int32]time.Time)
		}
		s.newest[p.partition] = p.records[len(p.records)-1].Timestamp
	}
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

// grace is a context for what must be finished although the worker is told to stop: it outlives ctx by the grace
// period.
func (s *session) grace(ctx context.Context) (context.Context, context.CancelFunc) {
	finishing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(s.config.GracePeriod, cancel) })
	return finishing, func() { stop(); cancel() }
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
