package reads

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

func TestATailThatProvesNothingStopsTheCache(t *testing.T) {
	s, r, c := stocked(t, 1)
	answer(t, r, "CHAIR")
	_, kept := c.get("CHAIR")
	require.True(t, kept)

	s.publish(0, "CHAIR", "b1", 39) // and is not delivered
	s.projectAll()
	c.Current(time.Now().Add(-currentMax + 100*time.Millisecond)) // asked then, whenever the answer came
	_, kept = c.get("CHAIR")
	require.True(t, kept)
	require.Eventually(t, func() bool { _, kept = c.get("CHAIR"); return !kept }, currentMax, time.Millisecond)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)

	// The tail goes on: what was answered meanwhile is not taken back, though it has not come to it.
	c.Current(time.Now())
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)
}

func TestAnAnswerAheadOfTheTailIsNotTakenBack(t *testing.T) {
	for name, whole := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			s := newShop(1)
			s.publish(0, "CHAIR", "b1", 40)
			s.projectAll()
			_, c := s.reader()
			s.sweep(t, c)
			ask := func() fill {
				since := c.asking()
				since.whole = since.whole && whole
				stored, err := s.Availability(t.Context(), []string{"CHAIR"})
				require.NoError(t, err)
				return c.answered(since, []string{"CHAIR"}, stored)["CHAIR"]
			}
			c.answered(c.asking(), []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": s.newest("CHAIR")})
			s.publish(0, "CHAIR", "b1", 39)
			s.projectAll()
			require.EqualValues(t, 2, ask().Version)
			e, kept := c.get("CHAIR")
			require.Equal(t, whole, kept)
			if kept {
				require.EqualValues(t, 2, e.Version)
			}
		})
	}
}

func TestATailThatBeginsAgain(t *testing.T) {
	s := newShop(1)
	s.publish(0, "CHAIR", "b1", 40)
	s.publish(0, "LAMP", "b1", 5)
	s.projectAll()
	r, c := s.reader()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	answer(t, r, "LAMP")
	s.publish(0, "CHAIR", "b1", 39)
	s.deliverAll(c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version)

	s.publish(0, "LAMP", "b1", 4) // while nobody reads
	c.Began(s.ends())
	s.delivered[0] = len(s.log[0])
	_, kept := c.get("LAMP")
	require.False(t, kept)
	c.Current(time.Now())
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "is not older than before, though the store is")
	require.EqualValues(t, 1, answer(t, r, "LAMP").Version)
	_, kept = c.get("LAMP")
	require.False(t, kept)
	s.sweep(t, c)
	require.EqualValues(t, 2, answer(t, r, "CHAIR").Version, "is remembered until it is projected")
	s.projectAll()
	s.sweep(t, c)
	s.sweep(t, c)
	require.Empty(t, c.recent.skus)
	require.EqualValues(t, 2, answer(t, r, "LAMP").Version)
}

// The store is asked, an event comes that nobody reads, the tail begins after it.
func TestATailThatBeginsAgainWhileTheStoreIsAsked(t *testing.T) {
	s, _, c := stocked(t, 1)
	since := c.asking()
	before, err := s.Availability(t.Context(), []string{"CHAIR"})
	require.NoError(t, err)
	s.publish(0, "CHAIR", "b1", 39)
	c.Began(s.ends())
	s.projectAll()
	require.NoError(t, c.sweep(t.Context(), s.offsets))
	c.answered(since, []string{"CHAIR"}, before)
	c.Current(time.Now())
	_, kept := c.get("CHAIR")
	require.False(t, kept)
}

func TestAHoleDropsTheEntry(t *testing.T) {
	s, r, c := stocked(t, 2)
	answer(t, r, "CHAIR")
	s.publish(0, "CHAIR", "b1", 39)
	s.publish(1, "CHAIR", "b2", 9)
	s.deliver(c, 1) // v3
	_, kept := c.get("CHAIR")
	require.False(t, kept)
	since := c.asking()
	require.True(t, c.answered(since, []string{"CHAIR"}, map[string]readmodel.Availability{"CHAIR": s.history["CHAIR"][0]})["CHAIR"].behind)
	s.deliver(c, 0) // v2
	require.Equal(t, s.newest("CHAIR"), answer(t, r, "CHAIR"))
	// One partition being projected does not mean that the other is.
	s.projected[1] = 1
	s.sweep(t, c)
	require.Len(t, c.recent.skus, 1)
}

func TestAnUnreadableEventEmptiesTheCache(t *testing.T) {
	s, r, c := stocked(t, 1)
	answer(t, r, "CHAIR")
	c.Unreadable(0, 1)
	for range 2 {
		_, kept := c.get("CHAIR")
		require.False(t, kept)
		require.EqualValues(t, 1, answer(t, r, "CHAIR").Version)
	}
	s.publish(0, "CHAIR", "b1", 39) // which it was
	s.projectAll()
	s.sweep(t, c)
	answer(t, r, "CHAIR")
	e, kept := c.get("CHAIR")
	require.True(t, kept)
	require.EqualValues(t, 2, e.Version)
}
