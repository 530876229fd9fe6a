package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// settleWithin bounds how long a group may take to share its partitions.
const settleWithin = 3 * time.Minute

// group is members of a consumer group with the settings of the allocator's sessions, in this process. They read and commit
// nothing: what is measured is how they share partitions.
type group struct {
	topic, name string
	opts        []kgo.Opt
	partitions  int

	mu      sync.Mutex
	owned   map[int]int   // partitions by member
	changed chan struct{} // has room for one: something of it is new
	members []*kgo.Client
	group   errgroup.Group
}

const sessionTimeout = 6 * time.Second // the allocator's default; the other times follow from it, as there

func (g *group) note(member, partitions int) {
	g.mu.Lock()
	g.owned[member] += partitions
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// add starts another member.
func (g *group) add(ctx context.Context) error {
	member := len(g.members)
	count := func(sign int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, of map[string][]int32) { g.note(member, sign*len(of[g.topic])) }
	}
	client, err := kgo.NewClient(append(g.opts,
		kgo.ConsumerGroup(g.name), kgo.ConsumeTopics(g.topic),
		kgo.SessionTimeout(sessionTimeout), kgo.HeartbeatInterval(sessionTimeout/20), kgo.RebalanceTimeout(sessionTimeout),
		kgo.OnPartitionsAssigned(count(1)), kgo.OnPartitionsRevoked(count(-1)), kgo.OnPartitionsLost(count(-1)),
		kgo.DisableAutoCommit(),
	)...)
	if err != nil {
		return err
	}
	g.members = append(g.members, client)
	g.group.Go(func() error {
		for {
			if fetches := client.PollFetches(ctx); fetches.IsClientClosed() || ctx.Err() != nil {
				return nil
			}
		}
	})
	return nil
}

// leave has the member that came last leave.
func (g *group) leave() {
	last := len(g.members) - 1
	g.members[last].Close()
	g.members = g.members[:last]
}

// shared waits until the members have all partitions, none of them more than one above another.
func (g *group) shared(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for {
		all, fair := 0, true
		g.mu.Lock()
		for member := range g.members {
			n := g.owned[member]
			all += n
			fair = fair && n >= g.partitions/len(g.members) && n <= (g.partitions+len(g.members)-1)/len(g.members)
		}
		g.mu.Unlock()
		if all == g.partitions && fair {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d members have %d of %d partitions: %w", len(g.members), all, g.partitions, ctx.Err())
		case <-g.changed:
		}
	}
}

// close ends all members at once.
func (g *group) close() error {
	var closing errgroup.Group
	for _, m := range g.members {
		closing.Go(func() error { m.Close(); return nil })
	}
	return errors.Join(closing.Wait(), g.group.Wait())
}
