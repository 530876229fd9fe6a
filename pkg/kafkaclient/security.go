package kafkaclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/lotline/lotline/pkg/credentials"
)

// PasswordVariable is the environment variable that holds the SASL password where no file does. There is no flag for
// it: flags are seen by everybody who lists processes.
const PasswordVariable = "LOTLINE_KAFKA_SASL_PASSWORD" //nolint:gosec // its name, not a password

// Mechanisms of SASL, by their names in Kafka.
const (
	scramSHA512 = "SCRAM-SHA-512"
	scramSHA256 = "SCRAM-SHA-256"
	saslPlain   = "PLAIN"
)

const flagPrefix = "kafka-"

func (c Config) validateSecurity() error {
	var errs []error
	if c.On() {
		_, err := c.ClientTLS(flagPrefix)
		errs = append(errs, err)
	}
	if c.SASLUsername == "" {
		if c.SASLPasswordFile != "" {
			errs = append(errs, errors.New("--kafka-sasl-password-file is given without a user: set --kafka-sasl-username too"))
		}
		return errors.Join(errs...)
	}
	switch c.SASLMechanism {
	case scramSHA512, scramSHA256:
	case saslPlain:
		if !c.On() {
			errs = append(errs, errors.New("PLAIN sends the password itself, so it needs TLS: set --kafka-tls, or use --kafka-sasl-mechanism=SCRAM-SHA-512"))
		}
	default:
		errs = append(errs, fmt.Errorf("the SASL mechanism %q is none of %s, %s and %s", c.SASLMechanism, scramSHA512, scramSHA256, saslPlain))
	}
	_, err := c.password()
	return errors.Join(append(errs, err)...)
}

// secured returns the options that encrypt and authenticate connections. Files are read for each connection, so that
// certificates and passwords can be replaced while the process runs; one that cannot be read fails the connection, and
// the client tries again.
func (c Config) secured() []kgo.Opt {
	var opts []kgo.Opt
	if c.On() {
		opts = append(opts, kgo.Dialer(c.dialTLS))
	}
	if c.SASLUsername != "" {
		opts = append(opts, kgo.SASL(c.mechanism()))
	}
	return opts
}

func (c Config) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	config, err := c.ClientTLS(flagPrefix)
	if err != nil {
		return nil, &unusable{err}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
}

func (c Config) mechanism() sasl.Mechanism {
	if c.SASLMechanism == saslPlain {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := c.password()
			return plain.Auth{User: c.SASLUsername, Pass: password}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		password, err := c.password()
		return scram.Auth{User: c.SASLUsername, Pass: password}, err
	}
	if c.SASLMechanism == scramSHA256 {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}

func (c Config) password() (string, error) {
	password, err := credentials.PasswordOr(flagPrefix+"sasl-password-file", c.SASLPasswordFile, PasswordVariable)
	if err == nil && password == "" {
		err = fmt.Errorf("there is no password for the Kafka user %q: set --kafka-sasl-password-file or %s", c.SASLUsername, PasswordVariable)
	}
	if err != nil {
		return "", &unusable{err}
	}
	return password, nil
}

// unusable says that a certificate or password cannot be had.
type unusable struct{ error }

func (e *unusable) Unwrap() error { return e.error }
