package commandlog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The client speaks of a batch that inflates to too much once, and then stands still at its offset. Each nudge has it
// speak again: the first one after an assignment, too, and the one after that.
func TestANudgeMakesTheClientSpeakAgain(t *testing.T) {
	s, fake := onKfake(t)
	producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: s.config.Topics.Commands.Name, Value: make([]byte, 2*inflateMax)}).FirstErr())

	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		fetches := s.kafka.PollRecords(ctx, 1)
		cancel()
		var tooLarge *kgo.ErrDecompressTooLarge
		require.ErrorAs(t, fetches.Err(), &tooLarge)
		require.Zero(t, fetches.NumRecords())

		state := s.parts[0] // what was said is lost; time passes
		state.nudged = time.Now().Add(-nudgeInterval)
		state.watchStall(1)
		state.watchStall(1)
		s.nudge()
		require.WithinDuration(t, time.Now(), state.nudged, nudgeInterval/2)
	}
}

// A halted partition that is being tried again may bring nothing. It is looked after nevertheless, or that it was moved on
// would never be seen.
func TestAPartitionThatIsTriedAgainIsLookedAfter(t *testing.T) {
	s, _ := onKfake(t)
	s.halt(0, errors.New("one batch inflates to too much"), true)
	s.parts[0].again()
	require.Equal(t, []int32{0}, s.suspects())
	require.Contains(t, s.stalls(), int32(0), "and is read anew at once")
}
