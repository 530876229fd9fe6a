package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// errorPause keeps a poll that fails at once from spinning.
const errorPause = 100 * time.Millisecond

// delivery is a block on its way to the store, with the offsets that its acknowledgement completes.
type delivery struct {
	records []readmodel.Record
	next    map[int32]position // for each partition, the place after the last record read
	bytes   int
	since   time.Time // when the first record came

	traced []trace.Span // of events that somebody follows; normally none

	// Of one that was not polled: whom to tell that it is written, and what to ask the store instead, if anything.
	done chan error
	ask  func(context.Context, readmodel.Ledger) error
}

func newDelivery() *delivery { return &delivery{next: make(map[int32]position)} }

func (d *delivery) reset() {
	clear(d.records) // so that nothing that they point to is kept
	clear(d.next)
	d.records, d.bytes, d.since, d.traced = d.records[:0], 0, time.Time{}, nil
}

func (d *delivery) empty() bool { return len(d.next) == 0 }

// fill polls into deliveries and hands each over when it is due and the writer is free.
func (c *Consumer) fill(ctx context.Context, free <-chan *delivery, ready chan<- *delivery) error {
	for {
		var d *delivery
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d = <-free:
		}
		if err := c.fillOne(ctx, d, ready); err != nil {
			return err
		}
	}
}

// fillOne polls until d is full, or until it is due (its first event has waited for flushAfter, or for FlushIntervalMin and
// nothing came for the quiet period) and the writer takes it. While the writer is busy it goes on filling: the slower the store, the
// larger its blocks.
func (c *Consumer) fillOne(ctx context.Context, d *delivery, ready chan<- *delivery) error {
	for {
		quiet, err := c.poll(ctx, d)
		if err != nil {
			return err
		}
		if len(d.records) >= c.cfg.BlockEventsMax || d.bytes >= maxBlockBytes {
			select {
			case ready <- d:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if d.empty() {
			continue
		}
		if age := time.Since(d.since); age < c.cfg.FlushIntervalMin || !quiet && age < c.flushAfter() {
			continue
		}
		select {
		case ready <- d:
			return nil
		default:
		}
	}
}

// flushAfter is how long the first event of a block waits for others: as long as the last block took to be written, so
// that a fast store shows events soon, and a busy one is spared blocks and the parts that they leave.
func (c *Consumer) flushAfter() time.Duration {
	return min(max(time.Duration(c.insertTook.Load()), c.cfg.FlushIntervalMin), c.cfg.FlushInterval)
}

// poll adds what has arrived to d, and waits for it a while. quiet says that nothing came.
func (c *Consumer) poll(ctx context.Context, d *delivery) (quiet bool, err error) {
	patience := QuietPeriod
	if left := c.flushAfter() - time.Since(d.since); !d.empty() && left > 0 {
		patience = min(patience, left)
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fetches := c.client.PollRecords(wait, c.cfg.BlockEventsMax-len(d.records))
	defer c.client.AllowRebalance()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	// After a data loss the client goes on from elsewhere by itself: stop before taking what it read there.
	fetches.EachError(func(_ string, p int32, err error) {
		var loss *kgo.ErrDataLoss
		if errors.As(err, &loss) {
			c.stop(p, err)
		}
	})
	failed := false
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		c.take(d, p.Partition, p.Records)
		if p.Err != nil && !errors.Is(p.Err, context.DeadlineExceeded) { // the end of wait comes as an error too
			failed = true
			c.fetchFailed(p.Topic, p.Partition, p.Err)
		}
	})
	if failed {
		select {
		case <-time.After(errorPause):
		case <-ctx.Done():
		}
	}
	return fetches.NumRecords() == 0, nil
}

// take adds the records of one partition to d, up to the first that cannot be projected.
func (c *Consumer) take(d *delivery, partition int32, records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	assignment, ok := c.owned.running(partition)
	if !ok {
		return
	}
	if d.empty() {
		d.since = time.Now()
	}
	for _, r := range records {
		if !r.Attrs.IsControl() {
			record, err := decode(r)
			if err != nil {
				c.stop(partition, fmt.Errorf("the record at offset %d is not an event: %w", r.Offset, err))
				return
			}
			d.records = append(d.records, record)
			if c.holes != nil {
				c.holes.see(&record)
			}
			c.follow(d, r)
		}
		d.bytes += len(r.Value)
		d.next[partition] = position{assignment: assignment, EpochOffset: kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}}
	}
}

// decode returns the event that r carries, if a read model can hold it.
func decode(r *kgo.Record) (readmodel.Record, error) {
	envelope, data, err := cloudevents.Read(r.Headers, r.Value)
	if err != nil {
		return readmodel.Record{}, err
	}
	event, err := schemas.DecodeEvent(envelope.Type, envelope.ContentType, data)
	if err != nil {
		return readmodel.Record{}, err
	}
	record := readmodel.Record{Event: event, ID: envelope.ID, Time: envelope.Time, Partition: r.Partition, Offset: r.Offset}
	return record, record.Check()
}

// fetchFailed stops the partition if going on would lose events or can never succeed; other failures the client
// tries again by itself, or needs a new assignment for; they are reported until an event of the partition comes.
func (c *Consumer) fetchFailed(topic string, partition int32, err error) {
	var group *kgo.ErrGroupSession
	if errors.As(err, &group) {
		err = fmt.Errorf("not in the group: %w", kafkaclient.Explain(err))
		c.health.Set(c.cfg.Group, err)
		c.log.Warn("not in the consumer group, trying again", "error", err)
		return
	}
	if topic != c.cfg.Topic {
		// A failure of a whole response comes as partition 0 or -1 of no topic. The client has logged it and tries
		// again.
		return
	}
	var tooLarge *kgo.ErrDecompressTooLarge
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		c.stop(partition, fmt.Errorf("the group's offset is not in the log, so events are missing or the topic is another one: %w", err))
	case errors.Is(err, kerr.UnknownTopicID):
		c.stop(partition, fmt.Errorf("the topic was deleted and created again: %w", err))
	case errors.As(err, &tooLarge):
		c.stop(partition, err)
	default:
		c.owned.troubled(partition, kafkaclient.Explain(err))
	}
}

// stop ends the reading of a partition, by name, until it is assigned anew. Its events up to here are still written.
func (c *Consumer) stop(partition int32, err error) {
	if c.owned.stop(partition, err) {
		c.client.PauseFetchPartitions(map[string][]int32{c.cfg.Topic: {partition}})
	}
}
