package commandlog

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// nothing is a store's commit.
func nothing(context.Context) error { return nil }

// counted counts the requests of a kind that come to the broker, and looks at them.
func counted(fake *kfake.Cluster, kind kmsg.Key, look ...func(kmsg.Request)) *atomic.Int32 {
	var n atomic.Int32
	fake.ControlKey(kind.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		n.Add(1)
		for _, l := range look {
			l(req)
		}
		return nil, nil, false
	})
	return &n
}

// committedOffset is the group's, as others see it; -1 = there is none.
func committedOffset(t *testing.T, s *session) int64 {
	t.Helper()
	committed, err := s.admin.FetchOffsets(t.Context(), s.config.Group)
	require.NoError(t, err)
	at, ok := committed.Lookup(s.config.Topics.Commands.Name, 0)
	if !ok {
		return -1
	}
	return at.At
}

// another has the session poll one more record that cannot be read.
func another(t *testing.T, s *session, fake *kfake.Cluster) []*polled {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: s.config.Topics.Commands.Name, Value: []byte("not JSON")}).FirstErr())
	return pollOne(t, s)
}

// While Postgres commits, the transaction has the group's offsets too, and nobody sees them. A cluster that does not add the
// group by itself is asked to.
func TestOffsetsAreOnTheirWayWhileTheyAreCommitted(t *testing.T) {
	for name, older := range map[string]bool{"Kafka 4": false, "before": true} {
		t.Run(name, func(t *testing.T) {
			var s *session
			var offsets, added *atomic.Int32
			s, fake, polls, generation := unreadable(t, func(context.Context) error {
				require.Eventually(t, func() bool { return offsets.Load() == 1 }, soon, time.Millisecond)
				s.offering.Wait()
				require.EqualValues(t, -1, committedOffset(t, s))
				return nil
			})
			if older {
				downgrade := kmsg.NewPtrUpdateFeaturesRequest()
				feature := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
				feature.Feature, feature.AllowDowngrade, feature.UpgradeType = "transaction.version", true, 2
				downgrade.FeatureUpdates = append(downgrade.FeatureUpdates, feature)
				resp, err := downgrade.RequestWith(t.Context(), s.kafka)
				require.NoError(t, err)
				require.NoError(t, kerr.ErrorForCode(resp.ErrorCode))
				s.producers.close()
				s.groupAddedByOffsets, err = groupAddedByOffsets(t.Context(), s.kafka)
				require.NoError(t, err)
				s.producers, err = s.newProducers(t.Context(), s.groupAddedByOffsets, &s.cuts)
				require.NoError(t, err)
				t.Cleanup(s.producers.close)
			}
			require.Equal(t, !older, s.groupAddedByOffsets)
			added = counted(fake, kmsg.AddOffsetsToTxn)
			offsets = counted(fake, kmsg.TxnOffsetCommit, func(req kmsg.Request) {
				if version := req.GetVersion(); older != (version <= 4) {
					t.Errorf("version %d, of which later ones than 4 begin a transaction", version)
				}
			})
			require.NoError(t, s.through(t.Context(), polls, generation))
			require.EqualValues(t, 1, committedOffset(t, s))
			require.EqualValues(t, 1, offsets.Load(), "they are not sent again")
			require.Equal(t, older, added.Load() == 1)
			require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadCommitted(), soon))
		})
	}
}

// A poll whose offsets the group does not take is not published, and comes again; unless it never will be taken.
func TestOffsetsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code int16
		ends bool // the session
	}{
		"the group has moved on":                  {kerr.IllegalGeneration.Code, false},
		"the group is being given its partitions": {kerr.RebalanceInProgress.Code, false},
		"the rights are gone":                     {kerr.GroupAuthorizationFailed.Code, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, fake, polls, generation := unreadable(t, nothing)
			var refused atomic.Bool
			fake.ControlKey(int16(kmsg.TxnOffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				fake.KeepControl()
				if !refused.CompareAndSwap(false, true) {
					return nil, nil, false
				}
				req := kreq.(*kmsg.TxnOffsetCommitRequest)
				resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
				topic := kmsg.NewTxnOffsetCommitResponseTopic()
				topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
				partition := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				partition.ErrorCode = c.code
				topic.Partitions = append(topic.Partitions, partition)
				resp.Topics = append(resp.Topics, topic)
				return resp, nil, true
			})
			err := s.through(t.Context(), polls, generation)
			require.Zero(t, s.parts[0].published)
			require.Zero(t, s.parts[0].position)
			require.EqualValues(t, unknown, s.parts[0].applied)
			require.EqualValues(t, -1, committedOffset(t, s))
			require.Zero(t, deadLetters(t, s, fake, kgo.ReadCommitted(), shut))
			if c.ends {
				require.ErrorIs(t, err, kerr.ErrorForCode(c.code))
				return
			}
			require.NoError(t, err)
			s.parts[0].applied = 0 // as the store says, which has kept nothing
			polls = pollOne(t, s)
			require.EqualValues(t, 0, polls[0].records[0].Offset)
			require.NoError(t, s.through(t.Context(), polls, generation))
			require.EqualValues(t, 1, committedOffset(t, s))
			require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadCommitted(), soon))
		})
	}
}

// Postgres refuses a poll while the broker is about to take its offsets. They are not cut off: a request that is may come to the broker
// after the abort.
func TestOffsetsAreNotCutOff(t *testing.T) {
	s, fake, polls, generation := unreadable(t, func(context.Context) error { return apply.ErrRefused })
	came, taken := make(chan struct{}), make(chan struct{})
	take := sync.OnceFunc(func() { close(taken) })
	defer take()
	fake.ControlKey(int16(kmsg.TxnOffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.SleepControl(func() {
			close(came)
			<-taken
		})
		return nil, nil, false
	})
	through := make(chan error, 1)
	go func() { through <- s.through(t.Context(), polls, generation) }()
	const early = "the poll was given up while its offsets were on their way"
	select {
	case <-through:
		require.Fail(t, early)
	case <-came:
	}
	select {
	case <-through:
		require.Fail(t, early)
	case <-time.After(shut):
	}
	cuts := s.cuts.Load()
	take()
	err := <-through
	require.ErrorIs(t, err, errStale)
	require.NoError(t, s.giveUp(t.Context(), err))
	require.Equal(t, cuts, s.cuts.Load())
	require.EqualValues(t, -1, committedOffset(t, s))
}

// A poll of which everything is published moves only the group's offsets, without a transaction, under the generation that it was
// polled under.
func TestOffsetsOfWhatIsPublished(t *testing.T) {
	s, fake := onKfake(t)
	_, generation := s.kafka.GroupMetadata()
	s.parts[0] = &part{applied: 3, published: 3}
	ended := counted(fake, kmsg.EndTxn)
	nothingNew := []piece{{poll: &polled{partition: 0, state: s.parts[0], next: 3}, next: 3}}
	require.NoError(t, s.publish(t.Context(), newQueue(nothingNew), generation))
	require.EqualValues(t, 3, committedOffset(t, s))
	require.Zero(t, ended.Load())
	require.NoError(t, s.publish(t.Context(), newQueue(nothingNew), generation-1))
	require.EqualValues(t, unknown, s.parts[0].applied, "it comes again")
}

// preparing has the broker say that the markers of the transactional id in it are being written.
func preparing(fake *kfake.Cluster) *atomic.Value {
	var preparing atomic.Value
	fake.ControlKey(int16(kmsg.DescribeTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		id := req.(*kmsg.DescribeTransactionsRequest).TransactionalIDs[0]
		if preparing.Load() != id {
			return nil, nil, false
		}
		state := kmsg.NewDescribeTransactionsResponseTransactionState()
		state.TransactionalID, state.State = id, "PrepareCommit"
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		resp.TransactionStates = append(resp.TransactionStates, state)
		return resp, nil, true
	})
	return &preparing
}

// The markers of the last transaction take their time. The next is open meanwhile, with all that it publishes, and is committed once
// they are there.
func TestATransactionIsOpenWhileTheLastGetsItsMarkers(t *testing.T) {
	s, fake, polls, generation := unreadable(t, nothing)
	preparing := preparing(fake)
	require.NoError(t, s.through(t.Context(), polls, generation))
	preparing.Store("t")
	polls = another(t, s, fake)
	done, open, err := s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.True(t, done)
	s.offering.Wait()
	require.Equal(t, 2, deadLetters(t, s, fake, kgo.ReadUncommitted(), soon))
	time.AfterFunc(shut, func() {
		if committedOffset(t, s) != 1 {
			t.Error("it was committed before the last had its markers")
		}
		preparing.Store("")
	})
	committed, err := s.commit(t.Context(), t.Context(), open)
	require.NoError(t, err)
	require.True(t, committed)
	require.Empty(t, preparing.Load())
	require.EqualValues(t, 2, committedOffset(t, s))
}

// A connection is lost before the last transaction is known to have its markers, and after the next was begun: what the broker may
// have forgotten is looked for while nothing is open. So that is aborted, and its poll comes again.
func TestALostConnectionIsLookedIntoWhileNothingIsOpen(t *testing.T) {
	s, fake, polls, generation := unreadable(t, nothing)
	require.NoError(t, s.through(t.Context(), polls, generation))
	require.True(t, s.producers[0].last.pending)
	polls = another(t, s, fake)
	done, open, err := s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.True(t, done)
	s.cuts.Add(1)
	looked := counted(fake, kmsg.DescribeProducers)
	committed, err := s.commit(t.Context(), t.Context(), open)
	require.NoError(t, err)
	require.False(t, committed)
	require.Zero(t, looked.Load())
	require.True(t, s.producers[0].last.pending)

	segment := polls[0].decided
	polls = pollOne(t, s)
	require.EqualValues(t, 1, polls[0].records[0].Offset)
	polls[0].decided = append([]outbox.Segment(nil), segment...)
	queue, err := s.collect(t.Context(), polls)
	require.NoError(t, err)
	require.NoError(t, s.publish(t.Context(), queue, generation))
	require.Positive(t, looked.Load())
	require.False(t, s.producers[1].last.pending, "the aborted one's are there too")
	require.EqualValues(t, 2, committedOffset(t, s))
	require.Equal(t, 2, deadLetters(t, s, fake, kgo.ReadCommitted(), soon))
}

// The last transaction's markers do not come, as where a partition has no leader. What is open hides what follows it from consumers,
// so it is not left open for longer than the broker would; nor where Postgres has refused it.
func TestATransactionIsNotLeftOpenForMarkers(t *testing.T) {
	for name, answer := range map[string]error{"committed by Postgres": nil, "refused": apply.ErrRefused} {
		t.Run(name, func(t *testing.T) {
			said := error(nil)
			s, fake, polls, generation := unreadable(t, func(context.Context) error { return said })
			preparing := preparing(fake)
			require.NoError(t, s.through(t.Context(), polls, generation))
			preparing.Store("t")
			if answer == nil {
				s.config.TransactionTimeout = shut
			}
			said = answer
			s.settleBeside(t.Context())
			polls = another(t, s, fake)
			ended := counted(fake, kmsg.EndTxn)
			err := s.through(t.Context(), polls, generation)
			if answer != nil {
				require.ErrorIs(t, err, answer)
				err = s.giveUp(t.Context(), err)
			}
			require.NoError(t, err)
			require.EqualValues(t, 1, ended.Load())
			require.Equal(t, "t", preparing.Load())
			require.EqualValues(t, 1, committedOffset(t, s))
			if answer != nil {
				return
			}
			// A broker that takes as long with all markers does not have each transaction aborted for the one before.
			preparing.Store("t/2")
			time.AfterFunc(2*s.config.TransactionTimeout, func() { preparing.Store("") })
			s.parts[0].applied = 1 // as Postgres says
			require.NoError(t, s.through(t.Context(), pollOne(t, s), generation))
			require.EqualValues(t, 2, committedOffset(t, s))
			require.EqualValues(t, 2, ended.Load())
		})
	}
}
