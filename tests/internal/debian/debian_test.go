package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// libpulse needs a library of its package's own, by its absolute path: /usr/lib/x86_64-linux-gnu/pulseaudio.
func TestLibrariesOfAPackagesOwn(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"pulseaudio/libpulsecommon-16.1.so", "pulseaudio/libother.so.1", "libpulse.so.0", "perl/5.36.0/auto/B/B.so"} {
		path := filepath.Join(dir, "root/usr/lib/x86_64-linux-gnu", file)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o644))
	}
	found, err := Libraries(dir)
	require.NoError(t, err)
	system := filepath.Join(dir, "root/usr/lib/x86_64-linux-gnu")
	require.Equal(t, strings.Join([]string{system, filepath.Join(system, "pulseaudio")}, ":"), found)
}
