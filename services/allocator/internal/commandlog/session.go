package commandlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// session is one membership of the group and everything that is believed during it.
type session struct {
	*Worker
	kafka *kgo.GroupTransactSession

	mu    sync.Mutex // guards parts and what they point to against adjust
	parts map[int32]*part

	paused map[int32]bool  // partitions that the client was told to leave alone
	waits  map[int32]*wait // partitions with events that must wait for those of others; guarded by mu
	aborts int             // transactions aborted in a row because records were not taken
	failed int             // polls in a row that could not read commands
	logged time.Time       // when that was last logged

	cuts cuts   // connections lost
	last ending // the last transaction; not to be touched while it is settled beside

	settling sync.WaitGroup // of settleBeside

	publishSlow time.Duration // see nameWait

	earlyFrom  time.Time     // before that, events are sent after the commit in Postgres
	earlyPause time.Duration // before that; zero = the last were not sent early in vain

	haltsChecked time.Time // when halted partitions were last looked after

	elsewhere map[int32]int64 // published below, as last seen in the group's offsets, of partitions of others too
	lookAt    time.Time       // when to look again whether parked partitions may go on
	lookPause time.Duration   // before that

	// Errors of what was fetched since, in the last poll. They are of what comes after its records, so they are heeded when
	// those are published: a partition halts behind them.
	errorsSince kgo.Fetches
	sinceMax    time.Duration // see fetch

	generation     int32 // of the group, as last seen
	lostGeneration int32 // the one that this member was thrown out of, for as long as it is in no other; -1 = none
	recordsMax     int   // of the next poll: less than configured while polls decide very much
	trimmed        time.Time
	newest         map[int32]time.Time // append time of the newest command, for forgetting ids
}

const (
	sinceMax     = 5 * time.Millisecond   // for what has come since the last poll: brokers have it in memory
	idlePollMax  = time.Second            // an idle session looks for a restore this often
	trimInterval = 500 * time.Millisecond // published outbox rows are deleted this often at the most

	failedPauseMin    = 50 * time.Millisecond // after a poll that could not read commands
	failedPauseMax    = 2 * time.Second
	failedLogInterval = 10 * time.Second // how often that is repeated in the log
)

// polled is one partition's part of a poll.
type polled struct {
	partition int32
	state     *part // as assigned when it was polled
	records   []*kgo.Record
	inputs    []apply.Input    // the records, decoded
	light     int64            // from this offset on, records that could be read are without what they came as
	next      int64            // past the last record
	decided   []outbox.Segment // what this poll's commands became, as far as it was decided now

	keyMismatches int // counted once the poll is committed: a dropped one comes again

	traced traced
}

// step takes one poll all the way: applied in Postgres, published in Kafka. An error means that the session must end.
func (s *session) step(ctx context.Context) error {
	// Read before the poll: if the group moves on in between, the records may belong to an older membership than
	// this generation says, never to a newer one, and the commit below is refused for either.
	_, generation := s.kafka.Client().GroupMetadata()
	s.seen(generation)
	if err := s.checkHalts(ctx); err != nil {
		return err
	}
	s.unpark(ctx)
	s.nudge()
	s.settleBeside(ctx)
	polls, err := s.poll(ctx)
	defer abandon(polls)
	if err != nil {
		return s.giveUp(ctx, err)
	}
	if ctx.Err() != nil {
		return nil
	}
	if len(polls) == 0 {
		return s.idle(ctx)
	}
	if err := s.through(ctx, polls, generation); err != nil {
		return s.giveUp(ctx, err)
	}
	s.health.Set(s.name, nil)
	s.trim(ctx)
	return nil
}

// through applies a poll, and publishes what it became.
func (s *session) through(ctx context.Context, polls []*polled, generation int32) error {
	finishing, cancel := s.grace(ctx) // a stop lets the running transactions finish
	defer cancel()
	start := time.Now()
	open, err := s.applyAll(finishing, ctx, polls, generation)
	if err != nil {
		return err
	}
	applied := time.Now()
	if open != nil {
		_, err = s.commit(finishing, ctx, open)
	} else {
		var queue *queue
		if queue, err = s.collect(ctx, polls); err == nil {
			err = s.publish(ctx, queue, generation)
		}
	}
	if err != nil {
		return err
	}
	s.metrics.stepSeconds.WithLabelValues(stepApply).Observe(applied.Sub(start).Seconds())
	s.metrics.stepSeconds.WithLabelValues(stepPublish).Observe(time.Since(applied).Seconds())
	return nil
}

// applyAll brings a poll to its end in Postgres: all at once if nothing is in the way of that, and partition by partition
// otherwise. If it returns a transaction, the events are in that already, and finishing must last until it is ended.
func (s *session) applyAll(finishing, ctx context.Context, polls []*polled, generation int32) (*transaction, error) {
	done, open, err := s.applyTogether(finishing, polls, generation)
	if done || err != nil {
		return open, err
	}
	for _, p := range polls {
		if err := s.apply(ctx, p, generation); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// errStale says that this poll must not be published: the group has a new generation, or a partition was halted.
// What it applied is in the outbox and is found there by whoever polls the records next.
var errStale = errors.New("the poll is not to be published")

// giveUp drops a poll. The client goes back to the committed offsets, so its records come again.
func (s *session) giveUp(ctx context.Context, why error) error {
	if !errors.Is(why, errStale) {
		return why
	}
	s.log.Info("dropping a poll", "reason", why)
	s.errorsSince = nil // they come again too
	s.dropWaits()
	ending, cancel := s.grace(ctx)
	defer cancel()
	_, err := s.end(ending, kgo.TryAbort, nil)
	return err
}

// poll waits for records, a second at the most, and groups them by partition in the order in which they are decided.
func (s *session) poll(ctx context.Context) ([]*polled, error) {
	s.resume()
	fetched, since := s.fetch(ctx)
	if ctx.Err() != nil {
		return nil, nil
	}
	if fetched.IsClientClosed() {
		return nil, errors.New("the Kafka client was closed")
	}
	s.heed(ctx, fetched, since)
	var polls []*polled
	var stale error
	s.mu.Lock()
	defer s.mu.Unlock()
	append(fetched, since...).EachTopic(func(t kgo.FetchTopic) {
		for _, f := range t.Partitions {
			if len(f.Records) == 0 {
				continue
			}
			if err := s.readable(t.TopicID, f.Partition); err != nil {
				stale = fmt.Errorf("%w: %w", errStale, err)
				continue
			}
			at := slices.IndexFunc(polls, func(p *polled) bool { return p.partition == f.Partition })
			if at < 0 {
				at = len(polls)
				state := s.parts[f.Partition]
				polls = append(polls, &polled{partition: f.Partition, state: state, light: lightFrom(state)})
			}
			s.decode(polls[at], f.Records)
		}
	})
	return polls, stale
}

// heed heeds the errors of a poll, but for those of what came since that only concern what comes after its records.
//
// What must be heeded before them: a log that lost records, of which the client speaks once, going on where it begins now.
// Heeded late, the records from there would be decided as if nothing were missing before them. And the group: which
// generation it was that this member was thrown out of is only known now.
func (s *session) heed(ctx context.Context, fetched, since kgo.Fetches) {
	errs := append(s.errorsSince, fetched...)
	var lost *kgo.ErrDataLoss
	var group *kgo.ErrGroupSession
	now := false
	since.EachError(func(_ string, _ int32, err error) {
		now = now || errors.As(err, &lost) || errors.As(err, &group)
	})
	if s.errorsSince = since; now {
		errs, s.errorsSince = append(errs, since...), nil
	}
	s.fetchErrors(ctx, errs)
}

// fetch takes what the client has, and then what has come since. The client asks for more only when the last is taken, and
// the answer comes at once: what it has at hand when a step begins came when the step before began, and whatever came
// during that one is only asked for now. It would wait for another step, most of a command's latency.
func (s *session) fetch(ctx context.Context) (fetched, since kgo.Fetches) {
	waiting, cancel := context.WithTimeout(ctx, s.pollMax())
	defer cancel()
	atHand := s.kafka.Client().BufferedFetchRecords() > 0
	fetched = s.kafka.PollRecords(waiting, s.recordsMax)
	left := s.recordsMax - fetched.NumRecords()
	if !atHand || left <= 0 {
		return fetched, nil
	}
	asking, stop := context.WithTimeout(ctx, s.sinceMax)
	defer stop()
	return fetched, s.kafka.PollRecords(asking, left)
}

// readable refuses records that must not be decided. Then the whole poll is dropped: ending its transaction would
// commit the offsets of all its partitions. The caller holds mu.
func (s *session) readable(topicID [16]byte, partition int32) error {
	state := s.parts[partition]
	switch id := TopicName(topicID); {
	case state == nil:
		return fmt.Errorf("partition %d is not assigned", partition)
	case state.halted:
	case topicID != [16]byte{} && id != state.topicID:
		s.halt(partition, fmt.Errorf("the topic was created anew (its id was %s and is %s): offsets of the old one mean nothing in it", state.topicID, id), false)
	default:
		return nil
	}
	s.pause(partition)
	return fmt.Errorf("partition %d is halted", partition)
}

// decode adds records to what was polled of their partition.
func (s *session) decode(p *polled, records []*kgo.Record) {
	p.records = append(p.records, records...)
	p.inputs = slices.Grow(p.inputs, len(records))
	p.next = records[len(records)-1].Offset + 1
	for _, r := range records {
		in := Decode(r)
		s.follow(p, r, &in)
		if in.DeadLetter == "" && string(r.Key) != in.Command.SKU {
			p.keyMismatches++
			s.warnOfKey(r, in.Command.SKU)
		}
		p.inputs = append(p.inputs, in)
		if in.DeadLetter == "" && r.Offset >= p.light {
			r.Key, r.Value, r.Headers = nil, nil, nil
		}
	}
}

// lightFrom is the offset from which on this poll decides: nobody will ask there what a record that could be read came as, and
// what a fetch inflated to is held by each of its records. The caller holds mu.
func lightFrom(state *part) int64 {
	if state.applied == unknown {
		return math.MaxInt64
	}
	return state.applied
}

// heavy says whether what a record came as is still there.
func (p *polled) heavy(r *kgo.Record) bool {
	at := sort.Search(len(p.inputs), func(i int) bool { return p.inputs[i].Offset >= r.Offset })
	return r.Offset < p.light || p.inputs[at].DeadLetter != ""
}

// warnOfKey explains the first command whose key is not its SKU.
func (s *session) warnOfKey(r *kgo.Record, sku string) {
	s.metrics.warnKeyOnce.Do(func() {
		s.log.Warn("a command's key is not its SKU: it is accepted, but if commands of one SKU come over several partitions they are decided more slowly; key commands by SKU with the murmur2 partitioner",
			"place", place(r.Topic, r.Partition, r.Offset), "key_bytes", len(r.Key), "sku", sku)
	})
}

// fetchErrors halts partitions whose log is not what it was. Everything else is an outage that the client waits out.
func (s *session) fetchErrors(ctx context.Context, fetches kgo.Fetches) {
	var outage error
	var group *kgo.ErrGroupSession
	fetches.EachPartition(func(t kgo.FetchTopicPartition) {
		topic, partition, err := t.Topic, t.Partition, t.Err
		switch {
		case err == nil:
		case len(t.Records) > 0:
			// Of what came before the fault; it comes again with nothing before it.
		case errors.As(err, &group):
			_, s.lostGeneration = s.kafka.Client().GroupMetadata()
			err = fmt.Errorf("joining the consumer group in Kafka again: %w", kafkaclient.Explain(err))
			s.health.Set(s.name, err)
			s.log.Warn("out of the consumer group", "error", err)
		case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
			// No records within the poll's wait.
		case topic == s.config.Topics.Commands.Name && Unreadable(err):
			s.mu.Lock()
			s.halt(partition, fmt.Errorf("its log cannot be read on from offset %d, where it was left: %w", s.positionOf(partition), err), passing(err))
			s.mu.Unlock()
			s.pause(partition)
		default:
			outage = err
		}
	})
	s.setHealth("kafka", outage)
	if outage == nil {
		s.failed = 0
		return
	}
	if s.failed == 0 || time.Since(s.logged) >= failedLogInterval {
		s.logged = time.Now()
		s.log.Warn("reading commands", "error", kafkaclient.Explain(outage))
	}
	pause := min(failedPauseMin<<min(s.failed, 10), failedPauseMax)
	s.failed++
	if fetches.NumRecords() > 0 {
		return // other partitions are well
	}
	// What the client does not try again by itself, such as a permission that is missing, it hands on at once, each time.
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// Unreadable tells errors after which a partition's log is not what it was, or which reading it again will only repeat,
// from those that pass. What the client says of a partition is a Kafka error, a failure of the network, or that a batch
// cannot be decompressed or parsed; the last has no type of its own.
func Unreadable(err error) bool {
	var lost *kgo.ErrDataLoss
	var code *kerr.Error
	var network net.Error
	switch {
	case errors.As(err, &lost):
		return true
	case kafkaclient.Refused(err): // nor does a password that is not there say anything about the log
		return false
	case errors.As(err, &code):
		return errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, kerr.CorruptMessage) ||
			errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, kgo.ErrClientClosed):
		return false
	}
	return true
}

// passing tells those of Unreadable that may be over without anybody's doing. Where the log is out of range it must
// not be tried again: once it has grown, other records have the same offsets.
func passing(err error) bool {
	var lost *kgo.ErrDataLoss
	return !errors.As(err, &lost) && !errors.Is(err, kerr.OffsetOutOfRange)
}

// positionOf is the next offset of a partition, or unknown. The caller holds mu.
func (s *session) positionOf(partition int32) int64 {
	if state := s.parts[partition]; state != nil {
		return state.position
	}
	return unknown
}

// pause makes the client leave a halted or parked partition alone.
func (s *session) pause(partition int32) {
	s.paused[partition] = true
	s.kafka.Client().PauseFetchPartitions(map[string][]int32{s.config.Topics.Commands.Name: {partition}})
}

// resume ends the pause of partitions that are neither halted nor parked any more, or were assigned anew since they were:
// the client would remember it.
func (s *session) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition := range s.paused {
		if state := s.parts[partition]; state != nil && !state.halted && !s.parked(partition) {
			delete(s.paused, partition)
			s.kafka.Client().ResumeFetchPartitions(map[string][]int32{s.config.Topics.Commands.Name: {partition}})
		}
	}
}

// grace is a context for what must be finished although the worker is told to stop: it outlives ctx by the grace
// period.
func (s *session) grace(ctx context.Context) (context.Context, context.CancelFunc) {
	finishing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(s.config.GracePeriod, cancel) })
	return finishing, func() { stop(); cancel() }
}
