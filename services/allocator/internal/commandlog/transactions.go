package commandlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

// transaction is a Kafka transaction that is open, with the pieces that it publishes.
//
// Nothing of it counts before it is ended, so all of it but the end is on its way while Postgres commits: the records and, once they
// are taken, the group's offsets. The client's own way to end one (kgo.GroupTransactSession) adds the offsets, asks the group with a
// heartbeat and ends it, one after the other, after Postgres. The heartbeat is for brokers that do not keep from a new member of the
// group the offsets of a transaction that is open (before Kafka 2.5). Others have it wait, so that offsets that were taken under the
// poll's generation may be committed whatever the group does meanwhile:
//
//	the offsets of 0..9 are taken, and Postgres commits them
//	the group gives the partition to B, which asks for its offset and is told to wait
//	the transaction is committed: B begins at 10. Or this process dies, and it is aborted: B begins at 0, and finds 0..9 in the outbox
type transaction struct {
	by         *producer
	opened     time.Time
	generation int32 // of the group, when what it publishes was polled
	ready      []piece
	records    int
	failed     producing
	refused    error // the group's offsets were not taken
	span       trace.Span
}

// open begins a transaction, and sends its records and the group's offsets. ctx must be one of grace. The caller ends the
// transaction: by commit, or by giving up the poll.
func (s *session) open(ctx context.Context, ready []piece, generation int32) (*transaction, error) {
	t := &transaction{generation: generation, ready: ready}
	ctx, t.span = s.sending(ctx, ready)
	taken := s.nameWait()
	err := s.settled(ctx)
	taken()
	by, _ := s.inTurn()
	if err == nil {
		err = by.client.BeginTransaction()
	}
	if err != nil {
		t.drop(err)
		return nil, fmt.Errorf("begin the Kafka transaction: %w", err)
	}
	s.begun, t.by, t.opened = by, by, time.Now()
	for i := range ready {
		t.records += len(ready[i].records)
		for _, r := range ready[i].records {
			by.client.Produce(ctx, r, t.failed.note)
		}
	}
	s.offering.Go(func() { s.offer(ctx, t) })
	return t, nil
}

// drop ends what is said of a transaction that is not committed.
func (t *transaction) drop(why error) {
	sent(t.span, t.ready, false, why)
}

// offer adds the group's offsets to a transaction once its records are taken. One at a time: brokers refuse to add to a transaction what
// is sent while they add something else.
func (s *session) offer(ctx context.Context, t *transaction) {
	defer s.nameWait()()
	if err := t.by.client.Flush(ctx); err != nil {
		t.failed.note(&kgo.Record{Topic: s.config.Topics.Events.Name}, err)
	}
	if t.failed.first() == nil && t.records > 0 {
		t.refused = s.addOffsets(ctx, t)
	}
}

// addOffsets adds the group's offsets to the transaction, as far as it publishes.
func (s *session) addOffsets(ctx context.Context, t *transaction) error {
	member, now := s.kafka.GroupMetadata()
	if err := t.fits(now); err != nil {
		return err
	}
	id, epoch, err := t.by.client.ProducerID(ctx)
	if err != nil {
		return err
	}
	if !s.groupAddedByOffsets {
		if err := s.addGroup(ctx, t.by.client, t.by.id, id, epoch); err != nil {
			return err
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.by.id, id, epoch
	req.Group, req.MemberID, req.Generation = s.config.Group, member, t.generation
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topicName, offsets := s.upTo(t.ready)
	topic.Topic, topic.TopicID = s.config.Topics.Commands.Name, topicID(topicName)
	for partition, offset := range offsets {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, offset, -1, &member
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, t.by.client)
	if err != nil {
		return err
	}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	return err
}

// fits says whether offsets may be committed under a generation of the group: only under the poll's.
func (t *transaction) fits(generation int32) error {
	if generation != t.generation {
		return fmt.Errorf("the poll is of generation %d and the group is at %d: %w", t.generation, generation, kerr.IllegalGeneration)
	}
	return nil
}

// addGroup adds the group to a producer's transaction, before its offsets.
func (w *Worker) addGroup(ctx context.Context, client *kgo.Client, transactionalID string, producer int64, epoch int16) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = transactionalID, producer, epoch, w.config.Group
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("add the group: %w", err)
	}
	return nil
}

// commit ends an open transaction. finishing must be one of grace; ctx bounds what need not be done when the worker is told to stop.
func (s *session) commit(finishing, ctx context.Context, t *transaction) (committed bool, err error) {
	defer func() { sent(t.span, t.ready, committed, err) }()
	s.offering.Wait()
	if err := t.failed.first(); err != nil {
		// An event that did not arrive must not be counted as published: abort, and publish from the outbox.
		s.log.WarnContext(finishing, "aborting: not every record was taken", "error", kafkaclient.Explain(err))
		s.setHealth("publishing", err)
		s.backOff(ctx)
		return s.end(finishing, kgo.TryAbort, nil)
	}
	s.aborts = 0
	s.setHealth("publishing", nil)
	if err = t.refused; err == nil {
		err = s.settledBefore(finishing, t.opened)
	}
	if err == nil && t.records == 0 {
		err = s.commitOffsets(finishing, t)
	}
	s.oneByOne = errors.Is(err, errInDoubt)
	if err == nil {
		return s.end(finishing, kgo.TryCommit, t.ready)
	}
	s.log.InfoContext(finishing, "aborting a Kafka transaction", "reason", err)
	committed, failed := s.end(finishing, kgo.TryAbort, nil)
	if failed == nil && !comesAgain(err) {
		failed = fmt.Errorf("commit a Kafka transaction: %w", err)
	}
	return committed, failed
}

// commitOffsets commits the offsets of a transaction that publishes nothing, all of it being published: the client ends none that it
// knows of no record in.
func (s *session) commitOffsets(ctx context.Context, t *transaction) (err error) {
	positions := make(map[int32]kgo.EpochOffset, len(t.ready))
	_, offsets := s.upTo(t.ready)
	for partition, offset := range offsets {
		positions[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error { return t.fits(req.Generation) })
	s.kafka.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.config.Topics.Commands.Name: positions},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, failed error) {
			if err = failed; err != nil {
				return
			}
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
	return err
}

// comesAgain tells errors for which a poll comes again, in the same session, from those that will be met again: the group or its
// coordinator has moved on.
func comesAgain(err error) bool {
	return slices.ContainsFunc([]error{
		errInDoubt, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.StaleMemberEpoch, kerr.GroupIDNotFound, kerr.RebalanceInProgress,
		kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator,
		kerr.ConcurrentTransactions, kerr.TransactionAbortable, kerr.UnknownServerError,
	}, func(again error) bool { return errors.Is(err, again) })
}

// end ends the transaction, if there is one, and learns from how it went. done is what a commit covers.
// ctx must be one of grace: an end that is cut off leaves the client unusable.
func (s *session) end(ctx context.Context, want kgo.TransactionEndTry, done []piece) (committed bool, err error) {
	s.offering.Wait()
	s.settleNoLonger()
	if p := s.begun; p != nil {
		p.last = ending{pending: true, cuts: s.cuts.Load()}
		s.begun, s.turn = nil, 1-s.turn
		committed, err = s.endTransaction(ctx, p.client, want)
	}
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

// endTransaction ends the transaction as wanted, or aborts it where the client or the broker says that it is not committed, or not
// whether it is. Then the client fences it first, so that it is not committed later.
func (s *session) endTransaction(ctx context.Context, client *kgo.Client, want kgo.TransactionEndTry) (committed bool, err error) {
	if want == kgo.TryCommit {
		err = client.EndTransaction(ctx, kgo.TryCommit)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, kerr.OperationNotAttempted), errors.Is(err, kerr.TransactionAbortable), errors.Is(err, kerr.UnknownServerError):
			s.log.InfoContext(ctx, "aborting: the transaction could not be committed", "reason", err)
		default:
			return false, err
		}
		if errors.Is(err, kerr.UnknownTopicID) { // what it produced to is gone: the client has to be a new one
			return false, errors.Join(err, client.EndTransaction(ctx, kgo.TryAbort))
		}
	}
	if err := client.AbortBufferedRecords(ctx); err != nil {
		return false, err
	}
	return false, client.EndTransaction(ctx, kgo.TryAbort)
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
