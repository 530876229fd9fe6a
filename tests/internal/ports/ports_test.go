package ports

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Nobody listens on any of them meanwhile, as while servers start side by side. A thousand of 20,000 at random have some twice.
func TestNoPortIsGivenTwice(t *testing.T) {
	seen := make(map[int]bool)
	for range 1000 {
		port, err := Free()
		require.NoError(t, err)
		require.False(t, seen[port], port)
		seen[port] = true
	}
}
