package deadletters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

const (
	pollRecordsMax = 1000

	// stuckMax is how long a scan waits for the next record before the end that
	// it was told of: an open transaction of an allocator may hide what follows
	// for its timeout.
	stuckMax = 30 * time.Second
)

// Topic is the topic of dead letters and how it is reached. Its methods may be called concurrently.
type Topic struct {
	Name      string // of the dead letters
	Commands  string // the only topic that commands are replayed to
	AnswersID string // the transactional id of Answer
	Opts      []kgo.Opt
}

// Walk calls letter for each dead letter that filter chooses and, if it chooses
// those that were answered too, mark for the mark of each; in order of offset in
// a partition. Without any other choice it does so for marks whose letter has
// expired as well. It goes up to the end that the topic had when it began, and
// keeps two bits of each dead letter in memory at the most. An error of letter
// or mark ends it.
func (t Topic) Walk(ctx context.Context, filter Filter, letter func(*Letter) error, mark func(Mark) error) error {
	marked, chosen := marks{}, places{}
	every := filter.choosesAll()
	err := t.scan(ctx, func(r *kgo.Record) error {
		if m, ok := parseMark(r); ok {
			marked.add(m)
			return nil
		}
		if !filter.All || every || mark == nil {
			return nil
		}
		if l, err := parse(r); err == nil && filter.matches(&l) {
			chosen.add(l.Place) // its mark may be read before it, from another partition
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.scan(ctx, func(r *kgo.Record) error {
		if m, ok := parseMark(r); ok {
			if filter.All && mark != nil && (every || chosen.has(m.Of)) {
				return mark(m)
			}
			return nil
		}
		l, err := parse(r)
		if err != nil {
			return nil //nolint:nilerr // somebody else's record: not ours to answer, and `lotline tail dlq` shows it
		}
		if l.Status = marked.status(l.Place); !filter.matches(&l) {
			return nil
		}
		return letter(&l)
	})
}

// scan reads the topic from its start to its end.
func (t Topic) scan(ctx context.Context, each func(*kgo.Record) error) error {
	client, err := kgo.NewClient(append(t.Opts[:len(t.Opts):len(t.Opts)],
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they show that the end was reached
		kafkaclient.ReadsDeadLetters(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	starts, err := adm.ListStartOffsets(ctx, t.Name)
	if err = errors.Join(err, starts.Error()); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("the topic %s does not exist: create it with `lotline topics apply`, or check --kafka-topic-prefix", t.Name)
	} else if err != nil {
		return fmt.Errorf("list the start offsets of %s: %w", t.Name, err)
	}
	// The very end, not that of what is committed: a mark behind another's open transaction must be waited for.
	ends, err := adm.ListEndOffsets(ctx, t.Name)
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("list the end offsets of %s: %w", t.Name, err)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p, start := range starts[t.Name] {
		if end, _ := ends.Lookup(t.Name, p); end.Offset > start.Offset {
			from[p], left[p] = kgo.NewOffset().At(start.Offset), end.Offset
		}
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.Name: from})
	for len(left) > 0 {
		waiting, cancel := context.WithTimeout(ctx, stuckMax)
		fetches := client.PollRecords(waiting, pollRecordsMax)
		cancel()
		if err := fetches.Err(); ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the end of %s was not reached within %s: a transaction is open there, or a broker is away; try again", t.Name, stuckMax)
		} else if err != nil {
			return fmt.Errorf("read %s: %w", t.Name, err)
		}
		for _, r := range fetches.Records() {
			end, ok := left[r.Partition]
			// What is last may be of a transaction that was open then and is aborted since: only its marker is read, behind the end.
			if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
			if !ok || r.Offset >= end {
				continue
			}
			if r.Attrs.IsControl() {
				continue
			}
			if err := each(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// marks is the dead letters that were answered.
type marks map[Status]places

func (m marks) add(mark Mark) {
	if m[mark.Status] == nil {
		m[mark.Status] = places{}
	}
	m[mark.Status].add(mark.Of)
}

func (m marks) status(at Place) Status {
	for _, s := range []Status{Replayed, Discarded} {
		if m[s].has(at) {
			return s
		}
	}
	return Open
}

// places is a set: a bit for each, in pages so that it is as long as there are
// some, not as their offsets are high.
type places map[Place]*[pageBits / 64]uint64

const pageBits = 1 << 12

func (p places) add(at Place) {
	page := Place{at.Partition, at.Offset / pageBits}
	if p[page] == nil {
		p[page] = &[pageBits / 64]uint64{}
	}
	bit := at.Offset % pageBits
	p[page][bit/64] |= 1 << (bit % 64)
}

func (p places) has(at Place) bool {
	bit := at.Offset % pageBits
	page := p[Place{at.Partition, at.Offset / pageBits}]
	return page != nil && page[bit/64]&(1<<(bit%64)) != 0
}
