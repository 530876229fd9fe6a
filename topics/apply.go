package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	settleTimeout = 30 * time.Second
	settlePause   = 20 * time.Millisecond
)

// Apply makes the changes and waits until they can be seen. If any difference
// was refused it changes nothing and returns that. A topic that another process
// creates first is no error: the next Diff says whether it is as declared.
func Apply(ctx context.Context, adm *kadm.Client, changes Changes) error {
	if err := changes.Err(); err != nil {
		return err
	}
	for _, topic := range changes.Create {
		config := make(map[string]*string, len(topic.Config))
		for name, value := range topic.Config {
			config[name] = &value
		}
		_, err := adm.CreateTopic(ctx, topic.Partitions, changes.Replication, config, topic.Name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", topic.Name, err)
		}
	}
	for _, grow := range changes.Grow {
		responses, err := adm.UpdatePartitions(ctx, int(grow.To), grow.Topic)
		if err = errors.Join(err, responses.Error()); err != nil {
			return fmt.Errorf("give topic %s %d partitions: %w", grow.Topic, grow.To, err)
		}
	}
	for _, alter := range changes.Alter {
		responses, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: alter.Name, Value: &alter.To}}, alter.Topic)
		for _, r := range responses {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return fmt.Errorf("set %s of topic %s: %w", alter.Name, alter.Topic, err)
		}
	}
	return settle(ctx, adm, changes)
}

// settle waits until a broker shows the changes: they are acknowledged by the
// controller and reach the brokers a moment later, and until then a topic that
// was just created is unknown to those who would use it.
func settle(ctx context.Context, adm *kadm.Client, changes Changes) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, fmt.Errorf("the changes were made, but no broker shows them after %s", settleTimeout))
	defer cancel()
	for {
		done, err := settled(ctx, adm, changes)
		if done || err != nil {
			return err
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func settled(ctx context.Context, adm *kadm.Client, changes Changes) (bool, error) {
	partitions := map[string]int32{}
	for _, t := range changes.Create {
		partitions[t.Name] = t.Partitions
	}
	for _, g := range changes.Grow {
		partitions[g.Topic] = g.To
	}
	found, err := list(ctx, adm, slices.Collect(maps.Keys(partitions)))
	if err != nil {
		return false, err
	}
	for name, want := range partitions {
		if !found.Has(name) || len(found[name].Partitions) < int(want) {
			return false, nil
		}
	}
	var left Changes
	for _, a := range changes.Alter {
		if err := left.compareConfig(ctx, adm, Topic{Name: a.Topic, Config: map[string]string{a.Name: a.To}}); err != nil {
			return false, err
		}
	}
	return left.Empty(), nil
}
