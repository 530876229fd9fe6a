// Package access holds the tests of who may do what in Kafka: each role on a cluster that speaks TLS, wants a login and
// checks ACLs; on kfake, and on Apache Kafka with its StandardAuthorizer. They use what operators use, the settings of
// kafkaclient and the commands of lotline.
package access

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/credentials"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/internal/certs"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/topics"
)

const (
	prefix    = "lotline"
	mechanism = "SCRAM-SHA-512"
	patience  = 30 * time.Second
	lookEvery = 50 * time.Millisecond
)

var declared = topics.Declared(prefix)

// cluster is a secured Kafka with a user for each role.
type cluster struct {
	brokers   []string
	caFile    string
	passwords string // directory of the users' password files
	super     *kadm.Client
	fake      *kfake.Cluster // nil: Apache Kafka
}

func user(role topics.Role) string { return "lotline-" + string(role) }

func password(role topics.Role) string { return "canary-of-" + string(role) }

func principal(role topics.Role) string { return "User:" + user(role) }

// as is the configuration of a process that has a role. Its password file is the role's own, to be spoilt.
func (c cluster) as(role topics.Role) kafkaclient.Config {
	return c.config(user(role))
}

func (c cluster) config(name string) kafkaclient.Config {
	return kafkaclient.Config{
		Brokers: c.brokers, TopicPrefix: prefix, TLS: credentials.TLS{TLSCAFile: c.caFile},
		SASLUsername: name, SASLPasswordFile: filepath.Join(c.passwords, name), SASLMechanism: mechanism,
	}
}

func onKfake(t *testing.T) cluster {
	t.Helper()
	files, err := certs.Make(t.TempDir())
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	require.NoError(t, err)
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser(mechanism, servers.KafkaAdmin, servers.KafkaAdminPassword),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}
	for _, role := range topics.Roles() {
		opts = append(opts, kfake.User(mechanism, user(role), password(role)))
	}
	fake, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	c := open(t, fake.ListenAddrs(), files.CA)
	c.fake = fake
	return c
}

// open prepares a cluster whose users exist: the super user grants the admin's permissions, and the admin makes the
// topics and grants all the others, by command.
func open(t *testing.T, brokers []string, caFile string) cluster {
	t.Helper()
	c := cluster{brokers: brokers, caFile: caFile, passwords: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(c.passwords, servers.KafkaAdmin), []byte(servers.KafkaAdminPassword), 0o600))
	for _, role := range topics.Roles() {
		require.NoError(t, os.WriteFile(filepath.Join(c.passwords, user(role)), []byte(password(role)+"\n"), 0o600))
	}
	c.super = kadm.NewClient(c.client(t, c.config(servers.KafkaAdmin)))
	code, printed := c.lotline(t, servers.KafkaAdmin, "", "topics", "diff", "--principal=admin="+principal(topics.RoleAdmin))
	require.Equal(t, 1, code, printed)
	changes, err := topics.DiffACLs(t.Context(), c.super, declared, topics.Principals{topics.RoleAdmin: {principal(topics.RoleAdmin)}})
	require.NoError(t, err)
	require.NoError(t, topics.ApplyACLs(t.Context(), c.super, changes, false))

	apply := []string{"topics", "apply", "--kafka-replication=1"}
	for _, role := range topics.Roles() {
		apply = append(apply, "--principal="+string(role)+"="+principal(role))
	}
	code, printed = c.lotline(t, user(topics.RoleAdmin), "", apply...)
	require.Zero(t, code, printed)
	require.Contains(t, printed, "applied")
	return c
}

func (c cluster) client(t *testing.T, config kafkaclient.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	require.NoError(t, config.Validate())
	client, err := kgo.NewClient(append(config.Opts("test"), opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// lotline runs a command line as a user.
func (c cluster) lotline(t *testing.T, name, stdin string, args ...string) (code int, printed string) {
	t.Helper()
	// A command sets the log of its process, in which services may run.
	before := slog.Default()
	defer slog.SetDefault(before)
	var out, log output
	config := c.config(name)
	args = append(args, "--kafka-brokers="+strings.Join(c.brokers, ","), "--kafka-tls-ca-file="+c.caFile,
		"--kafka-sasl-username="+name, "--kafka-sasl-password-file="+config.SASLPasswordFile)
	code = cli.Main(t.Context(), args, strings.NewReader(stdin), &out, &log)
	return code, out.String() + log.String()
}

// output may be written to while it is read.
type output struct {
	mu sync.Mutex
	bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.String()
}

// produce writes one record to partition 0.
func produce(ctx context.Context, config kafkaclient.Config, record *kgo.Record) error {
	client, err := kgo.NewClient(append(config.Opts("test"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, record).FirstErr()
}

// read waits for a first record, and gives back why it cannot have any.
func read(ctx context.Context, config kafkaclient.Config, opts ...kgo.Opt) error {
	client, err := kgo.NewClient(append(config.Opts("test"), append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		fetches := client.PollFetches(ctx)
		if fetches.NumRecords() > 0 {
			return nil
		}
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			return err
		}
	}
}
