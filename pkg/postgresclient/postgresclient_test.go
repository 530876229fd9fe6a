package postgresclient_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, content string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

func TestConnURL(t *testing.T) {
	type config = postgresclient.Settings
	for name, c := range map[string]struct {
		config config
		want   string
	}{
		"as given":            {config{PostgresURL: "postgres://db/lotline"}, "postgres://db/lotline?connect_timeout=10"},
		"the file wins":       {config{PostgresURL: "postgres://elsewhere/x", PostgresURLFile: write(t, "postgres://u:secret@db/lotline\r\n")}, "postgres://u:secret@db/lotline?connect_timeout=10"},
		"with a password":     {config{PostgresURL: "postgres://u@db/lotline?sslmode=disable", PostgresPasswordFile: write(t, "se/cr@t\n")}, "postgres://u:se%2Fcr%40t@db/lotline?connect_timeout=10&sslmode=disable"},
		"without a user":      {config{PostgresURL: "postgres://db/lotline?user=u", PostgresPasswordFile: write(t, "se&cret")}, "postgres://db/lotline?connect_timeout=10&password=se%26cret&user=u"},
		"keywords, no secret": {config{PostgresURL: "host=db user=u"}, "connect_timeout=10 host=db user=u"},
		"no host, no path":    {config{PostgresURL: "postgres://?host=/tmp&user=u"}, "postgres://?connect_timeout=10&host=/tmp&user=u"},
		"of PG*":              {config{PostgresURL: "postgres://"}, "postgres://?connect_timeout=10"},
		"several hosts":       {config{PostgresURL: "postgresql://u@a:1,b:2/x?target_session_attrs=read-write"}, "postgresql://u@a:1,b:2/x?connect_timeout=10&target_session_attrs=read-write"},
		"a fragment":          {config{PostgresURL: "postgres://u@db/lotline#x"}, "postgres://u@db/lotline#x"},
		"a keyword is empty":  {config{PostgresURL: "host=db user=u password="}, "connect_timeout=10 host=db user=u password="},
		"its own timeout":     {config{PostgresURL: "postgres://db/lotline?connect_timeout=3"}, "postgres://db/lotline?connect_timeout=3"},
		"for ever, if asked":  {config{PostgresURL: "postgres://db/lotline?connect_timeout=0"}, "postgres://db/lotline?connect_timeout=0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.config.ConnURL()
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			plain, err := pgconn.ParseConfig(c.config.PostgresURL)
			require.NoError(t, err)
			parsed, err := pgconn.ParseConfig(got)
			require.NoError(t, err)
			if c.config.PostgresURLFile == "" {
				require.Equal(t, plain.Host, parsed.Host)
				require.Equal(t, plain.Port, parsed.Port)
				require.Equal(t, plain.Database, parsed.Database)
				require.Equal(t, plain.RuntimeParams, parsed.RuntimeParams)
			}
			require.NoError(t, c.config.Validate())
		})
	}
	t.Setenv(postgresclient.PasswordVariable, "secret")
	got, err := config{PostgresURL: "postgres://u@db/lotline"}.ConnURL()
	require.NoError(t, err)
	require.Equal(t, "postgres://u:secret@db/lotline?connect_timeout=10", got)
}

// A host that takes connections and says nothing would be waited for without end.
func TestConnURLBoundsConnecting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // which accepts by itself
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	host, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	for _, given := range []string{"postgres://u@" + listener.Addr().String() + "/lotline", "host=" + host + " port=" + port + " user=u"} {
		connURL, err := postgresclient.Settings{PostgresURL: given}.ConnURL()
		require.NoError(t, err)
		parsed, err := pgconn.ParseConfig(connURL)
		require.NoError(t, err)
		require.Equal(t, 10*time.Second, parsed.ConnectTimeout)
		parsed.ConnectTimeout /= 100
		_, err = pgconn.ConnectConfig(t.Context(), parsed)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	for _, seconds := range []string{"7", "0"} {
		t.Setenv("PGCONNECT_TIMEOUT", seconds)
		connURL, err := postgresclient.Settings{PostgresURL: "postgres://db/lotline"}.ConnURL()
		require.NoError(t, err)
		require.Equal(t, "postgres://db/lotline", connURL)
	}
}

func TestValidate(t *testing.T) {
	type config = postgresclient.Settings
	missing := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		config config
		says   []string
	}{
		"nothing":                  {config{}, []string{"set --postgres-url or --postgres-url-file"}},
		"empty file":               {config{PostgresURLFile: write(t, "\n")}, []string{"set --postgres-url", "is empty"}},
		"files that are not there": {config{PostgresURL: "postgres://db/x", PostgresURLFile: missing, PostgresPasswordFile: missing}, []string{"--postgres-url-file", "--postgres-password-file"}},
		"two passwords":            {config{PostgresURL: "postgres://u:secret@db/x", PostgresPasswordFile: write(t, "hunter2")}, []string{"given twice"}},
		"keywords and a file":      {config{PostgresURL: "host=db password=secret", PostgresPasswordFile: write(t, "hunter2")}, []string{"as a URL"}},
		"port of letters":          {config{PostgresURL: "postgres://u:secret@db:port/x"}, []string{"it is not of the form postgres://"}},
		"unescaped":                {config{PostgresURL: "postgres://u:1/secret@db/x"}, []string{"%40"}},
		"no such mode":             {config{PostgresURL: "postgres://u:secret@db/x?sslmode=sometimes"}, []string{"no such value", "sslmode=sometimes"}},
		"no such authority":        {config{PostgresURL: "postgres://u:secret@db/x?sslmode=verify-full&sslrootcert=" + missing}, []string{missing}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.config.Validate()
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
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
		"postgres://u:1/secret@db/lotline":                    "(not a URL)",
		"postgres://u:1?secret@db/lotline":                    "(not a URL)",
		"postgres://u:1#secret@db/lotline":                    "(not a URL)",
		"postgresql:///lotline?host=/run/postgresql&user=abc": "postgresql:///lotline?host=/run/postgresql&user=abc",
	} {
		require.Equal(t, want, postgresclient.Redacted(given))
	}
}
