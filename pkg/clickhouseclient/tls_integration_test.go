//go:build integration

package clickhouseclient_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/credentials"
)

// The test server has no TLS of its own, so a forwarder takes it off before it.
func TestTLS(t *testing.T) {
	server := os.Getenv("LOTLINE_TEST_CLICKHOUSE")
	require.NotEmpty(t, server, "set LOTLINE_TEST_CLICKHOUSE to the address of a running server, or run the tests with make test")
	site := httptest.NewTLSServer(nil) // for its certificate, which is for example.com and 127.0.0.1
	defer site.Close()
	addr := forward(t, site.TLS, server)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	writeAuthority := func() {
		require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600))
	}
	writeAuthority()

	ask := func(c clickhouseclient.Config) error {
		c.Addrs, c.Database, c.User = []string{addr}, "default", "default"
		require.NoError(t, c.Validate())
		opts, err := c.Options()
		require.NoError(t, err)
		opts.DialTimeout = 5 * time.Second
		conn, err := clickhouse.Open(opts)
		require.NoError(t, err)
		defer conn.Close()
		return conn.Ping(t.Context())
	}
	require.NoError(t, ask(clickhouseclient.Config{TLS: credentials.TLS{TLSCAFile: authority}}))
	require.NoError(t, ask(clickhouseclient.Config{TLS: credentials.TLS{TLSCAFile: authority, TLSServerName: "example.com"}}))
	require.ErrorContains(t, ask(clickhouseclient.Config{TLS: credentials.TLS{TLSCAFile: authority, TLSServerName: "other.example"}}), "other.example")
	require.ErrorContains(t, ask(clickhouseclient.Config{TLS: credentials.TLS{TLS: true}}), "unknown authority")
	require.Error(t, ask(clickhouseclient.Config{}), "plain text to a server that wants TLS")

	// An authority that is replaced while the process runs counts for the next connection.
	opts, err := clickhouseclient.Config{Addrs: []string{addr}, Database: "default", User: "default", TLS: credentials.TLS{TLSCAFile: authority}}.Options()
	require.NoError(t, err)
	conn, err := clickhouse.Open(opts)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, os.Truncate(authority, 0))
	require.ErrorContains(t, conn.Ping(t.Context()), "--clickhouse-tls-ca-file")
	writeAuthority()
	require.NoError(t, conn.Ping(t.Context()))
}

// forward passes what it gets over TLS on to a server in plain text, and returns its address.
func forward(t *testing.T, config *tls.Config, server string) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: config.Certificates})
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return
			}
			inside, err := net.Dial("tcp", server)
			if err != nil {
				outside.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{inside, outside}, {outside, inside}} {
				go func() {
					_, _ = io.Copy(way[0], way[1]) // ends with either side
					inside.Close()
					outside.Close()
				}()
			}
		}
	}()
	return listener.Addr().String()
}
