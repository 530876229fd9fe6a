package kafkaclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Refusal is an error of who this process is to Kafka, or of what it may do there. It is waited out as an outage is,
// since nothing is wrong with any record, but it does not pass before a person does something: what, is Advice. Of a
// connection that is closed at once only what was seen can be said: that may pass by itself.
type Refusal struct {
	Advice string // a sentence without a full stop
	Err    error
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s (%v)", r.Advice, r.Err) }
func (r *Refusal) Unwrap() error { return r.Err }

// Explain wraps err in a Refusal if it is one; other errors, nil among them, are returned as they are. It goes by
// Kafka's codes and the types of TLS' errors.
func Explain(err error) error {
	if err == nil || errors.As(err, new(*Refusal)) {
		return err
	}
	if advice := advise(err); advice != "" {
		return &Refusal{Advice: advice, Err: err}
	}
	return err
}

// Refused reports whether err is a Refusal, explained already or not.
func Refused(err error) bool { return errors.As(Explain(err), new(*Refusal)) }

const grantAdvice = "Kafka does not allow this user %s that its role needs: grant it with `lotline topics apply --principal=ROLE=User:NAME`"

var adviceForCode = map[*kerr.Error]string{
	kerr.SaslAuthenticationFailed: "Kafka does not accept this user with this password. Check --kafka-sasl-username, and --kafka-sasl-password-file " +
		"or " + PasswordVariable + "; the file is read again for each connection",
	kerr.UnsupportedSaslMechanism:           "Kafka does not know this way to log in: set --kafka-sasl-mechanism to one that the broker's listener offers",
	kerr.IllegalSaslState:                   "Kafka wants no login at this address: use the port of its SASL listener, or leave --kafka-sasl-username out",
	kerr.TopicAuthorizationFailed:           fmt.Sprintf(grantAdvice, "a use of a topic"),
	kerr.GroupAuthorizationFailed:           fmt.Sprintf(grantAdvice, "a use of a consumer group"),
	kerr.TransactionalIDAuthorizationFailed: fmt.Sprintf(grantAdvice, "a transactional id"),
	kerr.ClusterAuthorizationFailed:         fmt.Sprintf(grantAdvice, "a use of the cluster"),
}

func advise(err error) string {
	var (
		code     *kerr.Error
		local    *unusable
		network  *net.OpError
		firstEOF *kgo.ErrFirstReadEOF
	)
	switch {
	case errors.As(err, &code):
		return adviceForCode[code]
	case errors.As(err, &local):
		return "What is needed to reach Kafka cannot be had: mend it, files are read again for each connection"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "The broker's certificate is not signed by an authority that is trusted here: set --kafka-tls-ca-file to the certificate of the one that signed it"
	case errors.As(err, new(x509.HostnameError)):
		return "The broker's certificate is not for the name by which it was reached: use a name that is in it, or say with --kafka-tls-server-name which one"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "The broker's certificate cannot be trusted: renew it, or look at this machine's clock"
	case errors.As(err, new(tls.RecordHeaderError)):
		return "The broker does not speak TLS at this address: use the port of its TLS listener, or leave all of --kafka-tls-… out"
	case errors.As(err, &network) && network.Op == "remote error": // how Go names an alert that the other side sent
		return "The broker ended the TLS handshake: check --kafka-tls-cert-file and --kafka-tls-key-file, the broker may want another certificate"
	case errors.As(err, &firstEOF):
		return "The connection was closed before anything came over it: so does a listener that wants TLS or a login (--kafka-tls-…, --kafka-sasl-…), " +
			"or one without those that are set here, and so does a proxy whose broker is away"
	}
	return ""
}
