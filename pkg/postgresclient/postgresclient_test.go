package postgresclient_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/stretchr/testify/require"
)

func TestURL(t *testing.T) {
	got, err := postgresclient.URL("postgres://db/lotline", "")
	require.NoError(t, err)
	require.Equal(t, "postgres://db/lotline", got)
	_, err = postgresclient.URL("", "")
	require.ErrorIs(t, err, postgresclient.ErrNoURL)

	file := filepath.Join(t.TempDir(), "url")
	_, err = postgresclient.URL("postgres://db/lotline", file)
	require.ErrorIs(t, err, fs.ErrNotExist, "the other flag must not hide that the file is missing")
	require.ErrorContains(t, err, "--postgres-url-file")

	require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600))
	_, err = postgresclient.URL("postgres://db/lotline", file)
	require.ErrorIs(t, err, postgresclient.ErrNoURL)
	require.ErrorContains(t, err, file)

	require.NoError(t, os.WriteFile(file, []byte("postgres://u:secret@db/lotline\r\n"), 0o600))
	got, err = postgresclient.URL("postgres://elsewhere/lotline", file)
	require.NoError(t, err)
	require.Equal(t, "postgres://u:secret@db/lotline", got)
}

func TestRedacted(t *testing.T) {
	for given, want := range map[string]string{
		"postgres://db:5432/lotline?sslmode=require":          "postgres://db:5432/lotline?sslmode=require",
		"postgres://u:secret@db/lotline":                      "postgres://u:xxxxx@db/lotline",
		"postgres://u@db/lotline?password=secret&pool=2":      "postgres://u@db/lotline?password=xxxxx&pool=2",
		"postgres://db/lotline?sslpassword=secret":            "postgres://db/lotline?sslpassword=xxxxx",
		"host=db user=u password=secret":                      "(not a URL)",
		"postgres://u:secret@db:port/lotline":                 "(not a URL)",
		"postgres://u:sec%zzret@db/lotline":                   "(not a URL)",
		"/run/postgresql?password=secret":                     "(not a URL)",
		"postgresql:///lotline?host=/run/postgresql&user=abc": "postgresql:///lotline?host=/run/postgresql&user=abc",
	} {
		require.Equal(t, want, postgresclient.Redacted(given))
	}
}
