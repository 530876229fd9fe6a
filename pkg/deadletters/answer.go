package deadletters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/confirm"
)

const (
	// One transaction holds this many dead letters, or bytes of them, at the most.
	transactionLettersMax = 500
	transactionBytesMax   = 8 << 20

	transactionTimeout = 30 * time.Second

	batchMaxBytes = 17 << 20 // a command as large as a batch may inflate to, and the headers of a replay
)

// ErrMoved says that the dead letters are not those that were shown.
var ErrMoved = errors.New("the dead letters that this chooses are not those that were shown: somebody answered some of them, or more came; look again")

// UnanswerableError says that a dead letter cannot be replayed, and what to do with it.
type UnanswerableError struct{ sentence string }

func (e *UnanswerableError) Error() string { return e.sentence }

// Plan is the dead letters that an answer is for.
type Plan struct {
	Status Status // Replayed or Discarded
	Count  int
	More   bool // there are more than were asked for
	digest confirm.Digest
}

// Token stands for exactly these dead letters and this answer.
func (p *Plan) Token() string { return p.digest.Token() }

func (p *Plan) add(l *Letter) {
	p.Count++
	p.digest.Add(fmt.Sprintf("%s %s", p.Status, l.Place))
}

// errEnough ends a walk that has found as many as were asked for.
var errEnough = errors.New("enough")

// Plan shows what an answer would be for, at most limit dead letters.
func (t Topic) Plan(ctx context.Context, filter Filter, status Status, limit int, show func(*Letter) error) (Plan, error) {
	plan := Plan{Status: status}
	filter.All = false
	err := t.Walk(ctx, filter, func(l *Letter) error {
		if plan.Count == limit {
			plan.More = true
			return errEnough
		}
		plan.add(l)
		return show(l)
	}, nil)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return plan, err
}

// Answer marks the dead letters of the plan that token stands for and, to
// replay them, produces each command again; mark and command in one
// transaction. It returns how many it has answered, also with an error: those
// are done, and the rest is as it was.
//
// A transactional id that all have in common keeps two people apart: who comes
// second ends the first one's transaction, and sees its marks if it was done.
func (t Topic) Answer(ctx context.Context, filter Filter, mark Mark, limit int, token string) (done int, err error) {
	client, err := kgo.NewClient(append(t.Opts[:len(t.Opts):len(t.Opts)],
		kgo.TransactionalID(t.AnswersID),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.ProducerBatchMaxBytes(batchMaxBytes),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // a command goes to the partition that it came from
	)...)
	if err != nil {
		return 0, fmt.Errorf("make a Kafka client: %w", err)
	}
	defer client.Close()
	if _, _, err := client.ProducerID(ctx); err != nil {
		return 0, fmt.Errorf("take over the transactional id: %w", err)
	}
	plan, err := t.Plan(ctx, filter, mark.Status, limit, func(*Letter) error { return nil })
	if err != nil {
		return 0, err
	}
	if token != plan.Token() {
		return 0, ErrMoved
	}
	partitions, err := kadm.NewClient(client).ListTopics(ctx, t.Commands)
	if err == nil {
		err = partitions.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("look at topic %s: %w", t.Commands, err)
	}
	batch := answering{client: client, topic: t, mark: mark, partitions: int32(len(partitions[t.Commands].Partitions))}
	filter.All = false
	err = t.Walk(ctx, filter, func(l *Letter) error {
		if batch.done+len(batch.letters) == plan.Count {
			return errEnough
		}
		return batch.add(ctx, l)
	}, nil)
	if err == nil || errors.Is(err, errEnough) {
		err = batch.commit(ctx)
	}
	return batch.done, err
}

// answering gathers dead letters into transactions.
type answering struct {
	client     *kgo.Client
	topic      Topic
	mark       Mark
	partitions int32
	letters    []*Letter
	bytes      int
	done       int
}

func (a *answering) add(ctx context.Context, l *Letter) error {
	if a.mark.Status == Replayed {
		switch {
		case l.Topic != a.topic.Commands:
			return &UnanswerableError{fmt.Sprintf("the dead letter %s says that it is from topic %q, and commands are replayed to %s only: discard it", l.Place, l.Topic, a.topic.Commands)}
		case l.Partition < 0 || l.Partition >= a.partitions:
			return &UnanswerableError{fmt.Sprintf("the dead letter %s is from partition %d, and topic %s has only %d: discard it and send the command again", l.Place, l.Partition, l.Topic, a.partitions)}
		}
	}
	a.letters = append(a.letters, l)
	a.bytes += size(l.Key, l.Value, l.Headers)
	if len(a.letters) < transactionLettersMax && a.bytes < transactionBytesMax {
		return nil
	}
	return a.commit(ctx)
}

// commit answers what was gathered, all of it or nothing.
func (a *answering) commit(ctx context.Context) error {
	if len(a.letters) == 0 {
		return nil
	}
	if err := a.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin the transaction: %w", err)
	}
	var records []*kgo.Record
	for _, l := range a.letters {
		if a.mark.Status == Replayed {
			records = append(records, l.replayed(a.topic.Name))
		}
		a.mark.Of = l.Place
		records = append(records, a.mark.record(a.topic.Name))
	}
	for _, result := range a.client.ProduceSync(ctx, records...) {
		if result.Err == nil {
			continue
		}
		err := fmt.Errorf("produce to %s: %w", result.Record.Topic, result.Err)
		if errors.Is(result.Err, kerr.MessageTooLarge) {
			err = fmt.Errorf("a command of some %d bytes, headers and all, is larger than %s takes: discard that dead letter: %w", size(result.Record.Key, result.Record.Value, result.Record.Headers), result.Record.Topic, result.Err)
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTimeout)
		defer cancel()
		return errors.Join(err, a.client.EndTransaction(ending, kgo.TryAbort))
	}
	if err := a.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("it is not known whether the last %d were answered (%w): look again with `lotline dlq list --all`", len(a.letters), err)
	}
	a.done += len(a.letters)
	a.letters, a.bytes = nil, 0
	return nil
}
