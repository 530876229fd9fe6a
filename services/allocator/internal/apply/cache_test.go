package apply

import (
	"fmt"
	"testing"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
)

// TestTheCacheIsAnLRU: whatever is done to it, it has what the library's has.
func TestTheCacheIsAnLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 5).Draw(t, "most")
		c := newCache(most)
		want, err := simplelru.NewLRU[string, *held](most, nil)
		require.NoError(t, err)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			sku := fmt.Sprint("S", rapid.IntRange(0, 7).Draw(t, "sku"))
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0:
				c.Remove(sku)
				want.Remove(sku)
			case 1:
				c.Purge()
				want.Purge()
			case 2, 3:
				was, _ := want.Get(sku)
				require.Same(t, was, c.Get(sku))
			case 4: // what is there, again
				if was, _ := want.Peek(sku); was != nil {
					c.Add(was)
					want.Add(sku, was)
				}
			default:
				p := &held{Product: *allocation.NewProduct(sku, 1, nil, nil)}
				c.Add(p)
				want.Add(sku, p)
			}
			require.Equal(t, want.Len(), c.Len())
			for i := range 8 {
				sku := fmt.Sprint("S", i)
				require.Equal(t, want.Contains(sku), c.Contains(sku))
			}
		}
	})
}
