package commandlog

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

func byTwo(partition int32) int { return int(partition % 2) }

// TestEachLaneIsDealtAsMuch: what is in the hand is dealt whole, once and in order, and none of a lane's records beyond the others' while
// those have more.
func TestEachLaneIsDealtAsMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		recordsMax := rapid.IntRange(1, 20).Draw(t, "most")
		var h hand
		next := map[int32]int64{}
		for range rapid.IntRange(0, 6).Draw(t, "portions") {
			partition := rapid.Int32Range(0, 3).Draw(t, "partition")
			f := kgo.FetchPartition{Partition: partition}
			for range rapid.IntRange(0, 25).Draw(t, "records") {
				f.Records = append(f.Records, &kgo.Record{Partition: partition, Offset: next[partition]})
				next[partition]++
			}
			h.add(kgo.Fetches{{Topics: []kgo.FetchTopic{{Partitions: []kgo.FetchPartition{f}}}}})
		}
		seen := map[int32]int64{}
		for h.records > 0 {
			dealt := h.deal(recordsMax, byTwo)
			of, left := make([]int, 2), make([]int, 2)
			for _, p := range dealt {
				require.NotEmpty(t, p.records)
				for _, r := range p.records {
					require.Equal(t, p.partition, r.Partition)
					require.Equal(t, seen[p.partition], r.Offset)
					seen[p.partition]++
				}
				of[byTwo(p.partition)] += len(p.records)
			}
			inHand := 0
			for _, p := range h.portions {
				left[byTwo(p.partition)] += len(p.records)
				inHand += len(p.records)
			}
			require.Equal(t, inHand, h.records)
			require.Positive(t, of[0]+of[1])
			if inHand == 0 {
				require.LessOrEqual(t, of[0]+of[1], recordsMax+recordsMax/restShare)
				continue
			}
			require.LessOrEqual(t, of[0]+of[1], recordsMax)
			for lane := range of {
				if other := 1 - lane; recordsMax > 1 && left[other] > 0 {
					require.LessOrEqual(t, of[lane], of[other], fmt.Sprint(of, left))
				}
			}
		}
		for partition, n := range next {
			require.Equal(t, n, seen[partition])
		}
	})
}

// TestAPartitionsRecordsAreDealtInOrder: also where its lane becomes another while it is taken away.
func TestAPartitionsRecordsAreDealtInOrder(t *testing.T) {
	var h hand
	run := func(partition int32, offsets ...int64) kgo.FetchPartition {
		f := kgo.FetchPartition{Partition: partition}
		for _, offset := range offsets {
			f.Records = append(f.Records, &kgo.Record{Offset: offset})
		}
		return f
	}
	h.add(kgo.Fetches{{Topics: []kgo.FetchTopic{{Partitions: []kgo.FetchPartition{run(0, 0, 1, 2), run(1, 0), run(0, 3, 4, 5)}}}}})
	asked := 0
	dealt := h.deal(4, func(partition int32) int {
		if asked++; asked > 5 {
			return 1
		}
		return byTwo(partition)
	})
	require.Equal(t, []portion{{partition: 0, records: dealt[0].records[:2]}, {partition: 1, records: dealt[1].records}}, dealt)
	require.EqualValues(t, 1, dealt[0].records[1].Offset)
}

// TestWhatIsReadAgainIsNotInTheHand: what is in the hand of a partition in which the client goes back would come twice.
func TestWhatIsReadAgainIsNotInTheHand(t *testing.T) {
	for name, c := range map[string]struct {
		back func(*session) error
		to   int64
	}{
		"set back, as to be parked": {func(s *session) error { s.setPositions(map[int32]int64{0: 5}); return nil }, 5},
		"read anew, as it stands still": {func(s *session) error {
			s.parts[0].position, s.parts[0].measured, s.parts[0].stalled = 5, 5, true
			s.nudge()
			return nil
		}, 5},
		"given up": {func(s *session) error { return s.giveUp(t.Context(), errStale) }, 0},
		"given up as the group has moved on": {func(s *session) error {
			s.seen(s.generation + 1)
			polls, err := s.poll(t.Context())
			require.Empty(t, polls)
			require.ErrorIs(t, err, errStale)
			return s.giveUp(t.Context(), err)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, fake := onKfake(t)
			s.parts[0].topicID, s.recordsMax, s.sinceMax = commandsID(t, s), 10, time.Second
			producer, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ManualFlushing())
			require.NoError(t, err)
			defer producer.Close()
			for range 40 {
				producer.Produce(t.Context(), &kgo.Record{Topic: s.config.Topics.Commands.Name}, nil)
			}
			require.NoError(t, producer.Flush(t.Context()))
			require.Len(t, pollOne(t, s)[0].records, 10)
			require.Positive(t, s.hand.records)
			s.errorsSince = kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: s.config.Topics.Commands.Name, Partitions: []kgo.FetchPartition{
				{Partition: 0, Err: kerr.CorruptMessage}, // behind the last
			}}}}}
			require.NoError(t, c.back(s))
			for next := c.to; next < 40; {
				for _, r := range pollOne(t, s)[0].records {
					require.Equal(t, next, r.Offset)
					next++
				}
			}
			require.Empty(t, s.suspects(), "what is behind the last is only known once that is read again")
		})
	}
}
