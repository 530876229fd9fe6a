package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Changes is what separates a cluster from a declaration. Nothing in it ever
// deletes a topic or a record.
type Changes struct {
	Replication int16 // of topics to create; -1 leaves it to the broker
	Create      []Topic
	Grow        []Growth
	Alter       []Alteration
	Refused     []Refusal // differences that Apply will not touch
}

// Growth adds partitions to a topic.
type Growth struct {
	Topic    string
	From, To int32
}

// Alteration sets one topic setting.
type Alteration struct{ Topic, Name, From, To string }

// Refusal is a difference that a person has to resolve; Why is a sentence.
type Refusal struct{ Topic, Why string }

// Empty says that the cluster is as declared.
func (c Changes) Empty() bool {
	return len(c.Create)+len(c.Grow)+len(c.Alter)+len(c.Refused) == 0
}

// Err returns the refused differences as one error, or nil.
func (c Changes) Err() error {
	var errs []error
	for _, r := range c.Refused {
		errs = append(errs, fmt.Errorf("topic %s: %s", r.Topic, r.Why))
	}
	return errors.Join(errs...)
}

// Diff compares the topics in want with the cluster's. replication is the
// number of replicas that each should have, or -1 for the broker's default,
// with which neither replicas nor min.insync.replicas are compared.
//
// Only declared settings are compared, by the value in effect: others belong to
// the cluster's operators (throttles, quotas).
func Diff(ctx context.Context, adm *kadm.Client, want []Topic, replication int16) (Changes, error) {
	changes := Changes{Replication: replication}
	if replication == 0 || replication < -1 {
		return changes, fmt.Errorf("a topic cannot have %d replicas: give 1 or more, or -1 for the broker's default", replication)
	}
	names := make([]string, len(want))
	for i, t := range want {
		names[i] = t.Name
	}
	found, err := list(ctx, adm, names)
	if err != nil {
		return changes, err
	}
	for _, topic := range want {
		topic.Config = topic.configFor(replication)
		detail := found[topic.Name]
		switch {
		case !found.Has(topic.Name):
			changes.Create = append(changes.Create, topic)
		case detail.Err != nil:
			return changes, fmt.Errorf("describe topic %s: %w", topic.Name, detail.Err)
		default:
			if err := changes.compare(ctx, adm, topic, detail); err != nil {
				return changes, err
			}
		}
	}
	return changes, nil
}

// list describes the named topics, none if there are no names.
func list(ctx context.Context, adm *kadm.Client, names []string) (kadm.TopicDetails, error) {
	if len(names) == 0 {
		return nil, nil
	}
	// Asking for authorizations too is what makes the client pass its metadata
	// cache by, which is seconds old: a diff right after Apply has to see it.
	found, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx), names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	return found, nil
}

// compare adds what separates an existing topic from its declaration.
func (c *Changes) compare(ctx context.Context, adm *kadm.Client, want Topic, found kadm.TopicDetail) error {
	refuse := func(format string, args ...any) {
		c.Refused = append(c.Refused, Refusal{want.Name, fmt.Sprintf(format, args...)})
	}
	have := int32(len(found.Partitions))
	if have > want.Partitions {
		refuse("has %d partitions and %d are declared: Kafka cannot take partitions away; keep them, or move to a new topic prefix",
			have, want.Partitions)
	}
	if have < want.Partitions {
		c.Grow = append(c.Grow, Growth{want.Name, have, want.Partitions})
	}
	if replicas := found.Partitions.NumReplicas(); c.Replication > 0 && replicas != int(c.Replication) {
		// min.insync.replicas would be set for replicas that are not there, and
		// block every write.
		refuse("has %d replicas and %d are wanted: give the number it has, or move replicas with kafka-reassign-partitions.sh first",
			replicas, c.Replication)
		return nil
	}
	return c.compareConfig(ctx, adm, want)
}

func (c *Changes) compareConfig(ctx context.Context, adm *kadm.Client, want Topic) error {
	described, err := adm.DescribeTopicConfigs(ctx, want.Name)
	if err != nil {
		return fmt.Errorf("describe the settings of topic %s: %w", want.Name, err)
	}
	resource, err := described.On(want.Name, nil)
	if err = errors.Join(err, resource.Err); err != nil {
		return fmt.Errorf("describe the settings of topic %s: %w", want.Name, err)
	}
	have := map[string]string{}
	for _, config := range resource.Configs {
		have[config.Key] = config.MaybeValue()
	}
	for _, name := range slices.Sorted(maps.Keys(want.Config)) {
		if to := want.Config[name]; have[name] != to {
			c.Alter = append(c.Alter, Alteration{want.Name, name, have[name], to})
		}
	}
	return nil
}
