package kafkaclient_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/credentials"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	user   = "app"
	secret = "hunter-2-canary"
)

// identity is a certificate for 127.0.0.1 that signs itself, as PEM and for servers.
type identity struct {
	server    tls.Certificate
	cert, key []byte
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	return identity{
		server: server.TLS.Certificates[0],
		cert:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		key:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
}

// mechanisms are all that there are.
var mechanisms = []string{"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"}

// secured is a broker that wants TLS and a login by one of some mechanisms, and the configuration that it accepts, with the first of them.
func secured(t *testing.T, more *tls.Config, by ...string) (*kfake.Cluster, kafkaclient.Config) {
	t.Helper()
	id := newIdentity(t)
	if more == nil {
		more = new(tls.Config)
	}
	more.Certificates = []tls.Certificate{id.server}
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.TLS(more), kfake.EnableSASL()}
	for _, mechanism := range by {
		opts = append(opts, kfake.Superuser(mechanism, user, secret))
	}
	cluster, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster, kafkaclient.Config{
		Brokers: cluster.ListenAddrs(), TopicPrefix: "lotline", SASLUsername: user, SASLMechanism: by[0],
		SASLPasswordFile: file(t, "password", secret+"\n"),
		TLS: credentials.TLS{
			TLSCAFile:   file(t, "ca.pem", string(id.cert)),
			TLSCertFile: file(t, "cert.pem", string(id.cert)), TLSKeyFile: file(t, "key.pem", string(id.key)),
		},
	}
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// client gives up at the first failure, as the client would not by itself.
func client(t *testing.T, c kafkaclient.Config) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(c.Opts("test"), kgo.RetryTimeout(time.Second))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func TestEveryMechanismLogsInOverTLS(t *testing.T) {
	for _, mechanism := range mechanisms {
		_, config := secured(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, mechanism) // and by no other
		require.NoError(t, config.Validate())
		require.NoError(t, client(t, config).Ping(t.Context()), mechanism)
	}
	_, config := secured(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, mechanisms...)
	config.SASLPasswordFile = ""
	require.ErrorContains(t, config.Validate(), "set --kafka-sasl-password-file or LOTLINE_KAFKA_SASL_PASSWORD")
	t.Setenv(kafkaclient.PasswordVariable, secret)
	require.NoError(t, config.Validate())
	require.NoError(t, client(t, config).Ping(t.Context()))
}

// Passwords and certificates are replaced while a process runs: the client that was refused is accepted later.
func TestFilesAreReadAgainForEachConnection(t *testing.T) {
	_, config := secured(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, mechanisms...)
	for name, path := range map[string]string{
		"password": config.SASLPasswordFile, "authority": config.TLSCAFile, "certificate": config.TLSCertFile,
	} {
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path))
		waiting := client(t, config)
		err = waiting.Ping(t.Context())
		require.True(t, kafkaclient.Refused(err), "%s: %v", name, err)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorContains(t, kafkaclient.Explain(err), "mend it, files are read again for each connection")
		require.NoError(t, os.WriteFile(path, good, 0o600))
		require.NoError(t, waiting.Ping(t.Context()), name)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	web := httptest.NewServer(nil)
	defer web.Close()
	answer := func(code *kerr.Error) func(*kfake.Cluster, *kafkaclient.Config) {
		return func(cluster *kfake.Cluster, _ *kafkaclient.Config) { // kfake itself hangs up on a wrong password
			cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				resp.ErrorCode = code.Code
				return resp, nil, true
			})
		}
	}
	for name, c := range map[string]struct {
		plant func(*kfake.Cluster, *kafkaclient.Config)
		want  string
	}{
		"password": {answer(kerr.SaslAuthenticationFailed), "Check --kafka-sasl-username, and --kafka-sasl-password-file or LOTLINE_KAFKA_SASL_PASSWORD"},
		"authority": {func(_ *kfake.Cluster, c *kafkaclient.Config) {
			c.TLSCAFile = file(t, "other.pem", string(otherAuthority(t)))
		}, "set --kafka-tls-ca-file to the certificate of the one that signed it"},
		"name": {func(_ *kfake.Cluster, c *kafkaclient.Config) { c.TLSServerName = "kafka.invalid" }, "say with --kafka-tls-server-name which one"},
		"no client certificate": {
			func(_ *kfake.Cluster, c *kafkaclient.Config) { c.TLSCertFile, c.TLSKeyFile = "", "" },
			"check --kafka-tls-cert-file and --kafka-tls-key-file",
		},
		"TLS to what has none": {func(_ *kfake.Cluster, c *kafkaclient.Config) { c.Brokers = []string{web.Listener.Addr().String()} }, "does not speak TLS at this address"},
		"plain to a TLS port":  {func(_ *kfake.Cluster, c *kafkaclient.Config) { *c = withoutTLS(*c) }, "a listener that wants TLS or a login (--kafka-tls-…"},
		"no login":             {func(_ *kfake.Cluster, c *kafkaclient.Config) { c.SASLUsername = "" }, "a listener that wants TLS or a login (--kafka-tls-…"},
		"a proxy before nothing": {
			func(_ *kfake.Cluster, c *kafkaclient.Config) {
				*c = kafkaclient.Config{Brokers: []string{proxyBeforeNothing(t)}}
			},
			"and so does a proxy whose broker is away",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, config := secured(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, mechanisms...)
			c.plant(cluster, &config)
			err := client(t, config).Ping(t.Context())
			require.True(t, kafkaclient.Refused(err), "%v", err)
			explained := kafkaclient.Explain(fmt.Errorf("ask: %w", err))
			require.ErrorContains(t, explained, c.want)
			require.ErrorIs(t, explained, err)
			require.Equal(t, explained, kafkaclient.Explain(explained), "not twice")
		})
	}
}

// proxyBeforeNothing is an address where connections are taken, and closed without an answer. The request is read first:
// what is closed over unread bytes is reset.
func proxyBeforeNothing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1<<10))
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func withoutTLS(c kafkaclient.Config) kafkaclient.Config {
	c.TLS = credentials.TLS{}
	return c
}

// otherAuthority is a certificate that signed nothing.
func otherAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestWhatIsNoRefusal(t *testing.T) {
	require.NoError(t, kafkaclient.Explain(nil))
	for _, err := range []error{errors.New("x"), kerr.NotLeaderForPartition, kerr.MessageTooLarge, os.ErrDeadlineExceeded} {
		require.Equal(t, err, kafkaclient.Explain(err))
		require.False(t, kafkaclient.Refused(err))
	}
	unreachable := client(t, kafkaclient.Config{Brokers: []string{"127.0.0.1:1"}}).Ping(t.Context())
	require.Error(t, unreachable)
	require.False(t, kafkaclient.Refused(unreachable), "%v", unreachable)
}

func TestCodesOfAuthorizationAreRefusals(t *testing.T) {
	for _, code := range []*kerr.Error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	} {
		require.ErrorContains(t, kafkaclient.Explain(fmt.Errorf("produce: %w", code)), "grant it with `lotline topics apply --principal=ROLE=User:NAME`")
	}
}

func TestValidateOfSecurity(t *testing.T) {
	_, good := secured(t, nil, mechanisms...)
	require.NoError(t, good.Validate())
	for name, c := range map[string]struct {
		change func(*kafkaclient.Config)
		want   []string
	}{
		"key without certificate":  {func(c *kafkaclient.Config) { c.TLSCertFile = "" }, []string{"--kafka-tls-key-file is given without --kafka-tls-cert-file"}},
		"another's key":            {func(c *kafkaclient.Config) { c.TLSKeyFile = c.TLSCAFile }, []string{"use the files of --kafka-tls-cert-file and --kafka-tls-key-file"}},
		"no authority in the file": {func(c *kafkaclient.Config) { c.TLSCAFile = c.SASLPasswordFile }, []string{"has no certificate in PEM form"}},
		"no such mechanism":        {func(c *kafkaclient.Config) { c.SASLMechanism = "GSSAPI" }, []string{`"GSSAPI" is none of SCRAM-SHA-512`}},
		"PLAIN in the open":        {func(c *kafkaclient.Config) { *c = withoutTLS(*c); c.SASLMechanism = "PLAIN" }, []string{"PLAIN sends the password itself, so it needs TLS"}},
		"password without a user":  {func(c *kafkaclient.Config) { c.SASLUsername = "" }, []string{"set --kafka-sasl-username too"}},
		"empty password":           {func(c *kafkaclient.Config) { c.SASLPasswordFile = file(t, "empty", "\n") }, []string{"empty, is empty"}},
		"several": {
			func(c *kafkaclient.Config) { c.TLSCAFile, c.SASLPasswordFile = "/nowhere/ca", "/nowhere/password" },
			[]string{"--kafka-tls-ca-file: open /nowhere/ca", "--kafka-sasl-password-file: open /nowhere/password"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			for _, want := range c.want {
				require.ErrorContains(t, bad.Validate(), want)
			}
		})
	}
}

// What the client says of a refusal has the advice with it, and nothing has the password.
func TestRefusalsAreExplainedInTheLogWithoutThePassword(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&out, nil)))
	defer slog.SetDefault(before)

	_, config := secured(t, nil, mechanisms...)
	config.TLSServerName = "kafka.invalid"
	refused := client(t, config)
	err := refused.Ping(t.Context())
	refused.Close()
	require.Contains(t, out.String(), "say with --kafka-tls-server-name which one")
	for _, text := range []string{out.String(), fmt.Sprintf("%+v %v", config, err)} {
		require.NotContains(t, text, secret)
	}
}
