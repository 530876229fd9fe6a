package console

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/topics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Group is how a service's consumer group stands.
type Group struct {
	State   string  `json:"state"`   // Kafka's word: Stable, Empty, PreparingRebalance, …
	Members int     `json:"members"` // of all processes
	Lag     []int64 `json:"lag"`     // records that it has not handled yet, by partition
}

// standing is where the pipeline's topics end and how far its groups are, at one moment.
type standing struct {
	at                     time.Time
	commands, events       map[int32]int64 // ends
	deadLetters            int64           // end, over all partitions
	allocators, projectors Group
	projected              map[int32]int64 // committed offset of the events topic
}

// look asks Kafka how the pipeline stands: five requests, for all viewers together. Without a projectorGroup nothing is projected.
func look(ctx context.Context, adm *kadm.Client, set topics.Set, projectorGroup string) (standing, error) {
	s := standing{at: time.Now()}
	var err error
	if s.commands, err = ends(ctx, adm, set.Commands.Name); err != nil {
		return s, err
	}
	if s.events, err = ends(ctx, adm, set.Events.Name); err != nil {
		return s, err
	}
	letters, err := ends(ctx, adm, set.DeadLetters.Name)
	if err != nil {
		return s, err
	}
	for _, end := range letters {
		s.deadLetters += end
	}
	groups := []string{set.AllocatorGroup}
	if projectorGroup != "" {
		groups = append(groups, projectorGroup)
	}
	described, err := adm.DescribeGroups(ctx, groups...)
	if err != nil {
		return s, kafkaclient.Explain(fmt.Errorf("look at the groups: %w", err))
	}
	if s.allocators, _, err = group(ctx, adm, described, set.AllocatorGroup, set.Commands.Name, s.commands); err != nil {
		return s, err
	}
	if projectorGroup != "" {
		s.projectors, s.projected, err = group(ctx, adm, described, projectorGroup, set.Events.Name, s.events)
	}
	return s, err
}

// ends returns where each partition of a topic ends for those who read committed records.
func ends(ctx context.Context, adm *kadm.Client, topic string) (map[int32]int64, error) {
	listed, err := adm.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		return nil, kafkaclient.Explain(fmt.Errorf("list the ends of %s: %w", topic, err))
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// group returns how a group stands, and what it has committed of a topic. A partition of which it has committed nothing
// counts from its start, as if all of it was still there.
func group(ctx context.Context, adm *kadm.Client, described kadm.DescribedGroups, name, topic string, ends map[int32]int64) (Group, map[int32]int64, error) {
	found := described[name]
	g := Group{State: found.State, Members: len(found.Members)}
	committed, err := adm.FetchOffsets(ctx, name)
	for _, err := range []error{found.Err, err, committed.Error()} {
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // one that never was is one without members and offsets
			return g, nil, kafkaclient.Explain(fmt.Errorf("look at the group %s: %w", name, err))
		}
	}
	at := map[int32]int64{}
	for _, partition := range slices.Sorted(maps.Keys(ends)) {
		if o, ok := committed.Lookup(topic, partition); ok {
			at[partition] = max(0, o.At)
		}
		g.Lag = append(g.Lag, max(0, ends[partition]-at[partition]))
	}
	return g, at, nil
}

// total is the sum of offsets.
func total(offsets map[int32]int64) (sum int64) {
	for _, offset := range offsets {
		sum += offset
	}
	return sum
}
