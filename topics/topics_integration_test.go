//go:build integration

package topics_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/topics"
)

// Apache Kafka acknowledges changes before its brokers show them, and knows
// every setting; kfake does neither.
func TestOnApacheKafka(t *testing.T) {
	brokers := os.Getenv("LOTLINE_TEST_KAFKA")
	require.NotEmpty(t, brokers, "set LOTLINE_TEST_KAFKA to the address of a broker, or run the tests with make test")
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
	require.NoError(t, err)
	defer client.Close()
	adm := kadm.NewClient(client)
	want := topics.Declared(fmt.Sprintf("topics-test-%d", time.Now().UnixNano()))
	names := []string{want.Commands.Name, want.Events.Name, want.DeadLetters.Name}
	defer adm.DeleteTopics(context.WithoutCancel(t.Context()), names...)
	check := func() topics.Changes {
		t.Helper()
		changes, err := topics.Diff(t.Context(), adm, want.All(), 1)
		require.NoError(t, err)
		return changes
	}

	require.Len(t, check().Create, 3)
	require.NoError(t, topics.Apply(t.Context(), adm, check()))
	require.True(t, check().Empty())

	want.Commands.Partitions++
	want.Commands.Config["retention.ms"] = "3600000"
	require.NoError(t, topics.Apply(t.Context(), adm, check()))
	require.True(t, check().Empty())

	acls, err := topics.DiffACLs(t.Context(), adm, want, topics.Principals{topics.RoleProducer: {"User:shop"}})
	require.NoError(t, err)
	require.Equal(t, topics.ACLChanges{Disabled: true}, acls, "this broker has no authorizer")

	want.Commands.Partitions -= 2
	require.ErrorContains(t, topics.Apply(t.Context(), adm, check()), "has 13 partitions and 11 are declared")
}
