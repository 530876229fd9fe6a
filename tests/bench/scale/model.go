package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// shape is how much there is of what.
type shape struct {
	Partitions int
	Sessions   int // each has as many partitions as the others, or one more
	Rate       int // commands a second, evenly over partitions, at random moments
}

// costs are what a step takes.
type costs struct {
	Transaction time.Duration // a poll's Kafka transaction
	Commit      time.Duration // a poll's Postgres transaction, beside its commands
	Segment     time.Duration // each partition that a poll is of: its row moved, its events a row of the outbox
	Command     time.Duration // each command, in Postgres and in the allocator
	PollMax     int           // commands of a poll at the most
}

// outcome is what a shape comes to.
type outcome struct {
	Polls    float64 // a second, each a transaction of Postgres and one of Kafka
	Segments float64 // rows of the outbox a second
	PerPoll  float64 // commands of a poll
	Busy     float64 // the share of the time in which a session is not idle
	P50, P99 time.Duration
	Behind   float64 // the share of the commands that came in time and were not done in it: the shape is too small
}

// simulate lets sessions live for a while, each on its own: they share Postgres and Kafka, which are taken to be large enough.
// A session polls what has come since its last poll, commits it in one Postgres transaction, with a segment of the outbox for
// each partition, and publishes all in one of Kafka, as the allocator's loop does where everything is normal.
func simulate(s shape, c costs, span time.Duration, seed uint64) outcome {
	var o outcome
	var waited []time.Duration
	behind := 0
	for i := range s.Sessions {
		partitions := s.Partitions / s.Sessions
		if i < s.Partitions%s.Sessions {
			partitions++
		}
		if partitions > 0 {
			behind += live(s, c, span, rand.New(rand.NewPCG(seed, uint64(i))), partitions, &o, &waited)
		}
	}
	commands := float64(len(waited) + behind)
	o.PerPoll = float64(len(waited)) / max(o.Polls, 1)
	o.Polls, o.Segments = o.Polls/span.Seconds(), o.Segments/span.Seconds()
	o.Busy /= span.Seconds() * float64(s.Sessions)
	o.Behind = float64(behind) / max(commands, 1)
	if slices.Sort(waited); len(waited) > 0 {
		o.P50, o.P99 = waited[len(waited)/2], waited[len(waited)*99/100]
	}
	return o
}

// live is one session's life. It returns how many commands it did not come to.
func live(s shape, c costs, span time.Duration, rng *rand.Rand, partitions int, o *outcome, waited *[]time.Duration) (behind int) {
	every := float64(s.Partitions) / float64(s.Rate) / float64(partitions) * float64(time.Second)
	next := time.Duration(rng.ExpFloat64() * every) // when the next command comes
	var poll []time.Duration
	for now := time.Duration(0); now < span; {
		poll = poll[:0]
		of := make(map[int]bool, partitions)
		for ; next <= now && len(poll) < c.PollMax; next += time.Duration(math.Ceil(rng.ExpFloat64() * every)) {
			poll = append(poll, next)
			of[rng.IntN(partitions)] = true
		}
		if len(poll) == 0 {
			now = next
			continue
		}
		step := c.Transaction + c.Commit + time.Duration(len(of))*c.Segment + time.Duration(len(poll))*c.Command
		now += step
		o.Busy += min(step, span-(now-step)).Seconds()
		o.Polls++
		o.Segments += float64(len(of))
		for _, came := range poll {
			*waited = append(*waited, now-came)
		}
	}
	for ; next < span; next += time.Duration(math.Ceil(rng.ExpFloat64() * every)) {
		behind++
	}
	return behind
}
