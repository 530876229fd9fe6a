package allocation

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func (n *named[V]) len() int { return len(n.few) + len(n.many) }

// TestNamedAreAMap: whatever comes and goes, and however many there are, a batch is found by its ref like in a map.
func TestNamedAreAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r named[*batch]
		want := map[string]*batch{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			ref := fmt.Sprint("b", rapid.IntRange(0, 2*namedFew).Draw(t, "ref"))
			require.Equal(t, want[ref], r.get(ref))
			switch b := want[ref]; {
			case b == nil:
				b = &batch{Batch: Batch{Ref: ref}}
				r.put(b)
				want[ref] = b
			case rapid.Bool().Draw(t, "remove"):
				r.remove(b)
				delete(want, ref)
			default:
				b = &batch{Batch: Batch{Ref: ref}}
				r.put(b)
				want[ref] = b
			}
			require.Equal(t, len(want), r.len())
		}
		for ref, b := range want {
			require.Same(t, b, r.get(ref))
		}
		for b := range r.all() {
			require.Same(t, want[b.Ref], b)
			delete(want, b.Ref)
		}
		require.Empty(t, want)
	})
}
