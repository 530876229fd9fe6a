package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/services/cli"
)

func TestKeysNew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	code, shop, stderr := run(t, "", "keys", "new", "shop", "--scope=read,write", "--file="+file)
	require.Zero(t, code)
	require.Empty(t, stderr)
	code, boss, _ := run(t, "", "keys", "new", "boss", "--scope=admin", "--file="+file)
	require.Zero(t, code)
	set, err := apikeys.Load(file)
	require.NoError(t, err)
	key, ok := set.Find(strings.TrimSuffix(shop, "\n"))
	require.True(t, ok)
	require.Equal(t, "shop", key.Name)
	require.Equal(t, []apikeys.Scope{apikeys.Read, apikeys.Write}, key.Scopes)
	key, ok = set.Find(strings.TrimSuffix(boss, "\n"))
	require.True(t, ok)
	require.True(t, key.May(apikeys.Write))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotContains(t, string(content), strings.TrimSpace(shop))

	for args, fault := range map[string]string{
		"keys new shop --scope=read --file=" + file: "the name or the key is that of a line before",
		"keys new a/b --scope=read":                 "the name is not",
		"keys new x --scope=lookup":                 "the scopes are not",
		"keys new x":                                "--scope",
	} {
		code, stdout, stderr := run(t, "", strings.Fields(args)...)
		require.NotZero(t, code, args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, fault)
	}
	var errOut bytes.Buffer
	require.Equal(t, 1, cli.Main(t.Context(), []string{"keys", "new", "other", "--scope=read", "--file=" + file}, nil, full{}, &errOut))
	require.Contains(t, errOut.String(), "no key was made, since its text could not be printed: no space left")
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, content, again, "no key is there that nobody knows")

	code, stdout, stderr := run(t, "", "keys", "new", "x", "--scope=read")
	require.Zero(t, code)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	set, err = apikeys.Parse(lines[len(lines)-1])
	require.NoError(t, err)
	_, ok = set.Find(strings.TrimSpace(stdout))
	require.True(t, ok)
}
