package credentials_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/credentials"
)

const secret = "hunter2"

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

func TestPassword(t *testing.T) {
	got, err := credentials.Password("x-password-file", file(t, " pass word \r\n"))
	require.NoError(t, err)
	require.Equal(t, " pass word ", got, "spaces may belong to it")

	_, err = credentials.Password("x-password-file", filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "--x-password-file")
	_, err = credentials.Password("x-password-file", file(t, "\n"))
	require.ErrorContains(t, err, "is empty")
	_, err = credentials.Password("x-password-file", file(t, secret+string(make([]byte, 1<<20))))
	require.ErrorContains(t, err, "is it the right one?")
	require.NotContains(t, err.Error(), secret)
}

// certificate returns the files of a new certificate for 127.0.0.1 that vouches for itself, and of its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})))
}

func TestPasswordFromTheEnvironment(t *testing.T) {
	t.Setenv("X_PASSWORD", secret)
	got, err := credentials.PasswordOr("x-password-file", "", "X_PASSWORD")
	require.NoError(t, err)
	require.Equal(t, secret, got)
	got, err = credentials.PasswordOr("x-password-file", file(t, "other"), "X_PASSWORD")
	require.NoError(t, err)
	require.Equal(t, "other", got, "the file wins")
	got, err = credentials.PasswordOr("x-password-file", "", "X_NONE")
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestAnyFlagOfTLSTurnsItOn(t *testing.T) {
	require.False(t, credentials.TLS{}.On())
	for _, c := range []credentials.TLS{{TLS: true}, {TLSCAFile: "x"}, {TLSCertFile: "x"}, {TLSKeyFile: "x"}, {TLSServerName: "x"}} {
		require.True(t, c.On(), "who gives certificates believes that they are used")
	}
}

func TestTLSFaultsAreAllNamed(t *testing.T) {
	cert, key := certificate(t)
	_, otherKey := certificate(t)
	missing := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		tls  credentials.TLS
		says []string
	}{
		"nothing there":   {credentials.TLS{TLSCAFile: missing, TLSCertFile: missing, TLSKeyFile: missing}, []string{"--x-tls-ca-file", "--x-tls-cert-file", "--x-tls-key-file"}},
		"no certificate":  {credentials.TLS{TLSCAFile: file(t, secret)}, []string{"--x-tls-ca-file", "no certificate in PEM form"}},
		"no key":          {credentials.TLS{TLSCertFile: cert}, []string{"--x-tls-cert-file is given without --x-tls-key-file"}},
		"only a key":      {credentials.TLS{TLSKeyFile: key}, []string{"--x-tls-key-file is given without --x-tls-cert-file"}},
		"another's key":   {credentials.TLS{TLSCertFile: cert, TLSKeyFile: otherKey}, []string{"--x-tls-cert-file and --x-tls-key-file", "does not match"}},
		"key is no key":   {credentials.TLS{TLSCertFile: cert, TLSKeyFile: file(t, secret)}, []string{"--x-tls-cert-file and --x-tls-key-file"}},
		"several at once": {credentials.TLS{TLSCAFile: missing, TLSKeyFile: key}, []string{"--x-tls-ca-file", "without --x-tls-cert-file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.tls.ClientTLS("x-")
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
			require.NotContains(t, err.Error(), secret)
		})
	}
}

// Each side believes the other only if its certificate comes from the authority that was named.
func TestTLSChecksBothSides(t *testing.T) {
	serverCert, serverKey := certificate(t)
	clientCert, clientKey := certificate(t)
	server, err := credentials.TLS{TLS: true, TLSCAFile: clientCert, TLSCertFile: serverCert, TLSKeyFile: serverKey}.ClientTLS("x-")
	require.NoError(t, err)
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, server.RootCAs
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("x")) // completes the handshake; its failure is the client's to see
			_ = conn.Close()
		}
	}()
	dial := func(c credentials.TLS) error {
		config, err := c.ClientTLS("x-")
		require.NoError(t, err)
		conn, err := tls.Dial("tcp", listener.Addr().String(), config)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells a refused client only now
		return err
	}
	require.NoError(t, dial(credentials.TLS{TLSCAFile: serverCert, TLSCertFile: clientCert, TLSKeyFile: clientKey}))
	require.ErrorContains(t, dial(credentials.TLS{TLSCertFile: clientCert, TLSKeyFile: clientKey}), "unknown authority")
	require.ErrorContains(t, dial(credentials.TLS{TLSCAFile: clientCert}), "unknown authority")
	require.ErrorContains(t, dial(credentials.TLS{TLSCAFile: serverCert}), "certificate required")
	require.Error(t, dial(credentials.TLS{TLSCAFile: serverCert, TLSCertFile: serverCert, TLSKeyFile: serverKey}), "another authority's client")
}
