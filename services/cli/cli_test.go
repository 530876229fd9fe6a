package cli_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/cli"
)

// shell runs command lines against a cluster of its own.
type shell struct {
	t       *testing.T
	brokers []string
}

func newShell(t *testing.T) shell {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	t.Setenv("LOTLINE_KAFKA_BROKERS", strings.Join(cluster.ListenAddrs(), ","))
	t.Setenv("LOTLINE_KAFKA_REPLICATION", "1")
	return shell{t, cluster.ListenAddrs()}
}

func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = cli.Main(t.Context(), args, strings.NewReader(stdin), &out, &errOut)
	return code, out.String(), errOut.String()
}

// ok runs a command line that must succeed, in silence on stderr.
func (s shell) ok(stdin string, args ...string) string {
	s.t.Helper()
	code, stdout, stderr := run(s.t, stdin, args...)
	require.Empty(s.t, stderr)
	require.Zero(s.t, code)
	return stdout
}

var (
	timestamps = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	uuids      = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	rates      = regexp.MustCompile(`in \S+ \(\d+ a second\)`)
)

// golden compares with a file of testdata, in which what differs from run to
// run is named. UPDATE=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = timestamps.ReplaceAllString(got, "TIME")
	got = uuids.ReplaceAllString(got, "UUID")
	got = rates.ReplaceAllString(got, "in TIME (RATE)")
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestTopics(t *testing.T) {
	s := newShell(t)
	code, stdout, stderr := run(t, "", "topics", "diff")
	require.Equal(t, 1, code, "like diff(1)")
	require.Empty(t, stderr)
	golden(t, "topics_missing.txt", stdout)

	code, _, stderr = run(t, "", "topics", "apply", "--kafka-replication=3")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "there are fewer than 3 brokers, give another number with --kafka-replication")

	golden(t, "topics_applied.txt", s.ok("", "topics", "apply"))
	require.Equal(t, "all 3 topics are as declared\n", s.ok("", "topics", "diff"))
	require.Equal(t, "all 3 topics are as declared\n", s.ok("", "topics", "apply"))

	code, stdout, stderr = run(t, "", "topics", "apply", "--kafka-replication=2")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "topic lotline.commands: has 1 replicas and 2 are wanted")
	golden(t, "topics_refused.txt", stdout)

	code, _, stderr = run(t, "", "topics", "diff", "--kafka-replication=0")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "a topic cannot have 0 replicas")
}

func TestTopicsWithPrincipals(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	t.Setenv("LOTLINE_PRINCIPAL", "projector=User:reader;producer=User:shop")
	code, stdout, _ := run(t, "", "topics", "diff")
	require.Equal(t, 1, code)
	golden(t, "topics_acls_missing.txt", stdout)
	require.Contains(t, s.ok("", "topics", "apply"), "applied\n")
	require.Equal(t, "all 3 topics are as declared\nall 4 ACLs are as declared\n", s.ok("", "topics", "diff"))

	t.Setenv("LOTLINE_PRINCIPAL", "projector=User:reader")
	golden(t, "topics_acls_surplus.txt", s.ok("", "topics", "apply"))
	require.Contains(t, s.ok("", "topics", "apply", "--remove-surplus-acls"), "applied\n")
	require.Contains(t, s.ok("", "topics", "diff"), "all 3 ACLs are as declared\n")

	code, _, stderr := run(t, "", "topics", "apply", "--principal=reader=User:x")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, `there is no role "reader"`)
}

// full is a disk that has no room left.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A script that keeps what a command found must not take nothing for all is well.
func TestOutputThatCannotBeWrittenIsNoSuccess(t *testing.T) {
	newShell(t)
	require.Zero(t, cli.Main(t.Context(), []string{"topics", "apply"}, nil, io.Discard, io.Discard))
	for _, command := range [][]string{{"topics", "apply"}, {"dlq", "list"}} {
		var errOut bytes.Buffer
		require.NotZero(t, cli.Main(t.Context(), command, nil, full{}, &errOut), command)
		require.Contains(t, errOut.String(), "no space left on device", command)
	}
}

func TestFaultsOfKafkasSettingsAreNamedAtOnce(t *testing.T) {
	newShell(t)
	for _, command := range [][]string{{"topics", "diff"}, {"send"}, {"tail", "events"}, {"dlq", "list"}, {"verify"}} {
		code, _, stderr := run(t, "", append(command, "--kafka-sasl-username=op", "--kafka-tls-ca-file=/nowhere")...)
		require.Equal(t, 2, code, command)
		require.Contains(t, stderr, "--kafka-tls-ca-file: open /nowhere")
		require.Contains(t, stderr, "there is no password for the Kafka user \"op\"")
	}
}

func TestARefusalSaysWhatToDo(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("SCRAM-SHA-512", "op", "secret-canary"))
	require.NoError(t, err)
	defer cluster.Close()
	t.Setenv("LOTLINE_KAFKA_BROKERS", strings.Join(cluster.ListenAddrs(), ","))
	code, _, stderr := run(t, "", "topics", "diff")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "a listener that wants TLS or a login (--kafka-tls-…, --kafka-sasl-…)")
	require.NotContains(t, stderr, "make run")

	t.Setenv("LOTLINE_KAFKA_SASL_USERNAME", "op")
	t.Setenv("LOTLINE_KAFKA_SASL_PASSWORD", "secret-canary")
	for _, command := range [][]string{{"topics", "diff"}, {"send"}, {"tail", "events"}, {"dlq", "list"}} {
		_, _, stderr = run(t, `{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}`, command...)
		require.Contains(t, stderr, "grant it with `lotline topics apply --principal=ROLE=User:NAME`", command)
		require.NotContains(t, stderr, "secret-canary")
	}
}

// A Postgres that lets nobody in has answered: its address is right.
func TestAPostgresThatRefusesSaysWhatToDo(t *testing.T) {
	for code, says := range map[string]string{
		"28P01": "--postgres-password-file", "3D000": "make that database", "42501": "GRANT CONNECT", "53300": "max_connections", "57P03": "try again in a moment",
		"58000": "",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				server := pgproto3.NewBackend(conn, conn)
				_, _ = server.ReceiveStartupMessage()
				server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "not now"})
				_ = server.Flush()
				_ = conn.Close()
			}
		}()
		exited, _, stderr := run(t, "", "migrate", "postgres", "--postgres-url=postgres://u@"+listener.Addr().String()+"/lotline?sslmode=disable")
		require.Equal(t, 1, exited)
		require.Contains(t, stderr, "SQLSTATE "+code)
		require.Contains(t, stderr, says, code)
		require.NotContains(t, stderr, "no Postgres answers", code)
	}
}

const commands = `{"type":"CreateBatch","id":"c-1","ref":"b-1","sku":"LAMP","qty":100,"eta":"2031-01-02"}
{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}
{"type":"Deallocate","id":"c-3","orderid":"o-1","sku":"LAMP"}
{"type":"ChangeBatchQuantity","id":"c-4","ref":"b-1","sku":"LAMP","qty":-5}
`

func TestWhatIsSentIsTailed(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	golden(t, "send.txt", s.ok(commands, "send", "--source=/shop/1"))
	golden(t, "tail_commands.jsonl", s.ok("", "tail", "commands"))

	file := filepath.Join(t.TempDir(), "lines.CSV")
	require.NoError(t, os.WriteFile(file, []byte("orderid,sku,qty,id\no-1,CHAIR,2,c-9\no-2,CHAIR,3,c-10\n"), 0o600))
	require.Contains(t, s.ok("", "send", file, "--type=Allocate"), "sent 2 commands")
	golden(t, "tail_filtered.jsonl", s.ok("", "tail", "commands", "--sku=CHAIR", "--type=Allocate", "--from=-2"))
	require.Equal(t, 1, strings.Count(s.ok("", "tail", "commands", "-n1"), "\n"))
}

func TestDeadLettersAreShownAsTheyCame(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	require.NoError(t, err)
	defer client.Close()
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	require.NoError(t, client.ProduceSync(t.Context(),
		&kgo.Record{Topic: "lotline.commands.dlq", Key: []byte("LAMP"), Value: []byte(`{"sku":`), Headers: []kgo.RecordHeader{
			header("ce_type", "lotline.command.v1.Allocate"), header("dlq_reason", "it is not JSON"),
			header("dlq_topic", "lotline.commands"), header("dlq_partition", "4"), header("dlq_offset", "17"),
		}},
		&kgo.Record{Topic: "lotline.commands.dlq", Value: []byte{0xff}},
	).FirstErr())
	golden(t, "tail_dlq.jsonl", s.ok("", "tail", "dlq"))
}

// What the command logs is as free of secrets as what the services do.
func TestTheLogHasNoSecrets(t *testing.T) {
	was := slog.Default()
	defer slog.SetDefault(was)
	var stderr bytes.Buffer
	cli.Main(t.Context(), []string{"send", "/no/such/file"}, strings.NewReader(""), io.Discard, &stderr)
	slog.Error("connecting", "to", "postgres://u:hunter2@db/lotline")
	require.Contains(t, stderr.String(), "postgres://u:[redacted]@db/lotline")
}

func TestMistakesAreAnsweredBySentences(t *testing.T) {
	newShell(t)
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "the topic lotline.commands does not exist: create it with `lotline topics apply`", []string{"send"}},
		{1, "the topic lotline.events does not exist: create it with `lotline topics apply`", []string{"tail", "events"}},
		{1, "no Kafka broker answers at 127.0.0.1:1 ", []string{"tail", "events", "--kafka-brokers=127.0.0.1:1"}},
		{1, "open the commands: open /no/such/file", []string{"send", "/no/such/file"}},
		{2, "read the file of --postgres-url-file", []string{"migrate", "postgres", "--postgres-url-file=/no/such/file"}},
		{2, "See lotline --help.", []string{"sned"}},
		{2, "See lotline topics diff --help.", []string{"topics", "diff", "--frob"}},
		{2, "no Postgres answers there: say where it is with --postgres-url", []string{"verify", "--read-model=redis", "--postgres-url=postgres://u@127.0.0.1:1/d"}},
		{2, "--skus-max is -1 and must be 0 or more", []string{"verify", "--skus-max=-1"}},
		{2, "--wait is -5s and must not be negative", []string{"verify", "--wait=-5s"}},
		{2, "no ClickHouse answers at 127.0.0.1:1 ", []string{"verify", "--clickhouse-addrs=127.0.0.1:1"}},
		{2, `"evnts"`, []string{"tail", "evnts"}},
		{2, "--from=end shows only what is still to come: add --follow", []string{"tail", "events", "--from=end"}},
		{2, "--type must be one of CreateBatch, Allocate", []string{"send", "--type=Alocate"}},
		{2, "--source cannot be used", []string{"send", "--source=a\nb"}},
		{2, "--in-flight-max must be", []string{"send", "--in-flight-max=0"}},
		{2, "--timeout must be 1s or more", []string{"send", "--timeout=1ms"}},
		{2, "--skip-bad and --send-bad can't be used together", []string{"send", "--skip-bad", "--send-bad"}},
		{2, `the Kafka broker "kafka" is not an address`, []string{"send", "--kafka-brokers=kafka"}},
		{2, `the ClickHouse server "ch" is not an address`, []string{"migrate", "--clickhouse-addrs=ch"}},
		{2, `--read-model is "mongo"`, []string{"migrate", "--read-model=mongo"}},
		{2, "--read-postgres-schema must be", []string{"migrate", "read-postgres", "--read-postgres-schema=A B", "--clickhouse-addrs=ch"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := run(t, commands, c.args...)
			require.Contains(t, stderr, c.want)
			require.Equal(t, c.code, code)
			require.NotContains(t, stdout, "sent 4")
		})
	}
}

func TestHelp(t *testing.T) {
	code, stdout, _ := run(t, "", "send", "--help")
	require.Zero(t, code)
	require.Contains(t, stdout, `{"type":"Allocate","id":"c-2","orderid":"o-1","sku":"SMALL-TABLE","qty":3}`)
	require.Contains(t, stdout, "$LOTLINE_KAFKA_BROKERS")

	code, stdout, stderr := run(t, "")
	require.Equal(t, 2, code)
	require.Empty(t, stderr)
	require.Contains(t, stdout, "migrate ", "every command is there")
}

// What a command does is read before how it reaches its servers, which is the same for all of them.
func TestHelpBeginsWithWhatTheCommandIsAbout(t *testing.T) {
	for command, own := range map[string]string{
		"send": "--skip-bad", "tail": "--from", "topics diff": "--principal", "dlq list": "--reason", "verify": "--repair", "rebuild": "--rollback",
		"offsets skip": "--confirm",
	} {
		code, stdout, _ := run(t, "", append(strings.Fields(command), "--help")...)
		require.Zero(t, code)
		before, after, found := strings.Cut(stdout, "--kafka-brokers")
		require.True(t, found, command)
		require.Contains(t, before, own, command)
		require.NotContains(t, before, "--postgres-url", command)
		require.NotContains(t, after, own+"=", command)
	}
	_, stdout, _ := run(t, "")
	before, _, _ := strings.Cut(stdout, "--kafka-brokers")
	require.Contains(t, before, "migrate", "commands are listed before flags")
}
