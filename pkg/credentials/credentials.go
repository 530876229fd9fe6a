// Package credentials is how Lotline's processes are given what proves who they
// are and whom they talk to: passwords and certificates, each in a file of its
// own, so that none is ever an argument or part of an error.
//
// The packages that reach a server (kafkaclient, clickhouseclient,
// postgresclient) and services that listen call it. It imports the standard
// library only.
package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// fileBytesMax bounds what is read of a file: a flag that names a large file by
// mistake must not fill the memory.
const fileBytesMax = 1 << 20

// Password returns what is in the file that a flag names, less the line breaks
// at its end. An empty file is an error: whoever names a file means to have a
// password. Errors name flag and file, and hold nothing of what is in it.
func Password(flag, file string) (string, error) {
	content, err := read(flag, file)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" {
		return "", fmt.Errorf("the file of --%s, %s, is empty", flag, file)
	}
	return password, nil
}

func read(flag, file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the file of --%s: %w", flag, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the file of --%s: %w", flag, err)
	}
	if len(content) > fileBytesMax {
		return nil, fmt.Errorf("the file of --%s, %s, has more than %d bytes: is it the right one?", flag, file, fileBytesMax)
	}
	return content, nil
}

// PasswordOr is Password, or, without a file, what the environment variable
// holds: "" if it is not set. There is no flag for a password itself: whoever
// lists processes sees flags.
func PasswordOr(flag, file, variable string) (string, error) {
	if file == "" {
		return os.Getenv(variable), nil
	}
	return Password(flag, file)
}

// TLS is what an operator says about encryption on the way to a server.
// Embedded below a prefix such as "kafka-" its flags are --kafka-tls,
// --kafka-tls-ca-file and so on.
type TLS struct {
	TLS           bool   `name:"tls" help:"Use TLS. Any other flag of TLS says so too."`
	TLSCAFile     string `name:"tls-ca-file" help:"File with the certificates (PEM) of the authorities that may sign the server's; empty = those that the system trusts." placeholder:"PATH"`
	TLSCertFile   string `name:"tls-cert-file" help:"File with this client's certificate (PEM), where the server wants one." placeholder:"PATH"`
	TLSKeyFile    string `name:"tls-key-file" help:"File with the key (PEM) of the client's certificate." placeholder:"PATH"`
	TLSServerName string `name:"tls-server-name" help:"The name that the server's certificate is for; empty = the host of its address." placeholder:"NAME"`
}

// On reports whether connections are encrypted.
func (t TLS) On() bool { return t != TLS{} }

// ClientTLS reads the files and returns what a client needs, for TLS 1.2 or newer.
// prefix is that of the flags, "kafka-" for example. The error names every file
// that cannot be used, and one of a pair that is missing.
func (t TLS) ClientTLS(prefix string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.TLSServerName}
	var errs []error
	if t.TLSCAFile != "" {
		pem, err := read(prefix+"tls-ca-file", t.TLSCAFile)
		config.RootCAs = x509.NewCertPool()
		if err == nil && !config.RootCAs.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("the file of --%stls-ca-file, %s, has no certificate in PEM form", prefix, t.TLSCAFile)
		}
		errs = append(errs, err)
	}
	pair, err := KeyPair(prefix+"tls-cert-file", t.TLSCertFile, prefix+"tls-key-file", t.TLSKeyFile)
	if pair != nil {
		config.Certificates = []tls.Certificate{*pair}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return config, nil
}

// KeyPair reads a certificate, with those that lead to its authority after it,
// and its key; nil without an error if neither is given. Both or none: the
// error names the flag that is missing, or says that the two do not belong
// together.
func KeyPair(certFlag, certFile, keyFlag, keyFile string) (*tls.Certificate, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil //nolint:nilnil // neither is a valid answer
	case certFile == "":
		return nil, fmt.Errorf("--%s is given without --%s", keyFlag, certFlag)
	case keyFile == "":
		return nil, fmt.Errorf("--%s is given without --%s", certFlag, keyFlag)
	}
	cert, certErr := read(certFlag, certFile)
	key, keyErr := read(keyFlag, keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("use the files of --%s and --%s: %w", certFlag, keyFlag, err)
	}
	return &pair, nil
}
