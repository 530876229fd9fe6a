package commandlog

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
	"github.com/lotline/lotline/topics"
)

// A batch with a wrong checksum, as a disk may have it, comes with the records before it. They are decided first: halted
// at once, the partition would be left where they begin, and to skip the batch would skip them too.
func TestTheRecordsBeforeAnUnreadableBatchAreNotHalted(t *testing.T) {
	kafka, err := kgo.NewClient(kgo.ConsumerGroup("g"), kgo.SeedBrokers("127.0.0.1:1"))
	require.NoError(t, err)
	defer kafka.Close()
	set := topics.Declared("t")
	s := &session{
		Worker: New(Config{Topics: set}, make([]Lane, 1), nil, &admin.Health{}, NewMetrics(prometheus.NewRegistry()), noop.NewTracerProvider().Tracer(""), slog.New(slog.DiscardHandler)),
		kafka:  kafka, parts: map[int32]*part{3: {}}, paused: map[int32]bool{},
	}
	fetched := func(records ...*kgo.Record) kgo.Fetches {
		return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: set.Commands.Name, Partitions: []kgo.FetchPartition{
			{Partition: 3, Records: records, Err: errors.New("encoded crc 1 does not match calculated crc 2")},
		}}}}}
	}
	s.fetchErrors(t.Context(), fetched(&kgo.Record{Offset: 5}))
	require.Empty(t, s.suspects())
	s.fetchErrors(t.Context(), fetched())
	require.Equal(t, []int32{3}, s.suspects())
}

// A command that came while the last one was worked on is in the same poll as what the client had at hand before, and does not
// wait for another. What cannot be read behind it halts the partition with the next poll: at once, it would be left where
// the client had begun, before commands that can be decided.
func TestAPollHasWhatCameSince(t *testing.T) {
	s, fake := onKfake(t)
	commands := s.config.Topics.Commands.Name
	s.parts[0].topicID, s.recordsMax, s.sinceMax = commandsID(t, s), 10, 10*time.Second
	producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	require.NoError(t, err)
	defer producer.Close()
	send := func(value []byte) {
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: commands, Value: value}).FirstErr())
	}
	send(nil)
	require.Eventually(t, func() bool { return s.kafka.BufferedFetchRecords() == 1 }, 10*time.Second, time.Millisecond)
	send(nil)
	polls, err := s.poll(t.Context())
	require.NoError(t, err)
	require.Len(t, polls, 1)
	require.Len(t, polls[0].inputs, 2)
	require.EqualValues(t, 1, polls[0].records[1].Offset)
	require.EqualValues(t, 2, polls[0].next)

	send(nil)
	require.Eventually(t, func() bool { return s.kafka.BufferedFetchRecords() == 1 }, 10*time.Second, time.Millisecond)
	send(make([]byte, 2*inflateMax))
	polls, err = s.poll(t.Context())
	require.NoError(t, err)
	require.Len(t, polls[0].records, 1)
	require.Empty(t, s.suspects())
	polls, err = s.poll(t.Context())
	require.NoError(t, err)
	require.Empty(t, polls)
	require.Equal(t, []int32{0}, s.suspects())
}

// TestAPollLeavesNoSmallRest: a rest of a poll's third or less is taken with it, and a larger one is a poll of its own.
func TestAPollLeavesNoSmallRest(t *testing.T) {
	s, fake := onKfake(t)
	commands := s.config.Topics.Commands.Name
	s.parts[0].topicID, s.recordsMax, s.sinceMax = commandsID(t, s), 10, 100*time.Millisecond
	producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ManualFlushing())
	require.NoError(t, err)
	defer producer.Close()
	for _, expected := range [][]int{{13}, {10, 4}} {
		all := 0
		for _, n := range expected {
			all += n
		}
		for range all {
			producer.Produce(t.Context(), &kgo.Record{Topic: commands}, nil)
		}
		require.NoError(t, producer.Flush(t.Context())) // in one batch, so that one fetch has them
		require.Eventually(t, func() bool { return s.kafka.BufferedFetchRecords() == int64(all) }, 10*time.Second, time.Millisecond)
		for _, n := range expected {
			polls, err := s.poll(t.Context())
			require.NoError(t, err)
			require.Len(t, polls, 1)
			require.Len(t, polls[0].inputs, n)
			require.Equal(t, polls[0].records[n-1].Offset+1, polls[0].next)
		}
	}
}

// TestALostLogIsHeededBeforeWhatFollowsIt: the client says once that records were lost, and goes on behind them, also within
// what came since.
func TestALostLogIsHeededBeforeWhatFollowsIt(t *testing.T) {
	s, _ := onKfake(t)
	since := func(err error) kgo.Fetches {
		return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: s.config.Topics.Commands.Name, Partitions: []kgo.FetchPartition{{Partition: 0, Err: err}}}}}}
	}
	s.heed(t.Context(), nil, since(kerr.CorruptMessage))
	require.Empty(t, s.suspects(), "what is before a broken batch can be decided")
	s.seen(s.generation + 1)
	s.heed(t.Context(), nil, nil)
	require.Empty(t, s.suspects(), "it may have gone to another member")

	s.heed(t.Context(), nil, since(&kgo.ErrGroupSession{Err: kerr.UnknownMemberID}))
	_, generation := s.kafka.GroupMetadata()
	require.Equal(t, generation, s.lostGeneration)
	require.Empty(t, s.errorsSince)

	s.heed(t.Context(), nil, since(&kgo.ErrDataLoss{Topic: s.config.Topics.Commands.Name, Partition: 0, ConsumedTo: 9, ResetTo: 5}))
	require.Equal(t, []int32{0}, s.suspects())
}

// TestAnErrorOfAWholeTopicHaltsNoPartition: the client speaks of it as of partition -1, with an error that has no type, as one has
// that cannot parse a batch.
func TestAnErrorOfAWholeTopicHaltsNoPartition(t *testing.T) {
	s, _ := onKfake(t)
	err := errors.New("kafka did not reply with a comprehensive set of partitions for a topic; we expected partition 0 but saw 1")
	of := func(partition int32) kgo.Fetches {
		return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: s.config.Topics.Commands.Name, Partitions: []kgo.FetchPartition{{Partition: partition, Err: err}}}}}}
	}
	s.fetchErrors(t.Context(), of(-1))
	require.Empty(t, s.suspects())
	require.Contains(t, s.health.Ready(), s.name+" kafka")
	s.fetchErrors(t.Context(), of(0))
	require.Equal(t, []int32{0}, s.suspects())
}

// TestWhoIsInTheGroupAgainIsNotTakenForLost: the client was thrown out and has joined again before the poll that says so.
func TestWhoIsInTheGroupAgainIsNotTakenForLost(t *testing.T) {
	s, fake := onKfake(t)
	require.True(t, s.joined(t.Context()))
	s.heed(t.Context(), nil, kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: s.config.Topics.Commands.Name, Partitions: []kgo.FetchPartition{
		{Partition: 0, Err: &kgo.ErrGroupSession{Err: kerr.UnknownMemberID}},
	}}}}})
	member, generation := s.kafka.GroupMetadata()
	require.Equal(t, generation, s.lostGeneration)
	require.True(t, s.joined(t.Context()), "it is in the group")

	fake.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		return nil, errors.New("nobody may join"), true
	})
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: member}}
	_, err := leave.RequestWith(t.Context(), s.kafka)
	require.NoError(t, err)
	_, s.lostGeneration = s.kafka.GroupMetadata()
	require.False(t, s.joined(t.Context()), "it is not any more")
}

// The commands topic was created anew and adopted, by an allocator that this one has the partition from now: it is not moved on any
// more, and a client that knew the topic before never reads it, however often it is tried.
func TestAClientOfATopicThatIsGoneIsReplaced(t *testing.T) {
	s, fake := onKfake(t)
	commands := s.config.Topics.Commands.Name
	_, err := s.admin.DeleteTopic(t.Context(), commands)
	require.NoError(t, err)
	_, err = s.admin.CreateTopic(t.Context(), 1, 1, nil, commands)
	require.NoError(t, err)
	producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: commands}).FirstErr())
	adopted := commandsID(t, s)
	s.parts[0].topicID = adopted
	require.Eventually(t, func() bool {
		polls, err := s.poll(t.Context())
		require.NoError(t, err)
		require.Empty(t, polls)
		return len(s.suspects()) == 1
	}, 30*time.Second, time.Millisecond) // the client asks for the topic's id anew every few seconds

	state, at := s.parts[0], postgres.Position{TopicID: adopted}
	require.NoError(t, state.reconsider(0, adopted, unknown, at), "it may be over by itself")
	require.True(t, state.halted)
	state.retryAt = time.Now().Add(-time.Second)
	require.NoError(t, state.reconsider(0, "another", unknown, at), "and nobody has adopted that")
	require.True(t, state.halted)
	require.ErrorIs(t, state.reconsider(0, adopted, unknown, at), errOldTopic)
	state.oldTopic = false
	require.NoError(t, state.reconsider(0, adopted, unknown, at))
	require.False(t, state.halted, "anything else is tried again")
	at.NextOffset, at.OutboxFloor = 5, 5
	require.ErrorIs(t, state.reconsider(0, adopted, 5, at), errMended)
}
