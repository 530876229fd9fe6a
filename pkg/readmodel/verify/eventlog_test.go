package verify

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

// oneRecord makes a topic of events whose only partition has one record, which is no event.
func oneRecord(t *testing.T) (*kfake.Cluster, kafkaclient.Config, *kgo.Client) {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events"))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	config := kafkaclient.Config{Brokers: fake.ListenAddrs(), TopicPrefix: "test"}
	client, err := kgo.NewClient(config.Opts("test")...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("no event")}).FirstErr())
	return fake, config, client
}

// No projector has run yet, or its group was deleted: then nothing is projected, and to say so is what verify is for.
func TestAGroupThatIsNotThereHasProjectedNothing(t *testing.T) {
	fake, config, _ := oneRecord(t)

	fake.ControlKey(int16(kmsg.OffsetFetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		req := kreq.(*kmsg.OffsetFetchRequest)
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.Groups {
			gone := kmsg.NewOffsetFetchResponseGroup()
			gone.Group, gone.ErrorCode = g.Group, kerr.GroupIDNotFound.Code
			resp.Groups = append(resp.Groups, gone)
		}
		return resp, nil, true
	})
	log, err := openEventLog(t.Context(), config, "events")
	require.NoError(t, err)
	t.Cleanup(log.close)
	offsets, err := log.projected(t.Context(), "projector")
	require.NoError(t, err)
	require.Empty(t, offsets)
	var unreadable int
	require.NoError(t, log.advance(t.Context(), func(*logged) {}, func(string, error) { unreadable++ }))
	require.Equal(t, 1, unreadable)
	projected, err := log.isProjected(t.Context(), "projector")
	require.NoError(t, err)
	require.False(t, projected)
}

// All records of a partition had expired before the group came: it never commits anything there.
func TestAPartitionWhoseRecordsHaveExpiredIsProjected(t *testing.T) {
	_, config, client := oneRecord(t)
	var expired kadm.Offsets
	expired.AddOffset("events", 0, 1, -1)
	_, err := kadm.NewClient(client).DeleteRecords(t.Context(), expired)
	require.NoError(t, err)

	log, err := openEventLog(t.Context(), config, "events")
	require.NoError(t, err)
	t.Cleanup(log.close)
	require.NoError(t, log.advance(t.Context(), func(*logged) {}, func(place string, _ error) { t.Error(place) }))
	projected, err := log.isProjected(t.Context(), "projector")
	require.NoError(t, err)
	require.True(t, projected)
}
