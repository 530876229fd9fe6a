package topics_test

import (
	"strconv"
	"testing"

	"github.com/lotline/lotline/topics"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func admin(t *testing.T, opts ...kfake.Opt) *kadm.Client {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func diff(t *testing.T, adm *kadm.Client, replication int16) topics.Changes {
	t.Helper()
	changes, err := topics.Diff(t.Context(), adm, topics.Declared("lotline").All(), replication)
	require.NoError(t, err)
	return changes
}

func set(t *testing.T, adm *kadm.Client, topic, name, value string) {
	t.Helper()
	responses, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	require.NoError(t, err)
	require.NoError(t, responses[0].Err)
}

func TestDeclared(t *testing.T) {
	s := topics.Declared("eu")
	require.Equal(t, "eu.commands", s.Commands.Name)
	require.Equal(t, "eu.events", s.Events.Name)
	require.Equal(t, "eu.commands.dlq", s.DeadLetters.Name)
	const dayMs = 24 * 60 * 60 * 1000
	for topic, days := range map[*topics.Topic]int{&s.Commands: 30, &s.Events: 30, &s.DeadLetters: 90} {
		require.Equal(t, strconv.Itoa(days*dayMs), topic.Config["retention.ms"], topic.Name)
		require.Equal(t, "LogAppendTime", topic.Config["message.timestamp.type"], topic.Name)
	}
	require.EqualValues(t, 12, s.Commands.Partitions)
	require.EqualValues(t, 12, s.Events.Partitions)
	require.EqualValues(t, 1, s.DeadLetters.Partitions)
}

func TestAnEmptyClusterGetsAllTopicsAndIsThenAsDeclared(t *testing.T) {
	adm := admin(t)
	changes := diff(t, adm, 3)
	require.Equal(t, []string{"lotline.commands", "lotline.events", "lotline.commands.dlq"}, names(changes.Create))
	require.Empty(t, changes.Grow)
	require.Empty(t, changes.Alter)
	require.NoError(t, topics.Apply(t.Context(), adm, changes))

	require.True(t, diff(t, adm, 3).Empty())
	found, err := adm.ListTopics(kadm.WithAuthorizedOps(t.Context()))
	require.NoError(t, err)
	require.Len(t, found["lotline.commands"].Partitions, 12)
	require.Equal(t, 3, found["lotline.commands"].Partitions.NumReplicas())
	configs, err := adm.DescribeTopicConfigs(t.Context(), "lotline.events")
	require.NoError(t, err)
	got := map[string]string{}
	for _, c := range configs[0].Configs {
		got[c.Key] = c.MaybeValue()
	}
	require.Equal(t, "2", got["min.insync.replicas"])
	require.Equal(t, "2592000000", got["retention.ms"])
	require.Equal(t, "LogAppendTime", got["message.timestamp.type"])

	require.NoError(t, topics.Apply(t.Context(), adm, changes), "another process was first")
}

func TestASettingThatDriftedIsFoundAndSetBack(t *testing.T) {
	adm := admin(t)
	require.NoError(t, topics.Apply(t.Context(), adm, diff(t, adm, 1)))
	set(t, adm, "lotline.commands", "retention.ms", "3600000")
	set(t, adm, "lotline.events", "message.timestamp.type", "CreateTime")
	set(t, adm, "lotline.events", "segment.bytes", "1048576") // not declared: the operators'

	changes := diff(t, adm, 1)
	require.Equal(t, topics.Changes{Replication: 1, Alter: []topics.Alteration{
		{Topic: "lotline.commands", Name: "retention.ms", From: "3600000", To: "2592000000"},
		{Topic: "lotline.events", Name: "message.timestamp.type", From: "CreateTime", To: "LogAppendTime"},
	}}, changes)
	require.NoError(t, topics.Apply(t.Context(), adm, changes))
	require.True(t, diff(t, adm, 1).Empty())
}

func TestMissingPartitionsAreAdded(t *testing.T) {
	adm := admin(t)
	_, err := adm.CreateTopic(t.Context(), 4, 1, nil, "lotline.commands")
	require.NoError(t, err)
	changes := diff(t, adm, 1)
	require.Equal(t, []topics.Growth{{Topic: "lotline.commands", From: 4, To: 12}}, changes.Grow)
	require.NoError(t, topics.Apply(t.Context(), adm, changes))
	require.True(t, diff(t, adm, 1).Empty())
}

func TestTakingPartitionsAwayIsRefusedAndNothingIsApplied(t *testing.T) {
	adm := admin(t)
	_, err := adm.CreateTopic(t.Context(), 16, 1, nil, "lotline.events")
	require.NoError(t, err)
	changes := diff(t, adm, 1)
	require.ErrorContains(t, changes.Err(), "topic lotline.events: has 16 partitions and 12 are declared")
	require.False(t, changes.Empty())

	require.ErrorContains(t, topics.Apply(t.Context(), adm, changes), "has 16 partitions")
	found, err := adm.ListTopics(kadm.WithAuthorizedOps(t.Context()))
	require.NoError(t, err)
	require.Equal(t, []string{"lotline.events"}, found.Names(), "nothing was created")
}

func TestAnotherNumberOfReplicasIsRefused(t *testing.T) {
	adm := admin(t)
	require.NoError(t, topics.Apply(t.Context(), adm, diff(t, adm, 1)))
	changes := diff(t, adm, 3)
	require.Len(t, changes.Refused, 3)
	require.ErrorContains(t, changes.Err(), "has 1 replicas and 3 are wanted")
	require.Empty(t, changes.Alter, "min.insync.replicas=2 with one replica would block every write")

	require.True(t, diff(t, adm, -1).Empty(), "-1 leaves replicas to the broker")
	_, err := topics.Diff(t.Context(), adm, nil, 0)
	require.ErrorContains(t, err, "a topic cannot have 0 replicas")
}

func names(ts []topics.Topic) []string {
	var names []string
	for _, t := range ts {
		names = append(names, t.Name)
	}
	return names
}
