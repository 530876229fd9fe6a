package servers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/lotline/lotline/tests/internal/certs"
)

// Names of the super user that a secured broker is formatted with. It is for tests on this machine only.
const (
	KafkaAdmin         = "admin"
	KafkaAdminPassword = "admin-of-the-test-broker" //nolint:gosec // opens nothing but a broker that a test has started
)

// StartSecureKafka is StartKafka with a broker that speaks TLS only, wants a login by SCRAM-SHA-512 and allows what its
// ACLs say (StandardAuthorizer): at first, everything to KafkaAdmin and nothing to anybody else. The server's CAFile
// signed its certificate.
func StartSecureKafka(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	files, err := certs.Make(filepath.Join(o.DataDir, "certs"))
	if err != nil {
		return nil, fmt.Errorf("start kafka: make its certificates: %w", err)
	}
	ping, err := securePing(local(o.Port), files.CA)
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	s, err := startKafka(ctx, o, secureProperties(o, files), ping,
		"--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", KafkaAdmin, KafkaAdminPassword))
	if s != nil {
		s.CAFile = files.CA
	}
	return s, err
}

// secureProperties has nobody log in to the controller, which only this machine reaches.
func secureProperties(o Options, files certs.Files) string {
	return strings.Join([]string{
		commonProperties(o),
		"listeners=SASL_SSL://" + local(o.Port) + ",CONTROLLER://" + local(o.SecondPort),
		"advertised.listeners=SASL_SSL://" + local(o.Port),
		"listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=SASL_SSL",
		"sasl.enabled.mechanisms=SCRAM-SHA-512",
		"sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512",
		fmt.Sprintf(`listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";`, KafkaAdmin, KafkaAdminPassword),
		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + files.Bundle,
		"ssl.truststore.type=PEM",
		"ssl.truststore.location=" + files.CA,
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:" + KafkaAdmin + ";User:ANONYMOUS",
		"",
	}, "\n")
}

func securePing(address, caFile string) (func(context.Context) error, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("its authority has no certificate")
	}
	return pingKafka(address, kgo.DialTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}),
		kgo.SASL(scram.Auth{User: KafkaAdmin, Pass: KafkaAdminPassword}.AsSha512Mechanism())), nil
}
