package access

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/topics"
)

// operation is something to do on the cluster. Who is not among the roles that may do it must be refused.
type operation struct {
	name string
	do   func(ctx context.Context, as actor) error
	may  []topics.Role
	// done are answers besides success that show that it was allowed: the broker looked at what was asked.
	done []*kerr.Error
}

type actor struct {
	config kafkaclient.Config
	client *kgo.Client
	adm    *kadm.Client
	topics kadm.TopicDetails // which not everybody may see
}

const (
	adminRole, allocatorRole, projectorRole, gatewayRole = topics.RoleAdmin, topics.RoleAllocator, topics.RoleProjector, topics.RoleGateway
	producerRole, consumerRole, operatorRole             = topics.RoleProducer, topics.RoleConsumer, topics.RoleOperator
)

var (
	warehouse = declared.ConsumerGroups + "warehouse"
	shared    = "shop.orders" // another application's topic
)

// operations are all that Lotline's processes do, and what none of them may.
func operations() []operation {
	commands, events, letters := declared.Commands.Name, declared.Events.Name, declared.DeadLetters.Name
	return []operation{
		{name: "write a command", do: writes(commands), may: []topics.Role{gatewayRole, producerRole, operatorRole}},
		{name: "write an event", do: writes(events), may: []topics.Role{allocatorRole}},
		{name: "write a dead letter", do: writes(letters), may: []topics.Role{allocatorRole, gatewayRole, operatorRole}},
		{name: "write to another's topic", do: writes(shared)},
		{name: "read commands", do: reads(commands), may: []topics.Role{allocatorRole, operatorRole}},
		{name: "read events", do: reads(events), may: []topics.Role{allocatorRole, projectorRole, gatewayRole, consumerRole, operatorRole}},
		{name: "read dead letters", do: reads(letters), may: []topics.Role{allocatorRole, gatewayRole, operatorRole}},
		{name: "see open transactions among dead letters", do: func(ctx context.Context, a actor) error {
			var of kadm.TopicsSet
			of.Add(letters, 0)
			found, err := a.adm.DescribeProducers(ctx, of)
			for _, p := range found.SortedPartitions() {
				err = errors.Join(err, p.Err)
			}
			return err
		}, may: []topics.Role{allocatorRole, gatewayRole, operatorRole}},
		{name: "read another's topic", do: reads(shared)},
		{name: "see where commands end", do: ends(commands), may: []topics.Role{adminRole, allocatorRole, gatewayRole, producerRole, operatorRole}},

		{name: "join the allocators", do: joins(declared.AllocatorGroup), may: []topics.Role{allocatorRole}, done: []*kerr.Error{kerr.MemberIDRequired}},
		{name: "join the projectors", do: joins(declared.ProjectorGroup), may: []topics.Role{projectorRole}, done: []*kerr.Error{kerr.MemberIDRequired}},
		{name: "join the projectors of another store", do: joins(declared.ProjectorGroupOf("postgres")), may: []topics.Role{projectorRole}, done: []*kerr.Error{kerr.MemberIDRequired}},
		{name: "join a warehouse's group", do: joins(warehouse), may: []topics.Role{consumerRole}, done: []*kerr.Error{kerr.MemberIDRequired}},
		{name: "join another's group", do: joins("shop")},
		{name: "commit the allocators' offsets", do: commits(declared.AllocatorGroup, commands), may: []topics.Role{allocatorRole}},
		{name: "commit the projectors' offsets", do: commits(declared.ProjectorGroup, events), may: []topics.Role{projectorRole}},
		{name: "commit a warehouse's offsets", do: commits(warehouse, events), may: []topics.Role{consumerRole}},
		{name: "see the allocators' offsets", do: offsets(declared.AllocatorGroup), may: []topics.Role{allocatorRole, gatewayRole, operatorRole}, done: []*kerr.Error{kerr.GroupIDNotFound}},
		{name: "see the projectors' offsets", do: offsets(declared.ProjectorGroup), may: []topics.Role{projectorRole, gatewayRole, operatorRole}, done: []*kerr.Error{kerr.GroupIDNotFound}},
		{name: "see the offsets of another store's projectors", do: offsets(declared.ProjectorGroupOf("postgres")), may: []topics.Role{projectorRole, gatewayRole, operatorRole}, done: []*kerr.Error{kerr.GroupIDNotFound}},
		{name: "delete the allocators' group", do: func(ctx context.Context, a actor) error {
			_, err := a.adm.DeleteGroup(ctx, declared.AllocatorGroup)
			return err
		}},

		{name: "take over an allocator's transactions", do: transacts(declared.AllocatorGroup + ".host.0"), may: []topics.Role{allocatorRole}},
		{name: "take over the answers to dead letters", do: transacts(declared.AnswersID), may: []topics.Role{gatewayRole, operatorRole}},
		{name: "see how an allocator's transaction stands", do: func(ctx context.Context, a actor) error {
			found, err := a.adm.DescribeTransactions(ctx, declared.AllocatorGroup+".host.0")
			for _, d := range found {
				err = errors.Join(err, d.Err)
			}
			return err
		}, may: []topics.Role{allocatorRole}, done: []*kerr.Error{kerr.TransactionalIDNotFound}},
		{name: "take over another's transactions", do: transacts("shop.0")},

		{name: "make a topic of Lotline's", do: makes(commands), may: []topics.Role{adminRole}, done: []*kerr.Error{kerr.TopicAlreadyExists}},
		{name: "make another topic", do: makes("shop.returns")},
		{name: "add no partition", do: func(ctx context.Context, a actor) error {
			answers, err := a.adm.UpdatePartitions(ctx, int(declared.Commands.Partitions), commands)
			return errors.Join(err, answers.Error())
		}, may: []topics.Role{adminRole}, done: []*kerr.Error{kerr.InvalidPartitions}},
		{name: "see the settings of a topic", do: func(ctx context.Context, a actor) error {
			configs, err := a.adm.DescribeTopicConfigs(ctx, commands)
			for _, c := range configs {
				err = errors.Join(err, c.Err)
			}
			return err
		}, may: []topics.Role{adminRole}},
		{name: "set a setting of a topic", do: func(ctx context.Context, a actor) error {
			value := declared.Commands.Config["retention.ms"]
			answers, err := a.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, commands)
			for _, r := range answers {
				err = errors.Join(err, r.Err)
			}
			return err
		}, may: []topics.Role{adminRole}},
		{name: "delete commands", do: func(ctx context.Context, a actor) error {
			to := kadm.Offsets{}
			to.Add(kadm.Offset{Topic: commands, Partition: 0, At: 1})
			answers, err := a.adm.DeleteRecords(ctx, to)
			return errors.Join(err, answers.Error())
		}},
		{name: "delete a topic", do: func(ctx context.Context, a actor) error {
			answers, err := a.adm.DeleteTopics(ctx, events)
			return errors.Join(err, answers.Error())
		}},

		{name: "see who may do what", do: func(ctx context.Context, a actor) error {
			_, err := topics.DiffACLs(ctx, a.adm, declared, nil)
			return err
		}, may: []topics.Role{adminRole}},
		{name: "grant a permission", do: func(ctx context.Context, a actor) error {
			grants := declared.ACLs(topics.Principals{producerRole: {principal(producerRole)}}) // which is there already
			answers, err := a.adm.CreateACLs(ctx, kadm.NewACLs().Topics(grants[0].Name).Allow(grants[0].Principal).Operations(grants[0].Operation))
			for _, r := range answers {
				err = errors.Join(err, r.Err)
			}
			return err
		}, may: []topics.Role{adminRole}},
	}
}

func writes(topic string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		return produce(ctx, a.config, &kgo.Record{Topic: topic, Value: []byte("{}")})
	}
}

func reads(topic string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		return read(ctx, a.config, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
	}
}

func ends(topic string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		listed, err := a.adm.ListEndOffsets(ctx, topic)
		return errors.Join(err, listed.Error())
	}
}

func joins(group string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 10_000, 10_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		resp, err := req.RequestWith(ctx, a.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}
}

func commits(group, topic string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group = group
		partition := kmsg.NewOffsetCommitRequestTopicPartition()
		partition.Offset = 0
		asked := kmsg.NewOffsetCommitRequestTopic()
		asked.Topic, asked.TopicID, asked.Partitions = topic, a.topics[topic].ID, append(asked.Partitions, partition)
		req.Topics = append(req.Topics, asked)
		resp, err := req.RequestWith(ctx, a.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
}

func offsets(group string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		answers, err := a.adm.FetchOffsets(ctx, group)
		return errors.Join(err, answers.Error())
	}
}

func transacts(id string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, 10_000
		resp, err := req.RequestWith(ctx, a.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}
}

func makes(topic string) func(context.Context, actor) error {
	return func(ctx context.Context, a actor) error {
		_, err := a.adm.CreateTopic(ctx, 1, 1, nil, topic)
		return err
	}
}

func refused(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) ||
		errors.Is(err, kerr.TransactionalIDAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// matrix has every role do every operation.
func matrix(t *testing.T, c cluster) {
	ctx := t.Context()
	_, err := c.super.CreateTopic(ctx, 1, 1, nil, shared)
	require.NoError(t, err)
	for _, topic := range []string{declared.Commands.Name, declared.Events.Name, declared.DeadLetters.Name, shared} {
		require.NoError(t, writes(topic)(ctx, actor{config: c.config("admin")}))
	}
	seen, err := c.super.ListTopics(ctx)
	require.NoError(t, err)
	for _, role := range topics.Roles() {
		config := c.as(role)
		client := c.client(t, config)
		as := actor{config, client, kadm.NewClient(client), seen}
		allowed := 0
		for _, op := range operations() {
			err := op.do(ctx, as)
			if !slices.Contains(op.may, role) {
				require.True(t, refused(err), "%s may %s: %v", role, op.name, err)
				require.True(t, kafkaclient.Refused(err), "%v", err)
				continue
			}
			allowed++
			if !slices.ContainsFunc(op.done, func(code *kerr.Error) bool { return errors.Is(err, code) }) {
				require.NoError(t, err, "%s may not %s", role, op.name)
			}
		}
		require.NotZero(t, allowed, role)
	}
}

func TestRolesMayDoWhatTheyNeedAndNothingElse(t *testing.T) {
	matrix(t, onKfake(t))
}
