package commandlog

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/topics"
)

const inflateMax = 1 << 16

// onKfake makes a session whose client has joined the group on a Kafka in this process, and has the commands topic's only
// partition, from its start. It has no Postgres.
func onKfake(t *testing.T) (*session, *kfake.Cluster) {
	t.Helper()
	set := topics.Declared("t")
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, set.Commands.Name, set.Events.Name, set.DeadLetters.Name),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	kafka, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.DisableAutoCommit(),
		kgo.ConsumeTopics(set.Commands.Name), kgo.MaxDecompressBatchBytes(inflateMax), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().At(0).WithEpoch(-1)), kgo.ConsumeResetOffset(kgo.NoResetOffset())) // as adjust says
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	applier, err := apply.New(nil, apply.Encoder{}, apply.Limits{ProductsCachedMax: 1})
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	s := &session{
		Worker: New(Config{Topics: set, Group: "g", TransactionalID: "t", PollRecordsMax: 10, GracePeriod: time.Minute, TransactionTimeout: time.Minute}, []Lane{{Applier: applier}}, kadm.NewClient(kafka),
			&admin.Health{}, NewMetrics(prometheus.NewRegistry()), noop.NewTracerProvider().Tracer(""), log),
		kafka: kafka, parts: map[int32]*part{0: {applied: unknown}}, paused: map[int32]bool{}, waits: map[int32]*wait{},
		elsewhere: map[int32]int64{}, newest: map[int32]time.Time{}, laneOf: map[int32]int{}, recordsMax: 1, publishSlow: publishSlow,
	}
	s.config.Client = []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...)}
	s.stopSettling = func() {}
	s.groupAddedByOffsets, err = groupAddedByOffsets(t.Context(), kafka)
	require.NoError(t, err)
	s.producers, err = s.newProducers(t.Context(), s.groupAddedByOffsets, &s.cuts)
	require.NoError(t, err)
	t.Cleanup(s.producers.close)
	require.Eventually(t, func() bool { return len(s.assigned()) > 0 }, 10*time.Second, time.Millisecond)
	return s, fake
}

// commandsID is the id that the commands topic has now, as parts have it.
func commandsID(t *testing.T, s *session) string {
	t.Helper()
	listed, err := s.admin.ListTopics(t.Context(), s.config.Topics.Commands.Name)
	require.NoError(t, err)
	return TopicName(listed[s.config.Topics.Commands.Name].ID)
}
