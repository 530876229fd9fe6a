//go:build integration

package access

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/services/projector"
	"github.com/lotline/lotline/tests/internal/certs"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the services talk, and what they are refused more so
	os.Exit(m.Run())
}

const (
	stays = 1500 * time.Millisecond // how long a service must go on saying what it lacks
	// fetchesMax is far above what three services ask in that time if each waits between its tries, and far below what
	// one asks that does not.
	fetchesMax = 60
)

const grant = "grant it with `lotline topics apply --principal=ROLE=User:NAME`"

// installation is databases and the configuration of services, each with its role on the cluster.
type installation struct {
	*testing.T
	cluster
	config stack.Config
}

func install(t *testing.T, c cluster) installation {
	t.Helper()
	on := isolation.Databases(t)
	on.Kafka, on.TopicPrefix, on.Replication = c.brokers, prefix, 1
	config, err := stack.Configure(on)
	require.NoError(t, err)
	config.KafkaAdmin, config.Allocator.Kafka = c.as(topics.RoleAdmin), c.as(topics.RoleAllocator)
	config.Projector.Kafka, config.Gateway.Kafka = c.as(topics.RoleProjector), c.as(topics.RoleGateway)
	config.Allocator.Sessions = 1
	return installation{t, c, config}
}

// pipeline takes commands through all services to an answer: those of an order system, of HTTP and of an operator.
func pipeline(t *testing.T, c cluster) {
	in := install(t, c)
	running, err := stack.Start(t.Context(), in.config)
	require.NoError(t, err)
	defer func() { require.NoError(t, running.Stop()) }()
	base := "http://" + in.config.Gateway.HTTPAddr

	request, err := http.NewRequest(http.MethodPost, base+"/add_batch", strings.NewReader(`{"ref":"b-1","sku":"CHAIR","qty":10,"eta":null}`))
	require.NoError(t, err)
	request.Header = http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=10"}} // a broker's first transaction takes long
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode, "the outcome was seen")
	require.NoError(t, produce(t.Context(), c.as(topics.RoleProducer), command("c-1", `{"orderid":"o-1","sku":"CHAIR","qty":3}`)))
	in.lotlineOK(`{"type":"Allocate","orderid":"o-2","sku":"CHAIR","qty":2}`, "send")
	for _, order := range []string{"o-1", "o-2"} {
		require.EventuallyWithT(t, func(collect *assert.CollectT) {
			require.NoError(collect, stack.Probe(t.Context(), base+"/allocations/"+order))
		}, patience, lookEvery)
	}
	require.NoError(t, read(t.Context(), c.as(topics.RoleConsumer), kgo.ConsumerGroup(declared.ConsumerGroups+"warehouse"),
		kgo.ConsumeTopics(declared.Events.Name), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart())))

	// What is left of the operator's commands.
	require.NoError(t, produce(t.Context(), c.as(topics.RoleProducer), command("c-2", "no JSON")))
	require.EventuallyWithT(t, func(collect *assert.CollectT) {
		_, printed := c.lotline(t, user(topics.RoleOperator), "", "dlq", "list")
		require.Contains(collect, printed, "not valid JSON")
	}, patience, lookEvery)
	plan := in.lotlineOK("", "dlq", "discard", "0", "--why=test")
	_, confirm, _ := strings.Cut(plan, "--confirm=")
	require.Contains(t, in.lotlineOK("", "dlq", "discard", "0", "--why=test", "--confirm="+strings.TrimSpace(confirm)), "discarded 1")
	for what, count := range map[string]int{"commands": 4, "events": 3, "dlq": 2} {
		require.Equal(t, count, strings.Count(in.lotlineOK("", "tail", what), "\n"), what)
	}
	require.Contains(t, in.lotlineOK("", "verify", "--postgres-url="+in.config.Owner,
		"--clickhouse-addrs="+in.config.Projector.ClickHouse.Addrs[0], "--clickhouse-database="+in.config.Projector.ClickHouse.Database),
		"Postgres = fold of the events = ClickHouse")
	require.Contains(t, in.lotlineOK("", "offsets", "show", "--postgres-url="+in.config.Owner), "\nThe topic's id is ")
}

func (in installation) lotlineOK(stdin string, args ...string) (printed string) {
	in.Helper()
	code, printed := in.lotline(in.T, user(topics.RoleOperator), stdin, args...)
	require.Zero(in, code, printed)
	return printed
}

func command(id, value string) *kgo.Record {
	return &kgo.Record{Topic: declared.Commands.Name, Key: []byte("CHAIR"), Value: []byte(value), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(id)},
		{Key: "ce_source", Value: []byte("/test")},
		{Key: "ce_type", Value: []byte("lotline.command.v1.Allocate")},
	}}
}

// boot starts services whatever keeps them from being ready, and stops them after the test.
func (in installation) boot(run ...func(context.Context) error) {
	in.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(in.Context()))
	done := make(chan error)
	for _, service := range run {
		go func() { done <- service(ctx) }()
	}
	in.Cleanup(func() {
		stop()
		for range run {
			require.NoError(in, <-done)
		}
	})
}

func (in installation) allocator(ctx context.Context) error {
	return allocator.Run(ctx, in.config.Allocator)
}

func (in installation) projector(ctx context.Context) error {
	return projector.Run(ctx, in.config.Projector)
}

func (in installation) gateway(ctx context.Context) error { return gateway.Run(ctx, in.config.Gateway) }

// unready waits until /readyz of a service has a sentence, and ready until it has nothing to say.
func (in installation) unready(admin, sentence string) {
	in.Helper()
	require.EventuallyWithT(in, func(collect *assert.CollectT) {
		status, body := readyz(collect, admin)
		require.Equal(collect, http.StatusServiceUnavailable, status, body)
		require.Contains(collect, body, sentence)
	}, patience, lookEvery)
}

// staysUnready waits until a service says what it lacks, and sees it go on doing so without asking all the time: the
// client hands some refusals on with each fetch, and of others it tells once in a while.
func (in installation) staysUnready(admin string) {
	in.Helper()
	in.unready(admin, grant)
	var fetches atomic.Int64
	in.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		in.fake.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	require.Never(in, func() bool { status, _ := readyz(in, admin); return status == http.StatusOK }, stays, lookEvery)
	require.Less(in, fetches.Load(), int64(fetchesMax))
}

func (in installation) ready(admin string) {
	in.Helper()
	require.EventuallyWithT(in, func(collect *assert.CollectT) {
		status, body := readyz(collect, admin)
		require.Equal(collect, http.StatusOK, status, body)
	}, patience, lookEvery)
}

func readyz(t require.TestingT, admin string) (int, string) {
	response, err := http.Get("http://" + admin + "/readyz")
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// take has a permission taken away, and returns how to give it back.
func (in installation) take(acl topics.ACL) (giveBack func()) {
	in.Helper()
	require.NoError(in, topics.ApplyACLs(in.Context(), in.super, topics.ACLChanges{Surplus: []topics.ACL{acl}}, true))
	return func() {
		in.Helper()
		require.NoError(in, topics.ApplyACLs(in.Context(), in.super, topics.ACLChanges{Create: []topics.ACL{acl}}, false))
	}
}

func TestThePipelineRunsUnderItsRoles(t *testing.T) { pipeline(t, onKfake(t)) }

// Each permission is taken from a running service while commands come in. What it cannot do is said and waited for;
// once it is given back, everything is done, once, and nothing has become a dead letter that could be read.
func TestATakenPermissionIsNamedAndWaitedFor(t *testing.T) {
	c := onKfake(t)
	in := install(t, c)
	require.NoError(t, stack.Prepare(t.Context(), &in.config))
	in.boot(in.allocator, in.projector, in.gateway)
	services := map[topics.Role]string{
		topics.RoleAllocator: in.config.Allocator.AdminAddr, topics.RoleProjector: in.config.Projector.AdminAddr, topics.RoleGateway: in.config.Gateway.AdminAddr,
	}
	for _, admin := range services {
		in.ready(admin)
	}
	sent, unreadable := 0, 0
	for _, role := range []topics.Role{topics.RoleAllocator, topics.RoleProjector, topics.RoleGateway} {
		for _, acl := range declared.ACLs(topics.Principals{role: {principal(role)}}) {
			if role == topics.RoleAllocator && acl.Operation == kadm.OpRead && (acl.Name == declared.Events.Name || acl.Name == declared.DeadLetters.Name) {
				continue // for looking at what a broker forgot, which it can do without
			}
			if acl.Name == declared.ProjectorGroup+"." {
				continue // for projectors of another store than the one that runs here
			}
			if role == topics.RoleGateway && (acl.Name == declared.DeadLetters.Name || acl.Name == declared.AnswersID || acl.Type == kmsg.ACLResourceTypeGroup) {
				// Questions with a token wait in vain, the cache takes in nothing new, and the log says so; the console says what it may
				// not see; all else goes on.
				continue
			}
			t.Run(fmt.Sprintf("%s %s %s %s", role, acl.Operation, acl.Type, acl.Name), func(t *testing.T) {
				in := installation{t, c, in.config}
				giveBack := in.take(acl)
				record := command(fmt.Sprintf("c-%d", sent), fmt.Sprintf(`{"orderid":"o-%d","sku":"NO-SUCH","qty":1}`, sent))
				if acl.Name == declared.DeadLetters.Name {
					record.Value = []byte("no JSON")
					unreadable++
				}
				sent++
				if acl.Name == declared.AllocatorGroup {
					in.staysUnready(services[role]) // also while no command comes that it could not publish
				}
				require.NoError(t, produce(t.Context(), c.as(topics.RoleProducer), record))
				if acl.Name == declared.Commands.Name && role == topics.RoleAllocator {
					in.staysUnready(services[role]) // also while there is one that it may not read
				}
				in.unready(services[role], grant)
				giveBack()
				in.ready(services[role])
			})
		}
	}
	eventually(t, func(collect *assert.CollectT) {
		code, printed := c.lotline(t, user(topics.RoleOperator), "", "tail", "events")
		require.Zero(collect, code, printed)
		require.Equal(collect, sent-unreadable, strings.Count(printed, "\n"), printed)
		code, printed = c.lotline(t, user(topics.RoleOperator), "", "tail", "dlq")
		require.Zero(collect, code, printed)
		require.Equal(collect, unreadable, strings.Count(printed, "\n"), printed)
	})
}

// What a process has to prove itself with is wrong, and is mended while it runs.
func refusals(t *testing.T, c cluster) {
	good := install(t, c)
	require.NoError(t, stack.Prepare(t.Context(), &good.config))
	for name, c := range map[string]struct {
		spoil func(in *installation) (mend func())
		want  string
	}{
		"a wrong password": {func(in *installation) func() {
			return in.replace("another password", in.config.Allocator.Kafka.SASLPasswordFile, in.config.Projector.Kafka.SASLPasswordFile, in.config.Gateway.Kafka.SASLPasswordFile)
		}, "Check --kafka-sasl-username, and --kafka-sasl-password-file or LOTLINE_KAFKA_SASL_PASSWORD"},
		"an unknown authority": {func(in *installation) func() {
			other, err := certs.Make(in.TempDir())
			require.NoError(in, err)
			in.caFile = filepath.Join(in.TempDir(), "ca.pem")
			ca, err := os.ReadFile(other.CA)
			require.NoError(in, err)
			require.NoError(in, os.WriteFile(in.caFile, ca, 0o600))
			in.config.Allocator.Kafka.TLSCAFile, in.config.Projector.Kafka.TLSCAFile, in.config.Gateway.Kafka.TLSCAFile = in.caFile, in.caFile, in.caFile
			right, err := os.ReadFile(good.caFile)
			require.NoError(in, err)
			return func() { require.NoError(in, os.WriteFile(in.caFile, right, 0o600)) }
		}, "set --kafka-tls-ca-file to the certificate of the one that signed it"},
		"a missing permission": {func(in *installation) func() {
			var mend []func()
			for _, role := range []topics.Role{topics.RoleAllocator, topics.RoleProjector, topics.RoleGateway} {
				mend = append(mend, in.take(declared.ACLs(topics.Principals{role: {principal(role)}})[0]))
			}
			return func() {
				for _, one := range mend {
					one()
				}
			}
		}, grant},
	} {
		t.Run(name, func(t *testing.T) {
			in := installation{t, good.cluster, good.config}
			mend := c.spoil(&in)
			in.boot(in.allocator, in.projector, in.gateway)
			admins := []string{in.config.Allocator.AdminAddr, in.config.Projector.AdminAddr, in.config.Gateway.AdminAddr}
			for _, admin := range admins {
				in.unready(admin, c.want)
			}
			mend()
			for _, admin := range admins {
				in.ready(admin)
			}
		})
	}
}

// replace writes something else into files, and returns how to write back what they had.
func (in installation) replace(content string, files ...string) (restore func()) {
	in.Helper()
	before := map[string][]byte{}
	for _, file := range files {
		was, err := os.ReadFile(file)
		require.NoError(in, err)
		before[file] = was
		require.NoError(in, os.WriteFile(file, []byte(content), 0o600))
	}
	return func() {
		in.Helper()
		for file, was := range before {
			require.NoError(in, os.WriteFile(file, was, 0o600))
		}
	}
}

// The same on a broker of Apache Kafka's with SCRAM over TLS and the StandardAuthorizer.
func TestASecuredClusterOnApacheKafka(t *testing.T) {
	kafka, err := servers.StartSecureKafka(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "kafka")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Stop()) })
	c := cluster{brokers: []string{kafka.Addr}, caFile: kafka.CAFile, passwords: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(c.passwords, servers.KafkaAdmin), []byte(servers.KafkaAdminPassword), 0o600))
	makeUsers(t, kadm.NewClient(c.client(t, c.config(servers.KafkaAdmin))))
	c = open(t, c.brokers, c.caFile)
	t.Run("pipeline", func(t *testing.T) { pipeline(t, c) })
	t.Run("refusals", func(t *testing.T) { refusals(t, c) })
	t.Run("roles", func(t *testing.T) { matrix(t, c) }) // last: what it writes is no event
}

func makeUsers(t *testing.T, super *kadm.Client) {
	t.Helper()
	var users []kadm.UpsertSCRAM
	for _, role := range topics.Roles() {
		users = append(users, kadm.UpsertSCRAM{User: user(role), Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password(role)})
	}
	answers, err := super.AlterUserSCRAMs(t.Context(), nil, users)
	require.NoError(t, err)
	require.NoError(t, answers.Error())
}

func eventually(t *testing.T, condition func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, condition, patience, lookEvery)
}
