package clickhouseclient_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/credentials"
)

func good() clickhouseclient.Config {
	return clickhouseclient.Config{Addrs: []string{"127.0.0.1:9000", "[::1]:9000", "ch-1.example:9000"}, Database: "lotline", User: "reader"}
}

func TestValidate(t *testing.T) {
	require.NoError(t, good().Validate())

	for name, c := range map[string]struct {
		change func(*clickhouseclient.Config)
		want   string
	}{
		"no server":   {func(c *clickhouseclient.Config) { c.Addrs = nil }, "no ClickHouse server is given"},
		"no port":     {func(c *clickhouseclient.Config) { c.Addrs = []string{"ch"} }, `"ch" is not an address of the form host:port`},
		"no host":     {func(c *clickhouseclient.Config) { c.Addrs = []string{":9000"} }, `":9000" is not an address`},
		"a space":     {func(c *clickhouseclient.Config) { c.Addrs = []string{"a:9000", " ch-2:9000"} }, `" ch-2:9000" has a space in it: leave out`},
		"no database": {func(c *clickhouseclient.Config) { c.Database = "" }, "--clickhouse-database"},
		"no user":     {func(c *clickhouseclient.Config) { c.User = "" }, "--clickhouse-user"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good()
			c.change(&bad)
			require.ErrorContains(t, bad.Validate(), c.want)
		})
	}

	all := clickhouseclient.Config{Addrs: []string{"x", "y"}, PasswordFile: "none", TLS: credentials.TLS{TLSCAFile: "none"}}.Validate()
	for _, fault := range []string{`"x"`, `"y"`, "database", "user", "--clickhouse-password-file", "--clickhouse-tls-ca-file"} {
		require.ErrorContains(t, all, fault)
	}
}

func TestFlagsAndEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("secret"), 0o600))
	t.Setenv("LOTLINE_CLICKHOUSE_USER", "reader")
	t.Setenv("LOTLINE_CLICKHOUSE_PASSWORD_FILE", file)
	t.Setenv("LOTLINE_CLICKHOUSE_TLS", "true")
	var flags struct {
		ClickHouse clickhouseclient.Config `embed:"" prefix:"clickhouse-"`
	}
	parser, err := kong.New(&flags, kong.DefaultEnvars("LOTLINE"))
	require.NoError(t, err)
	_, err = parser.Parse([]string{"--clickhouse-addrs=a:1,b:2", "--clickhouse-tls-server-name=ch"})
	require.NoError(t, err)
	require.Equal(t, clickhouseclient.Config{
		Addrs: []string{"a:1", "b:2"}, Database: "lotline", User: "reader", PasswordFile: file,
		TLS: credentials.TLS{TLS: true, TLSServerName: "ch"},
	}, flags.ClickHouse)
}

func TestOptions(t *testing.T) {
	cfg := good()
	opts, err := cfg.Options()
	require.NoError(t, err)
	opts.DialStrategy = nil // functions cannot be compared; what it does is tested on a server, in tests/roles
	require.Equal(t, &clickhouse.Options{Addr: cfg.Addrs, Auth: clickhouse.Auth{Database: "lotline", Username: "reader"}}, opts)

	t.Setenv(clickhouseclient.PasswordVariable, "from the environment")
	opts, err = cfg.Options()
	require.NoError(t, err)
	require.Equal(t, "from the environment", opts.Auth.Password)

	cfg.PasswordFile = filepath.Join(t.TempDir(), "password")
	_, err = cfg.Options()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "--clickhouse-password-file")

	require.NoError(t, os.WriteFile(cfg.PasswordFile, []byte(" pass word \r\n"), 0o600))
	opts, err = cfg.Options()
	require.NoError(t, err)
	require.Equal(t, " pass word ", opts.Auth.Password, "the file wins, and spaces may belong to it")
}
