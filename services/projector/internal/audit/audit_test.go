package audit

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Partition 1 had records, which have all expired before the group came: it will never commit anything there, and must not be
// waited for.
func TestAPartitionWhoseRecordsHaveExpiredIsProjected(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "events"))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	for partition := range int32(2) {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Partition: partition}, &kgo.Record{Topic: "events", Partition: partition}).FirstErr())
	}
	admin := kadm.NewClient(client)
	var expired, committed kadm.Offsets
	expired.AddOffset("events", 1, 2, -1)
	_, err = admin.DeleteRecords(t.Context(), expired)
	require.NoError(t, err)
	committed.AddOffset("events", 0, 1, -1)
	require.NoError(t, admin.CommitAllOffsets(t.Context(), "projector", committed))

	a := &auditor{cfg: Config{Topic: "events", Group: "projector"}, admin: admin}
	ends, projected, err := a.offsets(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{0: 2, 1: 2}, ends)
	require.Equal(t, map[int32]int64{0: 1, 1: 2}, projected)
}
