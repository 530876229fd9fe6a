package commandlog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// session is one membership of the group and everything that is believed during it.
type session struct {
	*Worker
	kafka *kgo.Client

	mu    sync.Mutex // guards parts and what they point to against adjust
	parts map[int32]*part

	paused map[int32]bool  // partitions that the client was told to leave alone
	waits  map[int32]*wait // partitions with events that must wait for those of others; guarded by mu
	aborts int             // transactions aborted in a row because records were not taken
	failed int             // polls in a row that could not read commands
	logged time.Time       // when that was last logged

	producers pair
	turn      int       // of the producers, whose transaction is the next
	begun     *producer // whose transaction is open; nil = none is
	cuts      cuts      // connections lost
	oneByOne  bool      // the next transaction is begun once all before it have their markers

	settling     sync.WaitGroup // of settleBeside, which stopSettling ends
	stopSettling context.CancelFunc
	offering     sync.WaitGroup // of the open transaction: its records and the group's offsets are on their way

	groupAddedByOffsets bool // see there

	publishSlow time.Duration // see nameWait

	earlyFrom  time.Time     // before that, events are sent after the commit in Postgres
	earlyPause time.Duration // before that; zero = the last were not sent early in vain

	haltsChecked time.Time // when halted partitions were last looked after

	elsewhere map[int32]int64 // published below, as last seen in the group's offsets, of partitions of others too
	lookAt    time.Time       // when to look again whether parked partitions may go on
	lookPause time.Duration   // before that

	hand hand // see there

	// Errors of what was fetched since, with what the hand has or had last. They are of what comes after those records, so they are
	// heeded when all are published: a partition halts behind them.
	errorsSince kgo.Fetches
	sinceMax    time.Duration // see fetch

	generation     int32 // of the group, as last seen
	lostGeneration int32 // the one that this member was thrown out of, for as long as it is in no other; -1 = none
	recordsMax     int   // of the next poll, but for a small rest (restShare): less than configured while polls decide very much
	trimmed        time.Time
	newest         map[int32]time.Time // append time of the newest command, for forgetting ids
	laneOf         map[int32]int       // by partition; of some that went to other members too

	oneTransactionMax int // commands that are one Postgres transaction, whichever lanes they are of; see attempts
}

const (
	idlePollMax  = time.Second            // an idle session looks for a restore this often
	trimInterval = 500 * time.Millisecond // published outbox rows are deleted this often at the most
)

// step takes one poll all the way: applied in Postgres, published in Kafka. An error means that the session must end.
func (s *session) step(ctx context.Context) error {
	// Read before the poll: if the group moves on in between, the records may belong to an older membership than
	// this generation says, never to a newer one, and the commit below is refused for either.
	_, generation := s.kafka.GroupMetadata()
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
	// What is cut off may reach the broker behind the abort that follows, and an older cluster would begin another transaction with it.
	defer s.offering.Wait()
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
	s.kafka.PauseFetchPartitions(map[string][]int32{s.config.Topics.Commands.Name: {partition}})
}

// resume ends the pause of partitions that are neither halted nor parked any more, or were assigned anew since they were:
// the client would remember it.
func (s *session) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition := range s.paused {
		if state := s.parts[partition]; state != nil && !state.halted && !s.parked(partition) {
			delete(s.paused, partition)
			s.kafka.ResumeFetchPartitions(map[string][]int32{s.config.Topics.Commands.Name: {partition}})
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
