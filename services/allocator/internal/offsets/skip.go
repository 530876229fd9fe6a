package offsets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// Auto moves a partition just past what cannot be read, LogStart to where its log starts.
const (
	Auto     int64 = -1
	LogStart int64 = -2
)

// Skip is what moving one partition gives up. Ranges are printed as 5 or 5..7.
type Skip struct {
	Partition int32     `json:"partition"`
	Why       string    `json:"why"`      // it is halted; "" if nothing is known
	From      int64     `json:"from"`     // where it would be read on
	To        int64     `json:"to"`       // where it will be
	NewTopic  string    `json:"topic_id"` // the id of the topic that To is an offset of
	GivenUp   []string  `json:"given_up"` // sentences
	Publish   []Decided `json:"publish"`  // commands that were decided long ago, and whose events are published with the move
	Lost      []Decided `json:"lost"`     // verdicts whose dead letter cannot be written any more: the bytes are gone
	// Stop says that the allocators have to be stopped while it is done, because something is published, or the group's
	// offset has to go back.
	Stop string `json:"stop_allocators"`

	standing Standing
	target   postgres.Position
	rewind   bool
	pieces   []piece // of Publish, in order of offset
}

// Decided is a command that was decided, and how many events it has.
type Decided struct {
	Offset int64  `json:"offset"`
	SKU    string `json:"sku,omitempty"`
	Events int    `json:"events"`
	Reason string `json:"reason,omitempty"` // of a dead letter
}

// Plan says what it would give up to move a partition to an offset, Auto or LogStart. The error says why it must not be
// moved there.
func (d *Desk) Plan(ctx context.Context, s Standing, to int64) (*Skip, error) {
	switch {
	case to == LogStart:
		to = s.LogStart
	case to == Auto && s.SkipTo >= 0:
		to = s.SkipTo
	case to == Auto:
		return nil, fmt.Errorf("partition %d: nothing is known that could not be read: say with --to where it shall go on (`lotline offsets show` has the offsets)", s.Partition)
	}
	plan := &Skip{
		Partition: s.Partition, Why: s.Halted, From: s.position, To: to, NewTopic: s.TopicID, standing: s,
		target: postgres.Position{TopicID: s.TopicID, NextOffset: max(to, s.Applied), OutboxFloor: to},
	}
	anew := s.Seen != s.TopicID
	if anew {
		plan.target.NextOffset = to
	}
	switch {
	case s.Seen == "" && s.Committed > 0:
		return nil, fmt.Errorf("partition %d: Postgres does not know it yet: start an allocator, and look again", s.Partition)
	case s.Seen == "":
		return nil, fmt.Errorf("partition %d: no allocator had it yet, there is nothing to skip", s.Partition)
	case to < s.LogStart || to > s.LogEnd:
		return nil, fmt.Errorf("partition %d: --to=%d is not in its log, which is from %d to %d", s.Partition, to, s.LogStart, s.LogEnd)
	case !anew && to <= s.position:
		return nil, fmt.Errorf("partition %d: --to=%d is not past offset %d, which is next: nothing is read twice", s.Partition, to, s.position)
	}
	if err := d.unpublished(ctx, plan); err != nil {
		return nil, err
	}
	if !anew && s.Applied < s.published {
		if err := d.behind(ctx, plan); err != nil {
			return nil, err
		}
	}
	plan.giveUp(anew)
	if plan.rewind = s.Committed > plan.To && anew; plan.rewind {
		plan.Stop = "the group's offset is of the old topic, and has to go back"
	}
	if len(plan.Publish) > 0 {
		plan.Stop = "events are published that no allocator can publish any more"
	}
	return plan, nil
}

// giveUp lists the commands that will never be decided.
func (p *Skip) giveUp(anew bool) {
	s := &p.standing
	say := func(format string, args ...any) { p.GivenUp = append(p.GivenUp, fmt.Sprintf(format, args...)) }
	from := s.Applied
	if anew {
		say("all commands from offset %d on of the topic that was (id %s), however many it had", s.Applied, s.Seen)
		from = s.LogStart
	} else if gone := min(p.To, s.LogStart); from < gone {
		say("offsets %s: deleted from the log before they were decided", span(from, gone))
		from = gone
	}
	if bad := min(p.To, s.SkipTo); from < bad {
		say("offsets %s: cannot be read", span(from, bad))
		from = bad
	}
	if from < p.To {
		say("offsets %s: what can be read of them (lotline tail commands --partition=%d), which would be decided else", span(from, p.To), p.Partition)
	}
}

// behind refuses to skip commands that were decided and published before Postgres was restored: what they changed would
// be missing in it for ever, and what is decided next would contradict what was published.
func (d *Desk) behind(ctx context.Context, p *Skip) error {
	s := &p.standing
	next := min(p.To, s.published)
	found, err := d.find(ctx, s.Partition, s.Seen, s.Applied, next, time.Time{})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("partition %d: Postgres is behind what was published (%d commands of offsets %s): if they are skipped, it contradicts the events for ever; restore a newer backup",
			s.Partition, len(found), span(s.Applied, next))
	}
	return nil
}

// ErrMoved says that a partition is not where it was when the plan was made.
var ErrMoved = errors.New("the partition does not stand any more where it was seen: look again")

// Do moves partitions as planned, and publishes first what has to be: of all of them at once and in order (see Ordered). If it
// fails, nothing is lost: what was published is found to be, the next time.
func (d *Desk) Do(ctx context.Context, plans ...*Skip) error {
	for _, p := range plans {
		if p.Stop != "" {
			if err := d.stopped(ctx, p.Stop); err != nil {
				return err
			}
		}
	}
	if err := d.publish(ctx, plans); err != nil {
		return err
	}
	for i, p := range plans {
		if err := d.move(ctx, p); err != nil {
			return fmt.Errorf("%w (%d of %d partitions were moved)", err, i, len(plans))
		}
	}
	return nil
}

func (d *Desk) move(ctx context.Context, p *Skip) error {
	if p.rewind {
		at := kadm.Offsets{}
		at.Add(kadm.Offset{Topic: d.topics.Commands.Name, Partition: p.Partition, At: p.To, LeaderEpoch: -1})
		if err := d.admin.CommitAllOffsets(ctx, d.group, at); err != nil {
			return fmt.Errorf("take the group's offset of partition %d back to %d: %w", p.Partition, p.To, err)
		}
	}
	err := postgres.Move(ctx, d.url, p.Partition, p.standing.stored.Position, p.target)
	if errors.Is(err, postgres.ErrMoved) {
		return fmt.Errorf("partition %d: %w", p.Partition, ErrMoved)
	}
	return err
}

// stopped makes sure that no allocator is at work.
func (d *Desk) stopped(ctx context.Context, why string) error {
	members, err := d.members(ctx)
	if err != nil {
		return err
	}
	if n := len(members); n > 0 {
		return fmt.Errorf("%s: stop all allocators for the moment (the group %s has %d members), and confirm again", why, d.group, n)
	}
	return nil
}

// Fingerprint names the plan and all that it was made from: another one is made if the partition moved.
func (p *Skip) Fingerprint() string {
	return fmt.Sprintf("%d %v -> %v, published %d, %q %v %v %s", p.Partition, p.standing.stored.Position, p.target, p.standing.Committed,
		p.GivenUp, p.Publish, p.Lost, p.Stop)
}
