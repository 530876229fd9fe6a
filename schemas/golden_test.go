package schemas

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files that do not exist yet")

const goldenDir = "testdata/golden"

// Golden files are called <ce_type>/<sample>.json and hold a record's value, with no newline at the end.
// Once published they never change: -update adds files and rewrites none.

func TestEncodeGolden(t *testing.T) {
	for name, c := range commandSamples {
		t.Run(name, func(t *testing.T) {
			data := AppendCommand(nil, &c)
			require.Equal(t, golden(t, name, data), string(data))
			got, err := DecodeCommand(c.Type.CEType(), ContentTypeJSON, data)
			require.NoError(t, err)
			require.Equal(t, c, got)
		})
	}
	for name, e := range eventSamples {
		t.Run(name, func(t *testing.T) {
			data := AppendEvent(nil, &e)
			require.Equal(t, golden(t, name, data), string(data))
			got, err := DecodeEvent(e.Type.CEType(), ContentTypeJSON, data)
			require.NoError(t, err)
			require.Equal(t, e, got)
		})
	}
}

// golden reads a golden file, after writing it with fresh if it is new and -update is given.
func golden(t *testing.T, name string, fresh []byte) string {
	file := filepath.Join(goldenDir, name+".json")
	if _, err := os.Stat(file); *update && os.IsNotExist(err) {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, fresh, 0o644))
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err, "a new sample needs: go test . -update")
	return string(data)
}

// TestEveryGoldenStaysReadable goes by the files, not by the samples: what was ever published must be
// read, and come out the same, whatever becomes of the code.
func TestEveryGoldenStaysReadable(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(goldenDir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		ceType := filepath.Base(filepath.Dir(file))
		seen[ceType] = true
		if strings.HasPrefix(ceType, "lotline.command.") {
			c, err := DecodeCommand(ceType, ContentTypeJSON, data)
			require.NoError(t, err, file)
			require.Equal(t, string(data), string(AppendCommand(nil, &c)), file)
			return nil
		}
		e, err := DecodeEvent(ceType, ContentTypeJSON, data)
		require.NoError(t, err, file)
		require.Equal(t, string(data), string(AppendEvent(nil, &e)), file)
		return nil
	})
	require.NoError(t, err)
	for _, m := range allMessages() {
		require.True(t, seen[m.ceType], "%s has no golden file", m.ceType)
	}
}

func allMessages() []message {
	all := append([]message{}, commandMessages[1:]...)
	return append(all, eventMessages[1:]...)
}
