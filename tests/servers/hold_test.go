package servers

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServersShareNoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	refusal := "other servers run in " + dir + ": stop them, or name another directory with --data"
	release, err := Hold(dir, refusal)
	require.NoError(t, err)
	_, err = Hold(dir, refusal)
	require.EqualError(t, err, "other servers run in "+dir+": stop them, or name another directory with --data")
	require.NoError(t, release())
	release, err = Hold(dir, refusal)
	require.NoError(t, err)
	require.NoError(t, release())
}
