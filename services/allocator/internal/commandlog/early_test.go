package commandlog

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// commits is a store that has nothing, and commits as it is told.
type commits struct {
	takesAll
	commit func(context.Context) error
}

func (c *commits) Commit(ctx context.Context, _ ...apply.Write) error { return c.commit(ctx) }

// unreadable has a session with that store poll a record that cannot be read, so that its dead letter is to be published.
func unreadable(t *testing.T, commit func(context.Context) error) (*session, *kfake.Cluster, []*polled, int32) {
	t.Helper()
	s, fake := onKfake(t)
	var err error
	s.lanes[0].Applier, err = apply.New(&commits{commit: commit}, apply.Encoder{}, apply.Limits{ProductsCachedMax: 1, SegmentBytesMax: 1})
	require.NoError(t, err)
	producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: s.config.Topics.Commands.Name, Value: []byte("not JSON")}).FirstErr())
	s.parts[0], s.recordsMax = &part{topicID: commandsID(t, s)}, 10
	_, generation := s.kafka.GroupMetadata()
	return s, fake, pollOne(t, s), generation
}

func pollOne(t *testing.T, s *session) []*polled {
	t.Helper()
	polls, err := s.poll(t.Context())
	require.NoError(t, err)
	require.Len(t, polls, 1)
	return polls
}

// deadLetters counts what can be seen of them.
func deadLetters(t *testing.T, s *session, fake *kfake.Cluster, isolation kgo.IsolationLevel, within time.Duration) int {
	t.Helper()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ConsumeTopics(s.config.Topics.DeadLetters.Name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(isolation))
	require.NoError(t, err)
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return consumer.PollFetches(ctx).NumRecords()
}

const (
	soon = 10 * time.Second // what is there is seen within
	shut = time.Second / 4  // what is not is looked for
)

// While Postgres commits, the broker has what was decided, and nobody sees it before both have committed.
func TestEventsAreOnTheirWayWhileTheyAreCommitted(t *testing.T) {
	var s *session
	var fake *kfake.Cluster
	s, fake, polls, generation := unreadable(t, func(context.Context) error {
		require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadUncommitted(), soon))
		require.Zero(t, deadLetters(t, s, fake, kgo.ReadCommitted(), shut))
		return nil
	})
	done, open, err := s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.True(t, done)
	require.NotNil(t, open)
	require.Zero(t, deadLetters(t, s, fake, kgo.ReadCommitted(), shut))
	committed, err := s.commit(t.Context(), t.Context(), open)
	require.NoError(t, err)
	require.True(t, committed)
	require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadCommitted(), soon))
	require.EqualValues(t, 1, s.parts[0].published)
}

// Postgres may be done before the broker has taken anything, as with the first events of a session, whose topic the client asks
// about first. They are waited for, not taken back.
func TestEventsAreNotTakenBackWherePostgresIsFaster(t *testing.T) {
	s, fake, polls, generation := unreadable(t, func(context.Context) error { return nil })
	require.NoError(t, s.through(t.Context(), polls, generation))
	require.EqualValues(t, 1, s.parts[0].published)
	require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadCommitted(), soon))
}

// What takes long is named as what it is: while Postgres commits, events do not wait for Kafka.
func TestASlowCommitIsNotNamedAsKafka(t *testing.T) {
	var s *session
	var fake *kfake.Cluster
	s, fake, polls, generation := unreadable(t, func(context.Context) error {
		require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadUncommitted(), soon)) // they were waited for, and named, until then
		s.setHealth("publishing", nil)
		time.Sleep(4 * s.publishSlow) // what must not happen has so long to happen
		require.Empty(t, s.health.Ready())
		return nil
	})
	s.publishSlow = 25 * time.Millisecond
	require.NoError(t, s.through(t.Context(), polls, generation))
}

// Postgres refuses while the events are on their way: they are taken back, their commands come again, and are published once,
// after the commit this time.
func TestEventsOfWhatIsRefusedAreTakenBack(t *testing.T) {
	answer := apply.ErrRefused
	s, fake, polls, generation := unreadable(t, func(context.Context) error { return answer })
	err := s.through(t.Context(), polls, generation)
	require.ErrorIs(t, err, errStale)
	require.ErrorIs(t, err, apply.ErrRefused)
	require.NoError(t, s.giveUp(t.Context(), err))
	require.EqualValues(t, unknown, s.parts[0].applied)
	require.Zero(t, deadLetters(t, s, fake, kgo.ReadCommitted(), shut))

	require.Equal(t, earlyPauseMin, s.earlyPause)
	answer, s.parts[0].applied = nil, 0 // as Postgres says
	polls = pollOne(t, s)
	done, open, err := s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.True(t, done)
	require.Nil(t, open, "an abort costs more than is gained")
	s.parts[0].applied = 0
	require.NoError(t, s.through(t.Context(), polls, generation))
	require.Equal(t, 1, deadLetters(t, s, fake, kgo.ReadCommitted(), soon))

	s.earlyFrom = time.Time{}
	*polls[0].state = part{topicID: polls[0].state.topicID}
	_, open, err = s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.NotNil(t, open)
	require.Zero(t, s.earlyPause)
}

// Kafka takes no transaction: everything is committed, and for whoever publishes it from the outbox.
func TestWhatCannotBeSentIsCommittedAndGoesTheLongWay(t *testing.T) {
	commits := 0
	s, _, polls, generation := unreadable(t, func(context.Context) error { commits++; return nil })
	require.NoError(t, s.producers[0].client.BeginTransaction()) // so that none can be begun
	done, open, err := s.applyTogether(t.Context(), polls, generation)
	require.NoError(t, err)
	require.False(t, done)
	require.Nil(t, open)
	require.Equal(t, 1, commits)
	require.EqualValues(t, unknown, s.parts[0].applied)
	require.Nil(t, polls[0].decided)
}

// An open transaction hides whatever follows it from consumers, so Postgres is not waited for longer than the broker would.
func TestACommitBesideAnOpenTransactionIsBounded(t *testing.T) {
	s, _, polls, generation := unreadable(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	s.config.TransactionTimeout = 20 * time.Millisecond
	require.ErrorIs(t, s.through(t.Context(), polls, generation), context.Canceled)
}

// Events are sent early where nothing speaks against it.
func TestWhichEventsAreSentEarly(t *testing.T) {
	decided := func(first int64, dependsOn map[int32]int64) []outbox.Segment {
		return []outbox.Segment{{First: first, Next: 7, DependsOn: dependsOn}}
	}
	records := []*kgo.Record{{Offset: 4}}
	for name, c := range map[string]struct {
		segments []outbox.Segment
		from     time.Time
		want     bool
	}{
		"all is normal":                           {decided(4, nil), time.Time{}, true},
		"the first was decided by another life":   {decided(5, nil), time.Time{}, false},
		"they are better read from the outbox":    {nil, time.Time{}, false},
		"they come after another partition's":     {decided(4, map[int32]int64{1: 9}), time.Time{}, false},
		"it was in vain a moment ago":             {decided(4, nil), time.Now().Add(time.Hour), false},
		"it was in vain, and that is a while ago": {decided(4, nil), time.Now().Add(-time.Millisecond), true},
	} {
		s := &session{earlyFrom: c.from}
		require.Equal(t, c.want, s.mayOpen([]*polled{{records: records}}, [][]outbox.Segment{c.segments}), name)
	}
}
