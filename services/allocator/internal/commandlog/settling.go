package commandlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A Kafka transaction ends in two steps. Its coordinator notes the outcome, which is when the producer hears of it; then
// every partition of the transaction gets a marker. A broker that dies in between has to write the missing markers when
// it is back. Apache Kafka 4.3.0 to 4.4.0 do not where a partition has no leader at that moment, as all have that are
// kept by the restarting broker alone: they take it for deleted and note the transaction as complete (KAFKA-20734).
//
// The records there stay open and hide whatever follows from read_committed consumers. That can be seen. What cannot:
// the producer's next marker in that partition ends them too, with the outcome of another transaction. So events that
// were committed, and count as published, vanish with the next abort:
//
//	T1 commits: events of 0..9 on partitions 3 and 4, and the group's offset 10
//	the broker dies after the markers of 4 and of the offset, and forgets that of 3
//	T2 begins, has events on partition 3 and is aborted, as by a rebalance: the events of 0..9 there are gone
//
// Therefore no transaction is begun before its producer's last is known to have all its markers (producers.go). Where it has not, an empty
// transaction with the same outcome is made over what is open: its markers are the missing ones. It needs no more
// rights than the worker's own transactions.

const (
	settlePauseMin = time.Millisecond
	settlePauseMax = 250 * time.Millisecond
)

// The states of a transactional id, as brokers name them.
const (
	stateOngoing        = "Ongoing"
	stateEmpty          = "Empty"
	stateCompleteCommit = "CompleteCommit"
	stateCompleteAbort  = "CompleteAbort"
)

var (
	// errLeftOpen ends a session, so that the next one ends the transaction before it begins another.
	errLeftOpen = errors.New("the broker forgot to end the last Kafka transaction on every partition")
	// errOutcomeUnknown keeps a worker from beginning anything: either outcome could be the wrong one.
	errOutcomeUnknown = errors.New("the broker forgot to end a Kafka transaction and does not say any more how it was to end; see DESIGN.md of the allocator, \"The broker forgets to end a transaction\"")
)

// settle brings what earlier lives of the transactional ids left behind to its end, before these are used for anything.
func (w *Worker) settle(ctx context.Context) error {
	client, err := kgo.NewClient(w.config.Client...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	for _, id := range w.config.transactionalIDs() {
		if err := w.settleID(ctx, client, id); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) settleID(ctx context.Context, client *kgo.Client, id string) error {
	mended := false
	for pause := settlePauseMin; ; pause = min(2*pause, settlePauseMax) {
		last, err := w.lastTransaction(ctx, id)
		switch {
		case errors.Is(err, kerr.TransactionalIDNotFound):
			return nil
		case err != nil:
			return err
		case last.State == stateOngoing:
			if err := w.takeOver(ctx, client, id); err != nil {
				return err
			}
		case ended(last.State):
			left, err := w.leftOpen(ctx, last.ProducerID)
			switch {
			case err != nil:
				return err
			case mended && len(left.partitions) > 0:
				return fmt.Errorf("%w, again: %v", errLeftOpen, left.partitions)
			case mended || !left.any():
				return nil
			}
			if err := w.mend(ctx, client, last, left); err != nil {
				return err
			}
			mended = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// ended tells states in which all markers are written, or given up, from those in which they are being written.
func ended(state string) bool {
	return state == stateEmpty || state == stateCompleteCommit || state == stateCompleteAbort
}

func (w *Worker) lastTransaction(ctx context.Context, id string) (kadm.DescribedTransaction, error) {
	described, err := w.admin.DescribeTransactions(ctx, id)
	if err != nil {
		return kadm.DescribedTransaction{}, fmt.Errorf("ask how the last Kafka transaction stands: %w", err)
	}
	last, err := described.On(id, nil)
	if err == nil {
		err = last.Err
	}
	if err != nil {
		return last, fmt.Errorf("ask how the last Kafka transaction stands: %w", err)
	}
	return last, nil
}

// takeOver fences an earlier life of the id and has its open transaction aborted.
func (w *Worker) takeOver(ctx context.Context, client *kgo.Client, id string) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = kmsg.StringPtr(id)
	req.TransactionTimeoutMillis = int32(w.config.TransactionTimeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil && !errors.Is(err, kerr.ConcurrentTransactions) { // which says that the abort is under way
		return fmt.Errorf("take over the transactional id: %w", err)
	}
	return nil
}

// left is what the markers of a transaction that has ended do not cover.
type left struct {
	partitions kadm.TopicsSet // of events and dead letters
	offsets    bool           // the group's, by this producer or by a running transaction of another
}

func (l left) any() bool { return len(l.partitions) > 0 || l.offsets }

// leftOpen looks for what is open of a producer although its last transaction has ended.
func (w *Worker) leftOpen(ctx context.Context, producer int64) (left, error) {
	var found left
	var of kadm.TopicsSet
	of.Add(w.config.Topics.Events.Name)
	of.Add(w.config.Topics.DeadLetters.Name)
	described, err := w.admin.DescribeProducers(ctx, of)
	var denied *kadm.AuthError
	if errors.As(err, &denied) {
		w.log.Warn("cannot look for transactions that the broker forgot to end: that needs READ on the topics of events and dead letters", "error", err)
		return left{}, nil
	}
	if err != nil {
		return left{}, fmt.Errorf("look for transactions that the broker forgot to end: %w", err)
	}
	for _, p := range described.SortedPartitions() {
		if p.Err != nil {
			return left{}, fmt.Errorf("look for transactions that the broker forgot to end, on partition %d of %s: %w", p.Partition, p.Topic, p.Err)
		}
		if at, ok := p.ActiveProducers[producer]; ok && at.CurrentTxnStartOffset >= 0 {
			found.partitions.Add(p.Topic, p.Partition)
		}
	}
	committed, err := w.admin.FetchOffsets(kadm.RequireStable(ctx), w.config.Group)
	if errors.Is(err, kerr.GroupIDNotFound) { // it comes with the first member, and has nothing to commit yet
		return found, nil
	}
	if err != nil {
		return left{}, fmt.Errorf("look for offsets that the broker forgot to commit: %w", err)
	}
	committed.Each(func(o kadm.OffsetResponse) {
		found.offsets = found.offsets || errors.Is(o.Err, kerr.UnstableOffsetCommit)
	})
	return found, nil
}

// mend makes a transaction with the last one's outcome over what that left open. The group's offsets are always part of
// it: the marker of a producer with none is harmless.
func (w *Worker) mend(ctx context.Context, client *kgo.Client, last kadm.DescribedTransaction, left left) error {
	if last.State == stateEmpty {
		if len(left.partitions) > 0 {
			return fmt.Errorf("%w: producer id %d on %v", errOutcomeUnknown, last.ProducerID, left.partitions)
		}
		return nil // the offsets are another's: this id's were settled before its epoch was raised
	}
	if len(left.partitions) > 0 {
		w.metrics.mended.Inc()
		w.log.Warn("the broker forgot to end a transaction on every partition: ending it once more, in the same way", "state", last.State, "producer_id", last.ProducerID, "partitions", left.partitions)
	}
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = last.TxnID, last.ProducerID, last.ProducerEpoch
	for _, t := range left.partitions.Sorted() {
		topic := kmsg.NewAddPartitionsToTxnRequestTopic()
		topic.Topic, topic.Partitions = t.Topic, t.Partitions
		add.Topics = append(add.Topics, topic)
	}
	if len(add.Topics) > 0 {
		resp, err := add.RequestWith(ctx, client)
		if err != nil {
			return fmt.Errorf("end a transaction once more: add its partitions: %w", err)
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("end a transaction once more: add partition %d of %s: %w", p.Partition, t.Topic, err)
				}
			}
		}
	}
	if err := w.addGroup(ctx, client, last.TxnID, last.ProducerID, last.ProducerEpoch); err != nil {
		return fmt.Errorf("end a transaction once more: %w", err)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = last.TxnID, last.ProducerID, last.ProducerEpoch, last.State == stateCompleteCommit
	answer, err := end.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end a transaction once more: %w", err)
	}
	return nil
}
