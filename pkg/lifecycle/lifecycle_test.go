package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/stretchr/testify/require"
)

type config struct {
	Kafka    kafkaclient.Config `embed:"" prefix:"kafka-"`
	Sessions int                `help:"How many." default:"2"`
}

func (c config) Validate() error {
	var err error
	if c.Sessions < 1 {
		err = errors.New("sessions must be 1 or more")
	}
	return errors.Join(c.Kafka.Validate(), err)
}

func run(t *testing.T, args []string, f func(context.Context, config) error) (code int, stdout, stderr string) {
	t.Helper()
	before := slog.Default()
	defer slog.SetDefault(before)
	var out, errOut bytes.Buffer
	code = execute(t.Context(), "thing", "Does a thing.", args, &out, &errOut, service("thing", f))
	return code, out.String(), errOut.String()
}

func TestInATerminalAnErrorIsPrintedAsItIs(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	var errOut bytes.Buffer
	failing := func(context.Context, config) error { return errors.New("port 1 is taken\nport 2 is taken") }
	require.Equal(t, 1, execute(t.Context(), "thing", "Does a thing.", nil, &errOut, &errOut, inTerminal(&errOut, "thing", failing)))
	require.Equal(t, "thing: port 1 is taken\nport 2 is taken\n", errOut.String())
}

func TestFlagsAndEnvironmentHaveTheSameNames(t *testing.T) {
	t.Setenv("LOTLINE_KAFKA_BROKERS", "a:1,b:2")
	t.Setenv("LOTLINE_SESSIONS", "3")
	var got config
	code, _, stderr := run(t, []string{"--kafka-topic-prefix", "p", "--sessions=4"}, func(_ context.Context, c config) error {
		got = c
		slog.Info("inside")
		return nil
	})
	require.Zero(t, code)
	require.Equal(t, config{kafkaclient.Config{Brokers: []string{"a:1", "b:2"}, TopicPrefix: "p", SASLMechanism: "SCRAM-SHA-512"}, 4}, got)
	require.Contains(t, stderr, `"level":"INFO","msg":"inside","service":"thing"`)
}

func TestExitCodes(t *testing.T) {
	never := func(context.Context, config) error { t.Error("must not run"); return nil }

	code, _, stderr := run(t, nil, func(context.Context, config) error { return errors.New("no database") })
	require.Equal(t, 1, code)
	require.Contains(t, stderr, `"error":"no database"`)

	code, _, stderr = run(t, []string{"--sessions=0", "--kafka-brokers=x"}, never)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "sessions must be 1 or more", "all faults are named")
	require.Contains(t, stderr, `"x" is not an address`)
	require.Contains(t, stderr, "See thing --help.")

	code, _, stderr = run(t, []string{"--sesions=1"}, never)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "did you mean")

	code, stdout, _ := run(t, []string{"--help"}, never)
	require.Zero(t, code)
	require.Contains(t, stdout, "Does a thing.")
	require.Contains(t, stdout, "$LOTLINE_KAFKA_BROKERS")
	require.Contains(t, strings.Join(strings.Fields(stdout), " "), "or PLAIN, which needs TLS. Default: SCRAM-SHA-512 ($LOTLINE_KAFKA_SASL_MECHANISM).", "though a placeholder stands there")
}

func TestLogLevel(t *testing.T) {
	_, _, stderr := run(t, []string{"--log-level=warn"}, func(context.Context, config) error {
		slog.Info("quiet")
		slog.Warn("loud")
		return nil
	})
	require.NotContains(t, stderr, "quiet")
	require.Contains(t, stderr, "loud")
}

// TestSignals runs this test's binary as a process of Main.
func TestSignals(t *testing.T) {
	if mode := os.Getenv("LIFECYCLE_TEST"); mode != "" {
		os.Args = os.Args[:1]
		Main("thing", "", func(ctx context.Context, _ config) error {
			os.Stdout.WriteString("running\n")
			<-ctx.Done()
			if mode == "hang" {
				os.Stdout.WriteString("hanging\n")
				select {}
			}
			return nil
		})
	}
	start := func(mode string) (*exec.Cmd, func(line string)) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestSignals")
		cmd.Env = append(os.Environ(), "LIFECYCLE_TEST="+mode)
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		return cmd, func(line string) {
			got := make([]byte, len(line)+1)
			_, err := out.Read(got)
			require.NoError(t, err)
			require.Equal(t, line+"\n", string(got))
		}
	}

	cmd, expect := start("graceful")
	expect("running")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "one signal: exit code 0")

	cmd, expect = start("hang")
	expect("running")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	expect("hanging")
	time.Sleep(50 * time.Millisecond) // the default effect is restored beside run
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.ErrorContains(t, cmd.Wait(), "signal: interrupt")
}
