package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	stalledAfter = 2 * time.Minute // without an event, a trial fails
	inTime       = time.Minute     // for one Kafka transaction of the driver
)

// Driver sends commands in Kafka transactions and counts events as a read_committed consumer sees them. It is not for
// concurrent use.
type Driver struct {
	site     *Site
	producer *kgo.Client
	consumer *kgo.Client
}

// Drive makes a driver; the caller closes it.
func (s *Site) Drive() (*Driver, error) {
	producer, err := kgo.NewClient(append(s.Config.Opts("bench-producer"), kgo.TransactionalID(s.Config.TopicPrefix), kgo.TransactionTimeout(inTime),
		kgo.MaxBufferedRecords(1_000_000), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return nil, err
	}
	consumer, err := kgo.NewClient(append(s.Config.Opts("bench-consumer"), kgo.ConsumeTopics(s.Set.Events.Name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		producer.Close()
		return nil, err
	}
	return &Driver{site: s, producer: producer, consumer: consumer}, nil
}

// Close ends the driver.
func (d *Driver) Close() {
	d.producer.Close()
	d.consumer.Close()
}

// Send has Kafka hold commands that nobody can read yet. show makes them visible, all at once, and returns when it
// began to: so the driver's own work is done before anything is measured.
func (d *Driver) Send(ctx context.Context, w *Work, commands []Command) (show func() (time.Time, error), err error) {
	if err := d.producer.BeginTransaction(); err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	for i := range commands {
		record := commands[i].Record(d.site.Set.Commands.Name, w.Encoding)
		record.Partition = w.Partition(&commands[i], d.site.Set.Commands.Partitions)
		d.producer.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := d.producer.Flush(ctx); err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		return nil, fmt.Errorf("produce commands: %w", err)
	default:
	}
	return func() (time.Time, error) {
		began := time.Now()
		return began, d.producer.EndTransaction(ctx, kgo.TryCommit)
	}, nil
}

// Do sends commands and returns how long it took until all their events were seen, one each.
func (d *Driver) Do(ctx context.Context, w *Work, commands []Command) (time.Duration, error) {
	show, err := d.Send(ctx, w, commands)
	if err != nil {
		return 0, err
	}
	began, err := show()
	if err != nil {
		return 0, err
	}
	ended, err := d.Await(ctx, len(commands))
	return ended.Sub(began), err
}

// Await returns when so many more events were seen, and at once if there are too many.
func (d *Driver) Await(ctx context.Context, events int) (time.Time, error) {
	var last time.Time
	err := d.each(ctx, events, func(_ *kgo.Record, at time.Time) error {
		last = at
		return nil
	})
	return last, err
}

// each has so many more events looked at, with when they came.
func (d *Driver) each(ctx context.Context, events int, look func(*kgo.Record, time.Time) error) error {
	for left := events; left > 0; {
		waiting, cancel := context.WithTimeout(ctx, stalledAfter)
		fetches := d.consumer.PollFetches(waiting)
		cancel()
		at := time.Now()
		if fetches.NumRecords() == 0 {
			return fmt.Errorf("%d of %d events came, and then none for %s (%w)", events-left, events, stalledAfter, errors.Join(fetches.Err0(), ctx.Err()))
		}
		left -= fetches.NumRecords()
		for all := fetches.RecordIter(); !all.Done(); {
			if err := look(all.Next(), at); err != nil {
				return err
			}
		}
	}
	return nil
}

// Counted are the commands of a work whose events were seen, each once, whatever comes twice. It is not for concurrent use.
type Counted struct {
	driver *Driver
	seen   map[int]bool
	from   int
	last   time.Time // when the newest came
}

// Count counts the work's commands from a number on.
func (d *Driver) Count(w *Work, from int) *Counted {
	return &Counted{driver: d, seen: make(map[int]bool, len(w.Commands)-from), from: from}
}

// Commands is of how many there was an event.
func (c *Counted) Commands() int { return len(c.seen) }

// Await returns once that many commands have an event, or none has come for so long, and says when the last one's came.
func (c *Counted) Await(ctx context.Context, commands int, quiet time.Duration) (time.Time, error) {
	for len(c.seen) < commands {
		waiting, cancel := context.WithTimeout(ctx, quiet)
		fetches := c.driver.consumer.PollFetches(waiting)
		cancel()
		at := time.Now()
		if fetches.NumRecords() == 0 {
			return c.last, ctx.Err()
		}
		for all := fetches.RecordIter(); !all.Done(); {
			// One of no command is not counted here: TallyEvents looks at all.
			if i, err := numberOf(all.Next().Value); err == nil && i >= c.from && !c.seen[i] {
				c.seen[i], c.last = true, at
			}
		}
	}
	return c.last, nil
}
