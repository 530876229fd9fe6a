package allocation

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestTree: whatever comes and goes, the tree finds what a scan in the order of
// preference finds, and stays as low as an AVL tree must.
func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var root *batch
		var all []*batch // in the order of preference
		for version := range uint64(rapid.IntRange(1, 300).Draw(t, "steps")) {
			switch anyOf(t, "step", "insert", "insert", "remove", "refresh") {
			case "insert":
				b := &batch{Batch: Batch{
					ETA:            fmt.Sprintf("2031-01-%02d", rapid.IntRange(1, 28).Draw(t, "day")),
					CreatedVersion: version, Available: rapid.Int32Range(0, 9).Draw(t, "available"),
				}}
				at := 0
				for at < len(all) && prefer(all[at], b) < 0 {
					at++
				}
				all = append(all[:at], append([]*batch{b}, all[at:]...)...)
				root = root.insert(b)
			case "remove":
				if len(all) > 0 {
					at := rapid.IntRange(0, len(all)-1).Draw(t, "at")
					root = root.remove(all[at])
					all = append(all[:at], all[at+1:]...)
				}
			case "refresh":
				if len(all) > 0 {
					b := all[rapid.IntRange(0, len(all)-1).Draw(t, "at")]
					b.Available = rapid.Int32Range(0, 9).Draw(t, "available")
					root.refresh(b)
				}
			}
			qty := rapid.Int32Range(1, 10).Draw(t, "qty")
			var want *batch
			for _, b := range all {
				if b.Available >= qty {
					want = b
					break
				}
			}
			require.Same(t, want, root.first(qty))
			require.LessOrEqual(t, float64(root.tall()), 1.44*math.Log2(float64(len(all)+2)))
		}
	})
}
