package schemas

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files that do not exist yet")

const goldenDir = "testdata/golden"

// Golden files are called <ce_type>/<sample>.json or .binpb and hold a record's value, with no newline at the end.
// Once published they never change: -update adds files and rewrites none.

func TestEncodeGolden(t *testing.T) {
	for encoding, extension := range goldenExtensions {
		for name, c := range commandSamples {
			t.Run(name+extension, func(t *testing.T) {
				data := encoding.AppendCommand(nil, &c)
				require.Equal(t, golden(t, name+extension, data), string(data))
				got, err := DecodeCommand(c.Type.CEType(), encoding.ContentType(), data)
				require.NoError(t, err)
				require.Equal(t, c, got)
			})
		}
		for name, e := range eventSamples {
			t.Run(name+extension, func(t *testing.T) {
				data := encoding.AppendEvent(nil, &e)
				require.Equal(t, golden(t, name+extension, data), string(data))
				got, err := DecodeEvent(e.Type.CEType(), encoding.ContentType(), data)
				require.NoError(t, err)
				require.Equal(t, e, got)
			})
		}
	}
}

var goldenExtensions = map[Encoding]string{JSON: ".json", Protobuf: ".binpb"}

// golden reads a golden file, after writing it with fresh if it is new and -update is given.
func golden(t *testing.T, name string, fresh []byte) string {
	file := filepath.Join(goldenDir, name)
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
	for encoding, extension := range goldenExtensions {
		seen := map[string]bool{}
		files, err := filepath.Glob(goldenDir + "/*/*" + extension)
		require.NoError(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			ceType := filepath.Base(filepath.Dir(file))
			seen[ceType] = true
			if strings.HasPrefix(ceType, "lotline.command.") {
				c, err := DecodeCommand(ceType, encoding.ContentType(), data)
				require.NoError(t, err, file)
				require.Equal(t, string(data), string(encoding.AppendCommand(nil, &c)), file)
				continue
			}
			e, err := DecodeEvent(ceType, encoding.ContentType(), data)
			require.NoError(t, err, file)
			require.Equal(t, string(data), string(encoding.AppendEvent(nil, &e)), file)
		}
		for _, m := range allMessages() {
			require.True(t, seen[m.ceType], "%s has no golden file %s", m.ceType, extension)
		}
	}
}

func allMessages() []message {
	all := append([]message{}, commandMessages[1:]...)
	return append(all, eventMessages[1:]...)
}
