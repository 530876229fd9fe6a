package allocation

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func (r *refs) len() int { return len(r.few) + len(r.many) }

// TestRefsAreAMap: whatever comes and goes, and however many there are, a batch is found by its ref like in a map.
func TestRefsAreAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r refs
		want := map[string]*batch{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			ref := fmt.Sprint("b", rapid.IntRange(0, 2*refsFew).Draw(t, "ref"))
			require.Equal(t, want[ref], r.get(ref))
			switch b := want[ref]; {
			case b == nil:
				b = &batch{Batch: Batch{Ref: ref}}
				r.add(b)
				want[ref] = b
			case rapid.Bool().Draw(t, "remove"):
				r.remove(b)
				delete(want, ref)
			}
			require.Equal(t, len(want), r.len())
		}
		for ref, b := range want {
			require.Same(t, b, r.get(ref))
		}
	})
}
