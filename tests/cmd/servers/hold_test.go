package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServersShareNoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	release, err := hold(dir)
	require.NoError(t, err)
	_, err = hold(dir)
	require.EqualError(t, err, "other servers run in "+dir+": stop them, or name another directory with --data")
	require.NoError(t, release())
	release, err = hold(dir)
	require.NoError(t, err)
	require.NoError(t, release())
}
