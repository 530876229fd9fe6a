package trial

import (
	"io"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatEndedByItselfWasNotKilled(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3": "sh was not running any more (exit status 3): why", "exit 0": "sh was not running any more (exit status 0): why", "exec sleep 60": "",
	} {
		p := &Process{cmd: exec.CommandContext(t.Context(), "sh", "-c", script)}
		p.log.WriteString("why")
		out, err := p.cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, p.cmd.Start())
		if want == "" {
			require.NoError(t, p.Kill())
			continue
		}
		_, err = io.ReadAll(out) // until it has ended
		require.NoError(t, err)
		require.EqualError(t, p.Kill(), want)
	}
}
