// Package offsets looks at the allocators' partitions from outside, and moves one past what cannot be read: for the
// operator's command, when a partition is halted.
//
// What is moved is where the partition stands in Postgres, by compare-and-set; the allocator that has the partition sees
// it and goes on by itself. The group's offset needs no move: below the outbox floor it does not count. It may import
// commandlog, apply, postgres and outbox, the domain for its limits, schemas, topics and the Kafka client. The service's
// root makes a Desk for each command.
package offsets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/commandlog"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
	"github.com/lotline/lotline/topics"
)

// Desk is where an operator looks and moves from. It is not for concurrent use.
type Desk struct {
	topics topics.Set
	group  string
	rules  allocation.Limits
	opts   []kgo.Opt
	url    string
	client *kgo.Client
	admin  *kadm.Client
	events commandlog.EventLog
}

// Open makes a Desk; Close it. It reaches the cluster with opts and the database at url when it is first asked. rules are
// those of the allocators, for telling what they would decide.
func Open(set topics.Set, url string, opts []kgo.Opt, rules allocation.Limits) (*Desk, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	admin := kadm.NewClient(client)
	return &Desk{
		topics: set, group: set.AllocatorGroup, rules: rules, opts: opts, url: url, client: client, admin: admin,
		events: commandlog.EventLog{Topic: set.Events.Name, Admin: admin, Opts: opts},
	}, nil
}

// Close ends its connections.
func (d *Desk) Close() { d.client.Close() }

// Standing is where a partition stands, as far as can be told from outside. Offsets are of the commands topic; all that
// is below one is meant. -1 is one that is not there.
type Standing struct {
	Partition   int32           `json:"partition"`
	TopicID     string          `json:"topic_id"`      // as the broker has it
	Seen        string          `json:"seen_topic_id"` // as Postgres has it: what its offsets are of; "" if no allocator ever had the partition
	LogStart    int64           `json:"log_start"`
	LogEnd      int64           `json:"log_end"`
	Applied     int64           `json:"applied"`      // decided, in Postgres
	OutboxFloor int64           `json:"outbox_floor"` // published, and maybe deleted from the outbox
	Committed   int64           `json:"published"`    // the group's offset
	ToPublish   int64           `json:"to_publish"`   // offsets that are decided, and their events not published yet
	ToDecide    int64           `json:"to_decide"`    // offsets that are not decided yet
	Owner       string          `json:"owner"`        // the client id of the group's member that has it; "" if none has
	Halted      string          `json:"halted"`       // why nothing more of it can be decided or published; "" if nothing is known
	Note        string          `json:"note"`         // what else is to be known
	SkipTo      int64           `json:"skip_to"`      // the first offset after what cannot be read, if that is why it is halted
	stored      postgres.Stored // what Postgres has
	position    int64           // where it would be read on
	published   int64           // below is published, or given up
	others      map[int32]progress
}

// lookMax bounds a look: a broker that does not answer, or another's open transaction.
const lookMax = 20 * time.Second

// Look says where all partitions stand, in order.
func (d *Desk) Look(ctx context.Context) ([]Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	topic := d.topics.Commands.Name
	found, err := d.admin.ListTopics(ctx, topic)
	if err = errors.Join(err, found[topic].Err); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("the topic %s does not exist: create it with `lotline topics apply`, or check --kafka-topic-prefix", topic)
		}
		return nil, fmt.Errorf("look at topic %s: %w", topic, err)
	}
	starts, startsErr := d.admin.ListStartOffsets(ctx, topic)
	partitions := slices.Sorted(maps.Keys(found[topic].Partitions))
	committed, err := commandlog.Committed(ctx, d.admin, d.group, partitions...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	owners, err := d.owners(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := postgres.AllPositions(ctx, d.url)
	if err != nil {
		return nil, err
	}
	// Last: an allocator that goes on meanwhile is not to seem to be past the end.
	ends, endsErr := d.admin.ListEndOffsets(ctx, topic)
	if err := errors.Join(startsErr, endsErr, starts.Error(), ends.Error()); err != nil {
		return nil, fmt.Errorf("list the offsets of %s: %w", topic, err)
	}
	var all []Standing
	for _, p := range partitions {
		s := Standing{
			Partition: p, TopicID: commandlog.TopicName(found[topic].ID), Committed: -1, SkipTo: -1, Owner: owners[p],
			LogStart: starts[topic][p].Offset, LogEnd: ends[topic][p].Offset,
		}
		if at, ok := committed.Lookup(topic, p); ok {
			s.Committed = at.At
		}
		at, seen := stored[p]
		s.judge(at, seen)
		all = append(all, s)
	}
	if err := d.probe(ctx, all); err != nil {
		return nil, err
	}
	others := make(map[int32]progress)
	for i := range all {
		others[all[i].Partition] = progress{published: all[i].published, halted: all[i].Halted != ""}
		all[i].others = others
	}
	return all, nil
}

// judge tells from the offsets alone how a partition is.
func (s *Standing) judge(at postgres.Stored, seen bool) {
	s.stored, s.Seen, s.Applied, s.OutboxFloor = at, at.TopicID, at.NextOffset, at.OutboxFloor
	s.position, s.published = commandlog.Start(s.Committed, at.Position)
	s.ToPublish, s.ToDecide = max(0, at.NextOffset-s.published), max(0, s.LogEnd-at.NextOffset)
	lost, lostNext := s.lost()
	switch {
	case !seen && s.Committed <= 0:
		s.Note = "no allocator had it yet"
	case seen && s.Seen != s.TopicID:
		s.ToDecide = s.LogEnd - s.LogStart
		s.Halted = fmt.Sprintf("the topic was created anew (its id was %s and is %s): offsets of the old one mean nothing in it", s.Seen, s.TopicID)
		s.SkipTo = s.LogStart
	case s.position < s.LogStart:
		s.Halted = fmt.Sprintf("truncated: its log starts at offset %d, and offset %d would be next", s.LogStart, s.position)
		if seen { // or an allocator has to have it first
			s.SkipTo = s.LogStart
		}
	case s.position > s.LogEnd:
		s.Halted = fmt.Sprintf("its log ends at offset %d, before offset %d, which would be next: Kafka has lost what it had, or is another", s.LogEnd, s.position)
	case lost < lostNext:
		s.Halted = fmt.Sprintf("offsets %s are decided, and their events are neither in the outbox nor known to be published", span(lost, lostNext))
		s.SkipTo = lostNext
	case !seen:
		s.Note = fmt.Sprintf("Postgres does not know it, as after a restore from before it was first seen: offsets %s are applied again, and nothing is published for them", span(0, s.Committed))
	case s.Applied < s.published:
		s.Note = fmt.Sprintf("Postgres is behind what was published, as after a restore: offsets %s are applied again, and nothing is published for them", span(s.Applied, s.published))
	}
}

// lost is the first range of what is decided and neither published nor in the outbox; empty if there is none.
func (s *Standing) lost() (from, next int64) {
	from = s.published
	for i, first := range s.stored.First {
		if first > from {
			return from, min(first, s.Applied)
		}
		from = max(from, s.stored.Next[i])
	}
	return from, s.Applied
}

// owners are the client ids of the group's members by partition.
func (d *Desk) owners(ctx context.Context) (map[int32]string, error) {
	members, err := d.members(ctx)
	owners := make(map[int32]string)
	for _, m := range members {
		assigned, ok := m.Assigned.AsConsumer()
		if !ok {
			continue
		}
		for _, t := range assigned.Topics {
			for _, p := range t.Partitions {
				if t.Topic == d.topics.Commands.Name {
					owners[p] = m.ClientID
				}
			}
		}
	}
	return owners, err
}

// members are those of the group; none if there is no such group.
func (d *Desk) members(ctx context.Context) ([]kadm.DescribedGroupMember, error) {
	groups, err := d.admin.DescribeGroups(ctx, d.group)
	if err = errors.Join(err, groups.Error()); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("describe the group %s: %w", d.group, err)
	}
	return groups[d.group].Members, nil
}

// span prints the offsets of [from, next).
func span(from, next int64) string {
	if next == from+1 {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d..%d", from, next-1)
}
