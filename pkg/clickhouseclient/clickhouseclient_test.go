package clickhouseclient_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/alecthomas/kong"
	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/stretchr/testify/require"
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
		"no database": {func(c *clickhouseclient.Config) { c.Database = "" }, "--clickhouse-database"},
		"no user":     {func(c *clickhouseclient.Config) { c.User = "" }, "--clickhouse-user"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good()
			c.change(&bad)
			require.ErrorContains(t, bad.Validate(), c.want)
		})
	}

	all := clickhouseclient.Config{Addrs: []string{"x", "y"}}.Validate()
	for _, fault := range []string{`"x"`, `"y"`, "database", "user"} {
		require.ErrorContains(t, all, fault)
	}
}

func TestFlagsAndEnvironment(t *testing.T) {
	t.Setenv("LOTLINE_CLICKHOUSE_USER", "reader")
	t.Setenv("LOTLINE_CLICKHOUSE_PASSWORD_FILE", "/run/secret")
	var flags struct {
		ClickHouse clickhouseclient.Config `embed:"" prefix:"clickhouse-"`
	}
	parser, err := kong.New(&flags, kong.DefaultEnvars("LOTLINE"))
	require.NoError(t, err)
	_, err = parser.Parse([]string{"--clickhouse-addrs=a:1,b:2"})
	require.NoError(t, err)
	require.Equal(t, clickhouseclient.Config{
		Addrs: []string{"a:1", "b:2"}, Database: "lotline", User: "reader", PasswordFile: "/run/secret",
	}, flags.ClickHouse)
}

func TestOptions(t *testing.T) {
	cfg := good()
	opts, err := cfg.Options()
	require.NoError(t, err)
	require.Equal(t, &clickhouse.Options{Addr: cfg.Addrs, Auth: clickhouse.Auth{Database: "lotline", Username: "reader"}}, opts)

	cfg.PasswordFile = filepath.Join(t.TempDir(), "password")
	_, err = cfg.Options()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "--clickhouse-password-file")

	require.NoError(t, os.WriteFile(cfg.PasswordFile, []byte(" pass word \r\n"), 0o600))
	opts, err = cfg.Options()
	require.NoError(t, err)
	require.Equal(t, " pass word ", opts.Auth.Password, "spaces may belong to it")
}
