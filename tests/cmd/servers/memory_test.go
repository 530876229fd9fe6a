package main

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClickHousesFilesAreInMemoryWhereThereIsRoom(t *testing.T) {
	const none, enough, less = math.MaxUint64, memoryMin, memoryMin - 1
	require.True(t, roomy(enough, none, "tmpfs", enough))
	require.True(t, roomy(enough, enough, "tmpfs", enough))
	require.False(t, roomy(less, none, "tmpfs", enough), "the machine has no room")
	require.False(t, roomy(enough, less, "tmpfs", enough), "the container has none")
	require.False(t, roomy(enough, none, "tmpfs", less), "the file system has none")
	require.False(t, roomy(enough, none, "ext2/ext3", enough), "it is on a disk")
}

func TestWhereMemoryIsClosedTheFilesAreElsewhere(t *testing.T) {
	parent := t.TempDir()
	require.Equal(t, parent, filepath.Dir(makeDir(parent, true, "elsewhere")))
	require.Equal(t, "elsewhere", makeDir(parent, false, "elsewhere"))
	require.Equal(t, "elsewhere", makeDir(filepath.Join(parent, "missing"), true, "elsewhere"))
}

func TestAContainersLimitIsTheLeastThatIsWritten(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "limit")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	missing := filepath.Join(t.TempDir(), "missing")
	require.Equal(t, uint64(math.MaxUint64), memoryLimit(write("max\n"), missing))
	require.EqualValues(t, 4<<30, memoryLimit(write("max\n"), write("4294967296\n")))
	require.EqualValues(t, 4<<30, memoryLimit(write("4294967296\n"), write("9223372036854771712\n")))
}

func TestWhatAKilledProcessLeftInMemoryIsRemoved(t *testing.T) {
	dead := exec.Command(os.Args[0], "-test.run=^$")
	require.NoError(t, dead.Run())
	parent := t.TempDir()
	left := filepath.Join(parent, prefix+strconv.Itoa(dead.Process.Pid)+"-1")
	kept := []string{
		filepath.Join(parent, prefix+"without-an-id"),
		filepath.Join(parent, prefix+strconv.Itoa(dead.Process.Pid)),
		filepath.Join(parent, "another-"+strconv.Itoa(dead.Process.Pid)+"-1"),
	}
	for _, dir := range append(kept, left) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "clickhouse"), 0o700))
	}
	own := makeDir(parent, true, "")
	sweep(parent)
	require.NoDirExists(t, left)
	for _, dir := range append(kept, own) {
		require.DirExists(t, dir)
	}
}
