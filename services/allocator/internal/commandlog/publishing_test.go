package commandlog

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// After an abort the group's offsets are asked for. Another allocator was killed in a transaction: its partition 1 is
// unstable until the broker ends that, many seconds later, and no business of this one. Its own partition 0 is for a moment,
// until the markers of its own transaction are there. Taken for a fault, each would end the session, and all others'.
func TestOthersOpenTransactionsAreNoFault(t *testing.T) {
	s, fake := onKfake(t)
	topic := s.config.Topics.Commands.Name
	var asked atomic.Int32
	fake.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		fetch := req.(*kmsg.OffsetFetchRequest)
		if !fetch.RequireStable {
			return nil, nil, false
		}
		mine := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		mine.Offset = 7
		if asked.Add(1) <= 3 {
			mine.Offset, mine.ErrorCode = -1, kerr.UnstableOffsetCommit.Code
		}
		others := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		others.Partition, others.Offset, others.ErrorCode = 1, -1, kerr.UnstableOffsetCommit.Code
		of := kmsg.NewOffsetFetchResponseGroupTopic()
		of.Topic, of.TopicID = topic, fake.TopicInfo(topic).TopicID
		of.Partitions = append(of.Partitions, mine, others)
		group := kmsg.NewOffsetFetchResponseGroup()
		group.Group, group.Topics = "g", append(group.Topics, of)
		answer := fetch.ResponseKind().(*kmsg.OffsetFetchResponse)
		answer.Groups = append(answer.Groups, group)
		return answer, nil, true
	})
	require.NoError(t, s.rewound(t.Context()))
	require.EqualValues(t, 4, asked.Load())
	require.EqualValues(t, 7, s.parts[0].published)
}

// Whether the last transaction has all its markers is asked while the next commands are waited for, so that nothing waits for the
// answer. The next one is the other producer's.
func TestTheLastTransactionIsSettledBesidePolling(t *testing.T) {
	s, fake := onKfake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	fake.ControlKey(int16(kmsg.DescribeTransactions), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		asked.Add(1)
		cancel() // the polling, for which nothing comes
		return nil, nil, false
	})
	_, generation := s.kafka.GroupMetadata()
	s.parts[0] = &part{applied: 3, published: 3}
	first := &polled{partition: 0, state: s.parts[0], next: 3}
	require.NoError(t, s.publish(t.Context(), newQueue([]piece{{poll: first, next: 3}}), generation))
	require.True(t, s.producers[0].last.pending)
	require.Equal(t, 1, s.turn)
	require.Zero(t, asked.Load(), "there was none before")
	require.NoError(t, s.step(ctx))
	s.settling.Wait()
	require.False(t, s.producers[0].last.pending, "before the next one is committed")
	require.Positive(t, asked.Load())
}
