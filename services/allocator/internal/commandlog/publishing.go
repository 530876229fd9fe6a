package commandlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

const (
	settleMax     = 10 * time.Second      // for asking what is committed after an unclear end
	unstablePause = 50 * time.Millisecond // before offsets that a transaction is about to change are asked for again
	publishSlow   = 5 * time.Second       // events that are not taken for so long are named
	abortPauseMin = 20 * time.Millisecond // after the broker refused a record
	abortPauseMax = 2 * time.Second
)

// publish makes what a poll has to publish visible, in as few Kafka transactions as the order of events allows: one, if
// nothing depends on what others have not published yet. What has to wait is left to a later poll if that takes long.
func (s *session) publish(ctx context.Context, q *queue, generation int32) error {
	for {
		if ready := q.take(s.publishedBelow); len(ready) > 0 {
			committed, err := s.transact(ctx, q, ready, generation)
			if err != nil || !committed {
				s.dropWaits()
				return err
			}
		}
		s.noteWaits(q.rest(s.publishedBelow))
		if q.left() == 0 {
			return nil
		}
		if more, err := s.await(ctx, q, generation); err != nil || !more {
			return err
		}
	}
}

// transaction is a Kafka transaction that is open, with the pieces that it publishes.
type transaction struct {
	generation int32 // of the group, when what it publishes was polled
	polled     []int32
	ready      []piece
	failed     producing
	span       trace.Span
}

// transact publishes pieces in one Kafka transaction: their records and the group's offsets become visible together, or
// not at all.
func (s *session) transact(ctx context.Context, q *queue, ready []piece, generation int32) (committed bool, err error) {
	finishing, cancel := s.grace(ctx)
	defer cancel()
	t, err := s.open(finishing, q.partitions, ready, generation)
	if err != nil {
		return false, err
	}
	return s.commit(finishing, ctx, t)
}

// open begins a transaction and sends its records. ctx must be one of grace. The caller ends the transaction: by commit, or by
// giving up the poll.
func (s *session) open(ctx context.Context, polled []int32, ready []piece, generation int32) (*transaction, error) {
	t := &transaction{generation: generation, polled: polled, ready: ready}
	ctx, t.span = s.sending(ctx, ready)
	defer s.nameWait()()
	err := s.settled(ctx)
	if err == nil {
		err = s.kafka.Begin()
	}
	if err != nil {
		t.drop(err)
		return nil, fmt.Errorf("begin the Kafka transaction: %w", err)
	}
	for i := range ready {
		for _, r := range ready[i].records {
			s.kafka.Produce(ctx, r, t.failed.note)
		}
	}
	return t, nil
}

// drop ends what is said of a transaction that is not committed.
func (t *transaction) drop(why error) {
	sent(t.span, t.ready, false, why)
}

// commit ends an open transaction: once its records are taken, with the group's offsets. finishing must be one of grace; ctx
// bounds what need not be done when the worker is told to stop.
func (s *session) commit(finishing, ctx context.Context, t *transaction) (committed bool, err error) {
	defer func() { sent(t.span, t.ready, committed, err) }()
	want := kgo.TryCommit
	taken := s.nameWait()
	flushed := s.kafka.Client().Flush(finishing)
	taken()
	if err := errors.Join(flushed, t.failed.first()); err != nil {
		// An event that did not arrive must not be counted as published: abort, and publish from the outbox.
		s.log.WarnContext(finishing, "aborting: not every record was taken", "error", kafkaclient.Explain(err))
		want = kgo.TryAbort
		s.setHealth("publishing", err)
		s.backOff(ctx)
	} else {
		s.aborts = 0
		s.setHealth("publishing", nil)
	}
	if _, now := s.kafka.Client().GroupMetadata(); now != t.generation {
		want = kgo.TryAbort
	}
	upTo := s.upTo(t.ready)
	finishing = kgo.PreTxnCommitFnContext(finishing, func(req *kmsg.TxnOffsetCommitRequest) error {
		return s.offsets(req, t.generation, t.polled, upTo)
	})
	return s.end(finishing, want, t.ready)
}

// nameWait says in /readyz that events wait for Kafka, once they have for a while, until taken is called: the client
// offers them for as long as Kafka is away. What taken leaves there is the caller's to change.
func (s *session) nameWait() (taken func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var naming sync.WaitGroup
	naming.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(s.publishSlow):
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

// end ends the transaction, if there is one, and learns from how it went. done is what a commit covers.
// ctx must be one of grace: an end that is cut off leaves the client unusable.
func (s *session) end(ctx context.Context, want kgo.TransactionEndTry, done []piece) (committed bool, err error) {
	s.settling.Wait()
	if !s.last.pending { // which is true only of an end that ends nothing
		s.last = ending{pending: true, cuts: s.cuts.Load()}
	}
	committed, err = s.kafka.End(ctx, want)
	if err != nil {
		s.metrics.aborts.Inc()
		return false, fmt.Errorf("%w: %w", errUnknown, err)
	}
	if !committed {
		s.metrics.aborts.Inc()
		return false, s.rewound(ctx)
	}
	s.metrics.transactions.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	commands := 0
	for i := range done {
		p, state := &done[i], done[i].poll.state
		commands += len(p.commands)
		state.position = p.next
		state.published = max(state.published, p.next)
		if state.suspect {
			state.suspect, state.retryPause = false, 0
			s.unhalt(p.poll.partition)
			s.log.Info("a halted partition goes on", "partition", p.poll.partition, "offset", p.next)
		}
		s.metrics.published(p)
		if n := len(p.commands); n > 0 {
			s.newest[p.poll.partition] = p.commands[n-1].Timestamp
		}
	}
	s.metrics.pollCommands.Observe(float64(commands))
	return true, nil
}

// upTo is what a commit of the pieces moves the group's offsets to; never below what is published already, for after a
// restore positions are lower than that.
func (s *session) upTo(ready []piece) map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	offsets := make(map[int32]int64, len(s.parts))
	for i := range ready {
		offsets[ready[i].poll.partition] = max(ready[i].next, ready[i].poll.state.published)
	}
	return offsets
}

// publishedBelow is the offset below which a partition's events are known to be visible, whoever has the partition.
func (s *session) publishedBelow(partition int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.below(partition)
}

// below is publishedBelow for callers that hold mu.
func (s *session) below(partition int32) int64 {
	below := s.elsewhere[partition]
	if state := s.parts[partition]; state != nil {
		below = max(below, state.published)
	}
	return below
}

// offsets is the last look at what is about to be committed, and runs in the client, so it must not lock: never under
// another generation than the poll's, and only what this transaction publishes. The client asks for all of the poll, at
// its end, and in a second transaction of the same poll for nothing.
func (s *session) offsets(req *kmsg.TxnOffsetCommitRequest, generation int32, polled []int32, upTo map[int32]int64) error {
	if req.Generation != generation {
		return fmt.Errorf("the poll is of generation %d and the group is at %d", generation, req.Generation)
	}
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = s.config.Topics.Commands.Name
	asked := make(map[int32]kmsg.TxnOffsetCommitRequestTopicPartition)
	for _, t := range req.Topics {
		topic.TopicID = t.TopicID
		for _, p := range t.Partitions {
			if !slices.Contains(polled, p.Partition) {
				return fmt.Errorf("partition %d would be committed and is not of this poll", p.Partition)
			}
			asked[p.Partition] = p
		}
	}
	for partition, offset := range upTo {
		p, ok := asked[partition]
		if !ok || p.Offset != offset {
			p = kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, offset, -1, &req.MemberID
		}
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{topic}
	return nil
}

// rewound adopts the positions that the client went back to. That the transaction was not committed is what the
// client believes; a lost answer may hide a commit, so what is published is asked for again. Otherwise: the commit
// happened, the answer was lost, the records come again, and their events would be published twice.
func (s *session) rewound(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	topic := s.config.Topics.Commands.Name
	committed, err := Committed(asking, s.admin, s.config.Group, s.assigned()...)
	if err != nil {
		return fmt.Errorf("after an aborted transaction: %w", err)
	}
	believed := s.kafka.Client().CommittedOffsets()[topic]
	ahead := make(map[int32]int64)
	s.mu.Lock()
	for partition, state := range s.parts {
		if at, ok := committed.Lookup(topic, partition); ok {
			state.published = max(state.published, at.At)
		}
		if at, ok := believed[partition]; ok {
			state.position = min(at.Offset, state.published)
			if at.Offset > state.published {
				ahead[partition] = state.published
			}
		}
		state.applied = unknown
	}
	s.mu.Unlock()
	s.forget()
	s.errorsSince = nil
	s.setPositions(ahead)
	return nil
}

// Committed are the group's offsets, once no transaction is about to change those of the partitions, which are of the
// commands topic. What runs on others is not waited for: it may be a dead member's, which the broker ends after the
// transaction timeout. The error wraps kerr.GroupIDNotFound if there is no such group; ctx bounds the waiting.
func Committed(ctx context.Context, adm *kadm.Client, group string, partitions ...int32) (kadm.OffsetResponses, error) {
	for {
		committed, err := adm.FetchOffsets(kadm.RequireStable(ctx), group)
		committed.Each(func(o kadm.OffsetResponse) {
			if slices.Contains(partitions, o.Partition) || !errors.Is(o.Err, kerr.UnstableOffsetCommit) {
				err = errors.Join(err, o.Err)
			}
		})
		switch {
		case err == nil:
			return committed, nil
		case !errors.Is(err, kerr.UnstableOffsetCommit):
			return nil, fmt.Errorf("fetch the offsets of group %s: %w", group, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("fetch the offsets of group %s, which a transaction is about to change: %w", group, err)
		case <-time.After(unstablePause):
		}
	}
}

// setPositions has the client go to other positions, and believe that these are committed. It takes a poll for committed
// as a whole when only a part of it was: going on from there, or back to there, would lose the rest.
func (s *session) setPositions(offsets map[int32]int64) {
	if len(offsets) == 0 {
		return
	}
	positions := make(map[int32]kgo.EpochOffset, len(offsets))
	for partition, offset := range offsets {
		positions[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	s.kafka.Client().SetOffsets(map[string]map[int32]kgo.EpochOffset{s.config.Topics.Commands.Name: positions})
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
