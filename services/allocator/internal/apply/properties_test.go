package apply

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
)

// TestBadLuckDoesNotMatter: any division into polls, commits that are refused, commits whose outcome is not known,
// lost caches and tiny limits give the events and rows of one big poll in which nothing goes wrong.
func TestBadLuckDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInputs(t)
		end := in[len(in)-1].Offset + 1
		cutLinesMax := rapid.IntRange(1, 5).Draw(t, "cutLinesMax")
		limits := func(l *Limits) { l.CutLinesMax, l.CommandIDRetention = cutLinesMax, 10*time.Minute }

		calm := newFakeStore()
		_, err := newApplier(t, calm, limits).Apply(t.Context(), "topic", 0, 0, end, in)
		require.NoError(t, err)

		rough := newFakeStore()
		rough.fate = func() (lost, done bool) {
			lost = rapid.IntRange(0, 3).Draw(t, "lost") == 0
			return lost, !lost || rapid.Bool().Draw(t, "done")
		}
		a := newApplier(t, rough, limits, func(l *Limits) {
			l.ProductsCachedMax = rapid.IntRange(1, 3).Draw(t, "cached")
			l.SegmentBytesMax = rapid.SampledFrom([]int{1, 500, 5000}).Draw(t, "segment")
		})
		rough.beforeCommit = func(locked bool) {
			if !locked && rapid.IntRange(0, 3).Draw(t, "refused") == 0 {
				rough.refuseNext = true
			}
		}
		for applied, failures := int64(0), 0; applied < end; {
			next := min(end, applied+int64(rapid.IntRange(1, 60).Draw(t, "poll")))
			segments, err := a.Apply(t.Context(), "topic", 0, applied, next, between(in, applied, next))
			if err == nil {
				require.Equal(t, applied, segments[0].First)
				require.Equal(t, next, segments[len(segments)-1].Next)
			} else {
				require.ErrorIs(t, err, errLost)
				if failures++; failures > 50 {
					rough.fate = nil // luck turns
				}
			}
			applied, _ = rough.NextOffset(t.Context(), 0)
			if rapid.IntRange(0, 5).Draw(t, "forget") == 0 {
				a.Forget()
			}
		}
		require.Equal(t, calm.published(t, 0), rough.published(t, 0))
		require.Equal(t, calm.rows(), rough.rows())
	})
}

func between(in []Input, from, next int64) (part []Input) {
	for _, i := range in {
		if from <= i.Offset && i.Offset < next {
			part = append(part, i)
		}
	}
	return part
}

// anyInputs are commands among few names, some unreadable, with gaps in their offsets.
func anyInputs(t *rapid.T) (in []Input) {
	pick := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(t, label) }
	offset := int64(0)
	for i := range rapid.IntRange(20, 120).Draw(t, "commands") {
		offset += 1 + int64(pick("gap", 10)/9)
		when := start.Add(time.Duration(i) * 20 * time.Second)
		if pick("readable", 20) == 0 {
			in = append(in, Input{Offset: offset, Time: when, DeadLetter: fmt.Sprint("unreadable ", i)})
			continue
		}
		sku, ref, order := fmt.Sprint("S", pick("sku", 4)), fmt.Sprint("b", pick("ref", 3)), fmt.Sprint("o", pick("order", 25))
		var c allocation.Command
		switch pick("kind", 10) {
		case 0:
			c = create(sku, ref, int32(10+pick("qty", 2)))
		case 1:
			c = allocation.Command{Kind: allocation.Deallocate, SKU: sku, OrderID: order}
		case 2, 3:
			c = cut(sku, ref, int32(pick("qty", 14)-1))
		default:
			c = allocate(sku, order, int32(1+pick("qty", 3)))
		}
		if pick("id", 3) == 0 {
			c.ID = allocation.CommandID{Source: "shop", ID: fmt.Sprint("c", pick("which", 15))}
		}
		c.Time, c.Position = when, allocation.Position{Offset: offset}
		in = append(in, Input{Offset: offset, Time: when, Command: c})
	}
	return in
}
