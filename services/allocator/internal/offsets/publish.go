package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/commandlog"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

const (
	outboxBytesMax = 256 << 20        // of decided events that are published with a move
	postgresMax    = 30 * time.Second // for reading them
	transaction    = 30 * time.Second
)

// unpublished finds what was decided below the target and is not published: no allocator can poll those commands any
// more, so nobody would ever publish their events, and the histories of their SKUs would have holes. Which of them are
// visible already is read from the events topic: the group's offset may be gone with the topic.
func (d *Desk) unpublished(ctx context.Context, p *Skip) error {
	s := &p.standing
	next := min(p.To, s.Applied)
	if s.Seen != s.TopicID {
		next = s.Applied
	}
	if s.published >= next {
		return nil
	}
	if s.Halted == "" {
		return fmt.Errorf("partition %d: offsets %s are decided, and an allocator publishes them: start one, and look again", s.Partition, span(s.published, next))
	}
	store, err := postgres.New(func() (string, error) { return d.url, nil }, postgresMax)
	if err != nil {
		return err
	}
	defer store.Close()
	waiting, err := store.Outbox(ctx, s.Partition, s.published, next, outboxBytesMax)
	if err != nil {
		return err
	}
	if waiting.TooMuch || waiting.Position != s.stored.Position {
		return fmt.Errorf("partition %d: %w (or its outbox has more than %d MiB)", s.Partition, ErrMoved, outboxBytesMax>>20)
	}
	var all []outbox.Entry
	reached := s.published
	lose := func(below int64) {
		if reached < below {
			p.GivenUp = append(p.GivenUp, fmt.Sprintf("the events of offsets %s, which are decided: they are neither in the outbox nor known to be published", span(reached, below)))
		}
	}
	for _, segment := range waiting.Segments {
		lose(segment.First)
		reached = max(reached, segment.Next)
		entries, err := segment.Entries()
		if err != nil {
			return err
		}
		piece := piece{plan: p, next: min(segment.Next, next), dependsOn: segment.DependsOn}
		for _, e := range entries {
			switch {
			case e.Offset < s.published || e.Offset >= next:
			case e.DeadLetter != "":
				p.Lost = append(p.Lost, Decided{Offset: e.Offset, Reason: e.DeadLetter})
			default:
				piece.entries = append(piece.entries, e)
			}
		}
		all = append(all, piece.entries...)
		p.pieces = append(p.pieces, piece)
	}
	lose(next)
	p.pieces = append(p.pieces, piece{plan: p, next: next}) // what has no segment is given up
	if len(all) == 0 {
		return nil
	}
	visible, err := d.find(ctx, s.Partition, s.Seen, s.published, next, all[0].Time)
	if err != nil {
		return err
	}
	for i := range p.pieces {
		piece := &p.pieces[i]
		piece.entries = slices.DeleteFunc(piece.entries, func(e outbox.Entry) bool { return visible[e.Offset] })
		for _, e := range piece.entries {
			p.Publish = append(p.Publish, Decided{Offset: e.Offset, SKU: string(e.Messages[0].Key), Events: len(e.Messages)})
		}
	}
	return nil
}

// publish makes the events of plans visible, in one transaction and in order. Its id is the same for all that do this: who
// comes second ends the first one's transaction, and must look again.
func (d *Desk) publish(ctx context.Context, plans []*Skip) error {
	pieces, err := inOrder(plans)
	if err != nil {
		return err
	}
	var records []*kgo.Record
	for _, piece := range pieces {
		for _, e := range piece.entries {
			records = append(records, commandlog.EventRecords(d.topics.Events.Name, piece.plan.standing.Seen, piece.plan.Partition, e)...)
		}
	}
	if len(records) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(d.opts[:len(d.opts):len(d.opts)],
		kgo.TransactionalID(d.group+".offsets"), kgo.TransactionTimeout(transaction))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	if _, _, err := client.ProducerID(ctx); err != nil {
		return fmt.Errorf("take over the transactional id: %w", err)
	}
	for _, p := range plans {
		if err := d.stillHidden(ctx, p); err != nil {
			return err
		}
	}
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin the transaction: %w", err)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), transaction)
		defer cancel()
		return errors.Join(fmt.Errorf("produce to %s: %w", d.topics.Events.Name, err), client.EndTransaction(ending, kgo.TryAbort))
	}
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("it is not known whether the events were published (%w): look again", err)
	}
	return nil
}

// stillHidden makes sure that nobody has published what the plan would publish since it was made.
func (d *Desk) stillHidden(ctx context.Context, p *Skip) error {
	if len(p.Publish) == 0 {
		return nil
	}
	first, last := p.Publish[0].Offset, p.Publish[len(p.Publish)-1].Offset
	at := p.pieces[slices.IndexFunc(p.pieces, func(piece piece) bool { return len(piece.entries) > 0 })].entries[0].Time
	visible, err := d.find(ctx, p.Partition, p.standing.Seen, first, last+1, at)
	if err != nil {
		return err
	}
	for _, e := range p.Publish {
		if visible[e.Offset] {
			return fmt.Errorf("partition %d: %w", p.Partition, ErrMoved)
		}
	}
	return nil
}

// find says which of a partition's commands at offsets [from, next) of the topic with that id have events that are visible;
// the first of them was appended at since (zero: nobody knows).
func (d *Desk) find(ctx context.Context, partition int32, topicID string, from, next int64, since time.Time) (map[int64]bool, error) {
	found := make(map[int64]bool)
	err := d.events.Of(ctx, topicID, partition, from, next, since, func(offset int64, _ *kgo.Record) bool {
		found[offset] = true
		return true
	})
	return found, err
}
