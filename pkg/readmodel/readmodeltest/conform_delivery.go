package readmodeltest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
)

// The scenarios of delivery: however often, however late and from however many writers events come, the answers are the same.

// anyHistory is a long history, told in order.
func (s Store) anyHistory(t *testing.T) {
	h := New(17, 3000)
	tell(h.Records).require(t, s, s.told(t, h.Records).Reader)
}

// lateRows come after what they were overtaken by: in the same block, in a later one, and after a replay from zero. A
// line that was deallocated stays so.
func (s Store) lateRows(t *testing.T) {
	h := newStory()
	h.batch("CHAIR", "b1", 10, "")
	h.allocate("o1", "CHAIR", "b1", 3)
	h.deallocate("o1", "CHAIR")
	h.allocate("o2", "CHAIR", "b1", 3)
	h.deallocate("o2", "CHAIR")
	h.allocate("o2", "CHAIR", "b1", 4)
	want, late := tell(h.records), slices.Clone(h.records)
	slices.Reverse(late)
	for _, blockMax := range []int{1, 2, len(late)} {
		p := s.Open(t)
		w := p.Writer(t)
		require.NoError(t, tellTo(t.Context(), w, late, blockMax))
		want.require(t, s, p.Reader)
		require.NoError(t, tellTo(t.Context(), w, h.records, blockMax))
		want.require(t, s, p.Reader)
		require.NoError(t, w.Apply(t.Context(), h.records[:2])) // from before o1 was deallocated
		want.require(t, s, p.Reader)
	}
}

// anyOrder has two writers at once, who write every event one to four times, in blocks of any size and in any order.
func (s Store) anyOrder(t *testing.T) {
	for seed := range uint64(2) {
		h := New(seed, 2000)
		blocks := shuffled(h.Records, seed)
		p := s.Open(t)
		var g errgroup.Group
		for half := range 2 {
			w := p.Writer(t)
			g.Go(func() error {
				for i := half; i < len(blocks); i += 2 {
					if err := w.Apply(t.Context(), blocks[i]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		tell(h.Records).require(t, s, p.Reader)
	}
}

func shuffled(records []readmodel.Record, seed uint64) (blocks [][]readmodel.Record) {
	random := rand.New(rand.NewPCG(seed, 1))
	var log []readmodel.Record
	for _, r := range records {
		for range 1 + random.IntN(4) {
			log = append(log, r)
		}
	}
	random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
	for len(log) > 0 {
		n := min(len(log), 1+random.IntN(400))
		blocks = append(blocks, log[:n])
		log = log[n:]
	}
	return blocks
}

// zombie is a writer whose partitions another has taken over, and who goes on with what it had read: old events, while
// the other writes new ones and after it.
func (s Store) zombie(t *testing.T) {
	h := New(23, 2000)
	old := h.Records[:len(h.Records)*2/3]
	p := s.Open(t)
	zombie, owner := p.Writer(t), p.Writer(t)
	require.NoError(t, tellTo(t.Context(), zombie, old, 400))
	var g errgroup.Group
	g.Go(func() error { return tellTo(t.Context(), zombie, old[len(old)/2:], 90) })
	g.Go(func() error { return tellTo(t.Context(), owner, h.Records[len(old)/2:], 130) })
	require.NoError(t, g.Wait())
	want := tell(h.Records)
	want.require(t, s, p.Reader)
	require.NoError(t, tellTo(t.Context(), zombie, old, len(old)))
	want.require(t, s, p.Reader)
	require.NoError(t, tellTo(t.Context(), owner, h.Records, 1000)) // from zero
	want.require(t, s, p.Reader)
}

// publishedTwice: an event may have two offsets; what is answered must not depend on which copy came last.
func (s Store) publishedTwice(t *testing.T) {
	h := New(7, 300)
	again := slices.Clone(h.Records)
	for i := range again {
		again[i].Offset += 1000
	}
	for _, order := range [][][]readmodel.Record{{h.Records, again}, {again, h.Records}} {
		p := s.Open(t)
		w := p.Writer(t)
		for _, records := range order {
			require.NoError(t, w.Apply(t.Context(), records))
		}
		tell(h.Records).require(t, s, p.Reader)
	}
}

// neverBack: whoever asks again while events come, those of a zombie too, never sees an older version than before.
func (s Store) neverBack(t *testing.T) {
	h := newStory()
	h.batch("CHAIR", "b", 1_000_000, "")
	for i := range 300 {
		h.allocate(fmt.Sprintf("o%d", i), "CHAIR", "b", 1)
	}
	p := s.Open(t)
	w := p.Writer(t)
	require.NoError(t, w.Apply(t.Context(), h.records[:2]))
	var g errgroup.Group
	var done atomic.Bool
	g.Go(func() error {
		defer done.Store(true)
		return tellTo(t.Context(), w, h.records[2:], 10)
	})
	if !s.InOrder {
		zombie := p.Writer(t)
		g.Go(func() error {
			for !done.Load() {
				if err := zombie.Apply(t.Context(), h.records[:50]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for last := uint64(2); ; {
			ended := done.Load()
			found, err := p.Reader.Availability(t.Context(), []string{"CHAIR"})
			if err != nil {
				return err
			}
			if found["CHAIR"].Version < last {
				return fmt.Errorf("version %d after version %d", found["CHAIR"].Version, last)
			}
			if last = found["CHAIR"].Version; ended {
				if last != uint64(len(h.records)) {
					return fmt.Errorf("version %d at the end, of %d", last, len(h.records))
				}
				return nil
			}
		}
	})
	require.NoError(t, g.Wait())
}
