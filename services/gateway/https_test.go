package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/gateway"
)

func TestHTTPS(t *testing.T) {
	site := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1
	defer site.Close()
	der, err := x509.MarshalPKCS8PrivateKey(site.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	file := func(kind string, der []byte) string {
		name := filepath.Join(t.TempDir(), "pem")
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return name
	}
	cfg := gateway.DefaultConfig()
	cfg.HTTPAddr, cfg.AdminAddr = freeAddr(t), freeAddr(t)
	cfg.Kafka.Brokers, cfg.ClickHouse.Addrs = []string{freeAddr(t)}, []string{freeAddr(t)}
	cfg.HTTPCertFile, cfg.HTTPKeyFile = file("CERTIFICATE", site.Certificate().Raw), file("PRIVATE KEY", der)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- gateway.Run(ctx, cfg) }()

	client := site.Client() // believes that certificate and no other
	require.Eventually(t, func() bool {
		response, err := client.Get("https://" + cfg.HTTPAddr + "/healthz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK && response.TLS.Version >= tls.VersionTLS12
	}, 10*time.Second, 20*time.Millisecond)
	status, body := ask(t, http.MethodGet, "http://"+cfg.HTTPAddr+"/healthz", "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "HTTPS server")
	_, err = tls.Dial("tcp", cfg.HTTPAddr, &tls.Config{RootCAs: client.Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS11})
	require.Error(t, err, "older than TLS 1.2")
	status, _ = ask(t, http.MethodGet, "http://"+cfg.AdminAddr+"/healthz", "")
	require.Equal(t, http.StatusOK, status, "the admin endpoint stays apart")
	stop()
	require.NoError(t, <-done)

	cfg.HTTPKeyFile = ""
	require.ErrorContains(t, cfg.Validate(), "--http-cert-file is given without --http-key-file")
}
