// Package topics declares what Lotline has in Kafka as code (topics, and who may
// do what with them), and compares and applies that declaration to a cluster.
//
// The operator's command, the development stack and the tests apply it;
// services take the names from it. It imports the Kafka admin client and
// nothing of Lotline.
package topics

import (
	"maps"
	"strconv"
	"time"
)

const (
	day = 24 * time.Hour

	// partitions bounds how many allocators or projectors can work side by side.
	partitions = 12

	// maxDataBytes is the largest message that the wire format allows, and
	// overheadBytes is room for key, headers and batch framing around it.
	maxDataBytes  = 1 << 20
	overheadBytes = 64 << 10

	// A dead letter is anything that a client was able to read: a batch may
	// inflate to 16 MiB, and its records are kept as they were.
	maxDeadLetterBytes = 16 << 20
)

// Topic is what one topic should be.
type Topic struct {
	Name       string
	Partitions int32
	Key        string            // what records are keyed by, for people
	Schema     string            // the protobuf package of the values, for people
	Config     map[string]string // the broker's topic settings; others are left as they are
}

// Set is Lotline's topics, and the names beside them that permissions are for.
type Set struct {
	Commands, Events, DeadLetters Topic

	Prefix         string // what all names start with
	AllocatorGroup string // the allocators' group, and with a dot what their transactional ids start with
	ProjectorGroup string // the projectors' group; with a dot what those of other stores than ClickHouse start with
	ConsumerGroups string // what the groups of those who read events start with
	AnswersID      string // the transactional id of those who answer dead letters
}

// All returns the topics, commands first.
func (s Set) All() []Topic { return []Topic{s.Commands, s.Events, s.DeadLetters} }

// ProjectorGroupOf returns the group of the projectors that keep one store of the read model, by its name. Each store has a
// group of its own, so that several can be kept at once. ClickHouse's is ProjectorGroup itself.
func (s Set) ProjectorGroupOf(store string) string {
	if store == "clickhouse" {
		return s.ProjectorGroup
	}
	return s.ProjectorGroup + "." + store
}

// Declared returns the topics of an installation, named after prefix.
//
// Timestamps are the broker's append time: time is an input to what the
// allocator publishes, and a producer's clock cannot be trusted with that.
// Commands are kept 30 days, so that they outlive the oldest backup of the
// database that they would have to rebuild.
func Declared(prefix string) Set {
	return Set{
		Prefix:         prefix,
		AllocatorGroup: prefix + ".allocator",
		ProjectorGroup: prefix + ".projector",
		ConsumerGroups: prefix + ".consumer.",
		AnswersID:      prefix + ".commands.dlq.answers",
		Commands: Topic{
			Name: prefix + ".commands", Partitions: partitions, Key: "sku", Schema: "lotline.command.v1",
			Config: settings(30*day, maxDataBytes+overheadBytes),
		},
		Events: Topic{
			Name: prefix + ".events", Partitions: partitions, Key: "sku", Schema: "lotline.event.v1",
			Config: settings(30*day, maxDataBytes+overheadBytes),
		},
		DeadLetters: Topic{
			Name: prefix + ".commands.dlq", Partitions: 1, Key: "as received", Schema: "as received",
			Config: settings(90*day, maxDeadLetterBytes+overheadBytes),
		},
	}
}

func settings(retention time.Duration, maxMessageBytes int) map[string]string {
	return map[string]string{
		"cleanup.policy":         "delete",
		"max.message.bytes":      strconv.Itoa(maxMessageBytes),
		"message.timestamp.type": "LogAppendTime",
		"retention.ms":           strconv.FormatInt(retention.Milliseconds(), 10),
	}
}

// configFor returns a topic's settings with the durability that fits the number
// of replicas: one replica may be away and writes go on, but what was
// acknowledged is on two wherever three exist.
func (t Topic) configFor(replication int16) map[string]string {
	config := maps.Clone(t.Config)
	if replication > 0 {
		config["min.insync.replicas"] = strconv.Itoa(max(1, int(replication)-1))
	}
	return config
}
