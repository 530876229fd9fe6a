package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/telemetry/telemetrytest"
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

func TestCommandsAreSentInEveryForm(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	forms := [][]string{{}, {"--content-type=protobuf"}, {"--mode=structured"}, {"--mode=structured", "--content-type=protobuf"}}
	contentTypes := []string{"application/json", "application/protobuf", "application/cloudevents+json", "application/cloudevents+json"}
	for _, form := range forms {
		s.ok(commands, append([]string{"send"}, form...)...)
	}
	type line struct {
		Type    string
		Headers map[string]string
		Value   json.RawMessage
	}
	var lines []line
	for dec := json.NewDecoder(strings.NewReader(s.ok("", "tail", "commands"))); dec.More(); {
		var l line
		require.NoError(t, dec.Decode(&l))
		lines = append(lines, l)
	}
	each := strings.Count(commands, "\n")
	require.Len(t, lines, len(forms)*each)
	for i, l := range lines {
		require.Equal(t, contentTypes[i/each], l.Headers["content-type"])
		require.Equal(t, lines[i%each].Type, l.Type)
		require.Equal(t, string(lines[i%each].Value), string(l.Value))
	}
}

// TestATraceIsSentInEveryForm: the id that is printed is the one that the commands carry, the first of them.
func TestATraceIsSentInEveryForm(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	const traced = 128
	many := strings.Repeat(`{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}`+"\n", traced+1)
	for i, form := range []string{"--mode=binary", "--mode=structured"} {
		sent := s.ok(many, "send", "--trace", form)
		_, after, found := strings.Cut(sent, "; trace ")
		require.True(t, found, sent)
		id, rest, _ := strings.Cut(after, " ")
		require.Len(t, id, 32)
		require.Equal(t, "has the first 128\n", rest)
		carry := 0
		for line := range strings.Lines(s.ok("", "tail", "commands", fmt.Sprintf("--from=-%d", traced+1))) {
			if strings.Contains(line, `"traceparent":"00-`+id+`-`) {
				carry++
				require.Equal(t, i == 1, strings.Contains(line, `"attributes"`), line)
			}
		}
		require.Equal(t, traced, carry, form)
	}
	require.NotContains(t, s.ok(many, "send"), "trace")
}

// TestASendIsTheRootOfItsTrace: the commands hang on a span that a collector gets, with what became of the send.
func TestASendIsTheRootOfItsTrace(t *testing.T) {
	s := newShell(t)
	receiver := telemetrytest.Start(t)
	t.Setenv("LOTLINE_OTLP_ENDPOINT", receiver.URL)
	const line = `{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}` + "\n"
	code, _, stderr := run(t, line, "send", "--trace", "--timeout=1s")
	require.Equal(t, 1, code, stderr)
	spans := receiver.Spans()
	require.Len(t, spans, 1)
	require.Contains(t, spans[0].Error, "the topic lotline.commands does not exist")
	require.Equal(t, "0", spans[0].Attributes["messaging.batch.message_count"])
	receiver.Forget()

	s.ok("", "topics", "apply")
	s.ok(line, "send")
	require.Empty(t, receiver.Spans(), "nobody asked for a trace")
	sent := s.ok(line+line, "send", "--trace")
	spans = receiver.Spans()
	require.Len(t, spans, 1)
	root := spans[0]
	require.Equal(t, []string{"lotline-cli", "send lotline.commands", "PRODUCER", "", ""}, []string{root.Service, root.Name, root.Kind, root.Parent, root.Error})
	require.Equal(t, "2", root.Attributes["messaging.batch.message_count"])
	require.Contains(t, sent, "; trace "+root.Trace+" has the first 2\n")
	require.Equal(t, 2, strings.Count(s.ok("", "tail", "commands"), `"traceparent":"00-`+root.Trace+"-"+root.ID+`-01"`))

	t.Setenv("LOTLINE_OTLP_ENDPOINT", "http://127.0.0.1:1")
	code, stdout, stderr := run(t, line, "send", "--trace")
	require.Zero(t, code, "a collector that is away is no reason not to send")
	require.Contains(t, stdout, "sent 1 commands")
	require.Contains(t, stderr, "the collector does not take spans")
	t.Setenv("LOTLINE_OTLP_ENDPOINT", "127.0.0.1:1")
	code, _, stderr = run(t, line, "send", "--trace")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "--otlp-endpoint must be a URL of the form http://host:port")
}

func TestABadLineStopsTheSendWithItsNumberAndASentence(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	lines := strings.SplitAfter(commands, "\n")
	bad := lines[0] + lines[1] + `{"type":"Allocate","id":"c-x","orderid":"o-1","sku":"LAMP","qty":1e30}` + "\n" + lines[2]

	code, stdout, stderr := run(t, bad, "send")
	require.Equal(t, 1, code)
	golden(t, "send_bad.txt", stdout+stderr)
	require.Equal(t, 2, strings.Count(s.ok("", "tail", "commands"), "\n"))

	require.Contains(t, s.ok(lines[0]+lines[1]+lines[1]+lines[2], "send", "--from-line=3"), "sent 2 commands")

	code, stdout, stderr = run(t, bad, "send", "--skip-bad")
	require.Zero(t, code)
	golden(t, "send_skip_bad.txt", stdout+stderr)
	require.NotContains(t, s.ok("", "tail", "commands"), "c-x")

	code, stdout, _ = run(t, bad+"\xff\xfe\n"+`{"id":"`+strings.Repeat("x", 256)+`","type":"Deallocate","orderid":"o","sku":"S"}`, "send", "--send-bad")
	require.Zero(t, code)
	require.Contains(t, stdout, "sent 6 commands")
	require.Contains(t, stdout, "; 3 bad lines, as they are sent")
	out := s.ok("", "tail", "commands")
	require.Contains(t, out, `"error":"qty 1e30 is not a whole number`)
	require.Contains(t, out, `"raw_base64":"//4="`)
	require.Contains(t, out, "the header ce_id is 256 bytes long")
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
		{2, `expected one of "send", "tail", "topics", "dlq", "offsets"`, nil},
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
}

func TestAnInterruptedSendSaysWhatItDid(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, errOut bytes.Buffer
	// A producer that never ends, until its reader is interrupted.
	in := endless{line: strings.SplitAfter(commands, "\n")[1], after: 1000, then: interrupt}
	code := cli.Main(ctx, []string{"send"}, &in, &out, &errOut)
	require.Equal(t, 1, code)
	require.Contains(t, errOut.String(), "interrupted")
	require.Regexp(t, `^sent \d+ commands in`, out.String())
}

type endless struct {
	line  string
	after int
	then  func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.after--; e.after == 0 {
		e.then()
	}
	return copy(p, e.line), nil
}

func TestManyCommandsKeepTheirOrderBySKU(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	var in strings.Builder
	const n, skus = 20_000, 20
	for i := range n {
		fmt.Fprintf(&in, `{"type":"Allocate","id":"c-%d","orderid":"o-%d","sku":"SKU-%d","qty":1}`+"\n", i, i, i%skus)
	}
	require.Contains(t, s.ok(in.String(), "send", "--in-flight-max=500"), "sent 20000 commands")

	next := map[string]int{}
	out := s.ok("", "tail", "commands")
	require.Equal(t, n, strings.Count(out, "\n"))
	for l := range strings.Lines(out) {
		var got struct {
			Key     string
			Headers map[string]string
		}
		require.NoError(t, json.Unmarshal([]byte(l), &got))
		var sku int
		_, err := fmt.Sscanf(got.Key, "SKU-%d", &sku)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("c-%d", sku+skus*next[got.Key]), got.Headers["ce_id"])
		next[got.Key]++
	}
	require.Len(t, next, skus)
}
