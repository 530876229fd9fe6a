package crash

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatEndedByItselfWasNotKilled(t *testing.T) {
	for script, ended := range map[string]string{"exit 3": "exit status 3", "exit 0": "exit status 0", "exec sleep 60": ""} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		p := &pipeline{dir: "/logs", procs: map[string]*exec.Cmd{"allocator a": cmd}}
		if ended == "" {
			require.NoError(t, p.killAll())
		} else {
			_, err = io.ReadAll(out) // until it has ended
			require.NoError(t, err)
			require.EqualError(t, p.killAll(), "allocator a was not running any more ("+ended+"), see /logs")
		}
		require.Empty(t, p.procs)
	}
}

func TestLogsStayIfThereAreAny(t *testing.T) {
	p := &pipeline{dir: t.TempDir(), out: t.Output()}
	silent, log := filepath.Join(p.dir, "allocator-a.log"), filepath.Join(p.dir, "projector-a.log")
	require.NoError(t, os.WriteFile(silent, nil, 0o600))
	require.NoError(t, os.WriteFile(log, []byte("why"), 0o600))
	p.removeEmptyLogs()
	require.FileExists(t, log)
	require.NoError(t, os.Truncate(log, 0))
	p.removeEmptyLogs()
	require.NoDirExists(t, p.dir)
}
