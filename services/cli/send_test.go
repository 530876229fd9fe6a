package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/pkg/telemetry/telemetrytest"
	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/services/cli/internal/commandfile"
)

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

// Of a line that is too long, or that is no CSV, nothing is left to be sent as it is.
func TestBadLinesThatCannotBeSentAreNotCountedAsSent(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	long := `{"type":"` + strings.Repeat("x", commandfile.MaxLineBytes) + `"}`
	code, stdout, stderr := run(t, commands+long+"\nnonsense\n", "send", "--send-bad")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "sent 5 commands")
	require.Contains(t, stdout, "; 1 bad lines, as they are sent; 1 bad lines, not sent\n")
	require.Contains(t, stderr, "line 5: it is longer than")

	code, stdout, stderr = run(t, "orderid,sku,qty\no-1,LAMP,3\no-1,LAMP\n", "send", "--send-bad", "--format=csv", "--type=Allocate")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "sent 1 commands")
	require.NotContains(t, stdout, "as they are sent")
	require.Contains(t, stdout, "; 1 bad lines, not sent\n")
	require.Equal(t, 6, strings.Count(s.ok("", "tail", "commands"), "\n"))
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

// Whoever goes on behind a bad line leaves out what is above it, so that has to be there.
func TestWhatIsAboveABadLineWasSentOnlyIfItWas(t *testing.T) {
	newShell(t) // without topics
	code, stdout, stderr := run(t, `{"type":"Allocate","id":"a-1","orderid":"o-1","sku":"S","qty":1}
{"type":"Allocate","id":"a-2","orderid":"o-2","sku":"S","qty":"x"}
`, "send")
	require.Equal(t, 1, code)
	require.Contains(t, stdout, "sent 0 commands")
	require.Contains(t, stderr, "line 2: ")
	require.Contains(t, stderr, "the topic lotline.commands does not exist")
	require.NotContains(t, stderr, "was sent")
}

// Where bad lines are left out, a quote that is left open would leave out all that follows as one of them.
func TestAnOpenQuoteSwallowsNoOrders(t *testing.T) {
	s := newShell(t)
	s.ok("", "topics", "apply")
	for name, lines := range map[string]struct{ content, want string }{
		"to the end":       {"Allocate,a-1,\"o-1,S,1\nAllocate,a-2,o-2,S,1\nAllocate,a-3,o-3,S,1\n", "lines 3 to 5 are one record"},
		"to the next mark": {"Allocate,a-1,\"o-1,S,1\nAllocate,a-2,o-2,S,1\nAllocate,a-3,\"o-3\",S,1\n", "lines 3 to 5 are one record"},
		"to a closed cell": {"Allocate,a-1,\"o-1,S,1\nAllocate,a-2,o-2,S,\"\nAllocate,a-3,o-3,S,1\n", "lines 3 to 4 are one record"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, "type,id,orderid,sku,qty\nAllocate,a-0,o-0,S,1\n"+lines.content, "send", "--format=csv", "--skip-bad")
			require.Equal(t, 1, code)
			require.Contains(t, stderr, lines.want)
			require.Contains(t, stdout, "sent 1 commands")
		})
	}
}

// Whoever pipes commands in may have nothing to say for a long time.
func TestSendEndsWhileItsInputIsIdle(t *testing.T) {
	for name, end := range map[string]struct {
		topics bool
		want   string
	}{"interrupted": {true, "interrupted"}, "failed": {false, "the topic lotline.commands does not exist"}} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t)
			if end.topics {
				s.ok("", "topics", "apply")
			}
			in, out := io.Pipe()
			defer out.Close()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			var stdout, stderr bytes.Buffer
			code := make(chan int, 1)
			go func() { code <- cli.Main(ctx, []string{"send"}, in, &stdout, &stderr) }()
			_, err := out.Write([]byte(`{"type":"Allocate","id":"a-1","orderid":"o-1","sku":"S","qty":1}` + "\n"))
			require.NoError(t, err)
			if end.topics {
				interrupt()
			}
			select {
			case got := <-code:
				require.NotZero(t, got)
				require.Contains(t, stderr.String(), end.want)
			case <-time.After(15 * time.Second):
				require.Fail(t, "it goes on")
			}
		})
	}
}

// A broker that takes requests and dies before it answers, again and again.
func TestSendGivesUpOnABrokerThatNeverAnswers(t *testing.T) {
	s := newDLQShell(t)
	s.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.fake.KeepControl()
		return nil, errors.New("gone"), true
	})
	type result struct {
		code           int
		stdout, stderr string
	}
	done := make(chan result, 1)
	go func() {
		var stdout, stderr bytes.Buffer
		in := strings.NewReader(strings.Repeat(`{"type":"Allocate","orderid":"o-1","sku":"S","qty":1}`+"\n", 100))
		code := cli.Main(t.Context(), []string{"send", "--timeout=1s", "--in-flight-max=10"}, in, &stdout, &stderr)
		done <- result{code, stdout.String(), stderr.String()}
	}()
	select {
	case got := <-done:
		require.Equal(t, 1, got.code)
		require.Contains(t, got.stdout, "sent 0 commands")
		require.Contains(t, got.stderr, "acknowledge")
	case <-time.After(30 * time.Second):
		require.Fail(t, "it goes on")
	}
}
