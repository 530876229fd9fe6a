package topics_test

import (
	"fmt"
	"testing"

	"github.com/lotline/lotline/topics"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var principals = topics.Principals{
	topics.RoleAllocator: {"User:allocator"}, topics.RoleProjector: {"User:projector"},
	topics.RoleConsumer: {"User:north", "User:south"}, topics.RoleProducer: {"User:north"},
}

func diffACLs(t *testing.T, adm *kadm.Client) topics.ACLChanges {
	t.Helper()
	changes, err := topics.DiffACLs(t.Context(), adm, topics.Declared("lotline"), principals)
	require.NoError(t, err)
	return changes
}

func texts(acls []topics.ACL) (texts []string) {
	for _, a := range acls {
		texts = append(texts, fmt.Sprintf("%s %s %s %s %s %s", a.Permission, a.Principal, a.Operation, a.Pattern, a.Type, a.Name))
	}
	return texts
}

func TestACLsAreCreatedOnce(t *testing.T) {
	adm := admin(t)
	changes := diffACLs(t, adm)
	require.Equal(t, []string{
		"ALLOW User:allocator READ LITERAL TOPIC lotline.commands",
		"ALLOW User:allocator WRITE LITERAL TOPIC lotline.events",
		"ALLOW User:allocator WRITE LITERAL TOPIC lotline.commands.dlq",
		"ALLOW User:allocator READ LITERAL TOPIC lotline.events",
		"ALLOW User:allocator READ LITERAL TOPIC lotline.commands.dlq",
		"ALLOW User:allocator READ LITERAL GROUP lotline.allocator",
		"ALLOW User:allocator WRITE PREFIXED TRANSACTIONAL_ID lotline.allocator.",
		"ALLOW User:projector READ LITERAL TOPIC lotline.events",
		"ALLOW User:projector READ LITERAL GROUP lotline.projector",
		"ALLOW User:projector READ PREFIXED GROUP lotline.projector.",
		"ALLOW User:north WRITE LITERAL TOPIC lotline.commands",
		"ALLOW User:north READ LITERAL TOPIC lotline.events",
		"ALLOW User:north READ PREFIXED GROUP lotline.consumer.",
		"ALLOW User:south READ LITERAL TOPIC lotline.events",
		"ALLOW User:south READ PREFIXED GROUP lotline.consumer.",
	}, texts(changes.Create))
	require.Empty(t, changes.Surplus)
	require.NoError(t, topics.ApplyACLs(t.Context(), adm, changes, false))
	require.True(t, diffACLs(t, adm).Empty())
}

func TestSurplusACLsAreNamedAndRemovedOnRequestOnly(t *testing.T) {
	adm := admin(t)
	require.NoError(t, topics.ApplyACLs(t.Context(), adm, diffACLs(t, adm), false))
	create := func(b *kadm.ACLBuilder) {
		results, err := adm.CreateACLs(t.Context(), b)
		require.NoError(t, err)
		require.NoError(t, results[0].Err)
	}
	create(kadm.NewACLs().Topics("lotline.commands").Allow("User:mallory").Operations(kadm.OpWrite))
	create(kadm.NewACLs().Topics("lotline.").ResourcePatternType(kadm.ACLPatternPrefixed).Allow("User:mallory").Operations(kadm.OpAll))
	create(kadm.NewACLs().Groups("lotline.projector").Deny("User:projector").DenyHosts("10.0.0.1").Operations(kadm.OpRead))
	create(kadm.NewACLs().TransactionalIDs("lotline.allocator.").ResourcePatternType(kadm.ACLPatternPrefixed).Allow("User:mallory").Operations(kadm.OpWrite))
	create(kadm.NewACLs().TransactionalIDs("lotline.allocator.host.0").Allow("User:mallory").Operations(kadm.OpWrite)) // who may fence it
	create(kadm.NewACLs().TransactionalIDs("lotline.allocator.h").ResourcePatternType(kadm.ACLPatternPrefixed).Allow("User:mallory").Operations(kadm.OpWrite))
	create(kadm.NewACLs().Groups("lotline.projector.postgres").Deny("User:projector").DenyHosts("*").Operations(kadm.OpRead))
	// Others' business: another application, everything, the cluster, a user's own group.
	create(kadm.NewACLs().Topics("shop.orders").Allow("User:shop").Operations(kadm.OpWrite))
	create(kadm.NewACLs().Topics("*").Allow("User:monitor").Operations(kadm.OpDescribe))
	create(kadm.NewACLs().Topics("l").ResourcePatternType(kadm.ACLPatternPrefixed).Allow("User:monitor").Operations(kadm.OpDescribe))
	create(kadm.NewACLs().Clusters().Allow("User:monitor").Operations(kadm.OpDescribe))
	create(kadm.NewACLs().Groups("lotline.consumer.west").Allow("User:west").Operations(kadm.OpRead))

	changes := diffACLs(t, adm)
	require.Empty(t, changes.Create)
	require.ElementsMatch(t, []string{
		"ALLOW User:mallory WRITE LITERAL TOPIC lotline.commands",
		"ALLOW User:mallory ALL PREFIXED TOPIC lotline.",
		"DENY User:projector READ LITERAL GROUP lotline.projector",
		"ALLOW User:mallory WRITE PREFIXED TRANSACTIONAL_ID lotline.allocator.",
		"ALLOW User:mallory WRITE LITERAL TRANSACTIONAL_ID lotline.allocator.host.0",
		"ALLOW User:mallory WRITE PREFIXED TRANSACTIONAL_ID lotline.allocator.h",
		"DENY User:projector READ LITERAL GROUP lotline.projector.postgres",
	}, texts(changes.Surplus))
	require.NoError(t, topics.ApplyACLs(t.Context(), adm, changes, false))
	require.Len(t, diffACLs(t, adm).Surplus, 7)
	require.NoError(t, topics.ApplyACLs(t.Context(), adm, changes, true))
	require.True(t, diffACLs(t, adm).Empty())
	left, err := adm.DescribeACLs(t.Context(), kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations().Allow().AllowHosts().Deny().DenyHosts())
	require.NoError(t, err)
	require.Len(t, left[0].Described, len(topics.Declared("lotline").ACLs(principals))+5)
}

// A broker without an authorizer says so; kfake has nothing to say about it.
func TestAClusterWithoutACLsIsLeftAlone(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	defer cluster.Close()
	cluster.ControlKey(int16(kmsg.DescribeACLs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
		resp.ErrorCode = kerr.SecurityDisabled.Code
		return resp, nil, true
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	adm := kadm.NewClient(client)
	changes := diffACLs(t, adm)
	require.Equal(t, topics.ACLChanges{Disabled: true}, changes)
	require.True(t, changes.Empty())
	require.NoError(t, topics.ApplyACLs(t.Context(), adm, changes, true))
	require.NoError(t, topics.ApplyACLs(t.Context(), adm, topics.ACLChanges{}, false), "nobody was named, and nothing compared")
}

func TestParsePrincipals(t *testing.T) {
	got, err := topics.ParsePrincipals([]string{"consumer=User:a", "consumer=User:CN=b,OU=x", "admin=User:a"})
	require.NoError(t, err)
	require.Equal(t, topics.Principals{topics.RoleConsumer: {"User:a", "User:CN=b,OU=x"}, topics.RoleAdmin: {"User:a"}}, got)

	_, err = topics.ParsePrincipals([]string{"consumer", "reader=User:a", "admin=alice"})
	require.ErrorContains(t, err, `"consumer" is not of the form ROLE=User:NAME`)
	require.ErrorContains(t, err, `there is no role "reader"`)
	require.ErrorContains(t, err, "the roles are [admin allocator projector gateway producer consumer operator]")
	require.ErrorContains(t, err, `"admin=alice" is not of the form`)
}
