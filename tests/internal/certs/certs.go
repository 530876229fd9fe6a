// Package certs makes certificates for test servers on 127.0.0.1, when they are needed: nothing is kept in the
// repository, and nothing expires there. tests/servers and tests of security call it; it imports the standard library
// only.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const validFor = 24 * time.Hour

// Files are PEM files of an authority and of a server whose certificate it signed.
type Files struct {
	CA     string // the authority's certificate
	Cert   string // the server's certificate
	Key    string // the server's key, PKCS #8
	Bundle string // the server's key and certificate in one file, as Kafka's brokers want it
}

// Make writes the files of a new authority and server into dir, which it makes.
func Make(dir string) (Files, error) {
	ca, caKey, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Lotline test authority"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	if err != nil {
		return Files{}, err
	}
	server, serverKey, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Lotline test server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca, caKey)
	if err != nil {
		return Files{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return Files{}, fmt.Errorf("encode a key: %w", err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	certificate := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	files := Files{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Bundle: filepath.Join(dir, "bundle.pem"),
	}
	return files, errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(files.CA, certificate(ca), 0o600),
		os.WriteFile(files.Cert, certificate(server), 0o600),
		os.WriteFile(files.Key, key, 0o600),
		os.WriteFile(files.Bundle, append(key, certificate(server)...), 0o600))
}

// sign makes a certificate and its key; without a parent it signs itself.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(validFor)
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, err
}
