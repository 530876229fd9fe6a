//go:build integration

package clients

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/internal/cache"
)

const (
	prepareWithin = 2 * time.Minute // after what is fetched was fetched
	produceWithin = time.Minute
	stopWithin    = 20 * time.Second
	awaitWithin   = time.Minute
	lookEvery     = 100 * time.Millisecond
)

// fewSKUs are enough for a form in which commands are sent beside the usual one.
const fewSKUs = 20

// language is how a language's programs are started, as the README says.
type language struct {
	name      string
	dir       string
	producers []producer
	consumer  []string
	database  func(url string) string // the form in which its driver wants the URL
}

// producer is a program that sends commands, and those that it is given.
type producer struct {
	command []string
	workload
}

// languages fetch what each needs into the cache, check and compile the sources, and say how to start them.
var languages = map[string]func(t *testing.T, out string) language{
	"python": python, "typescript": typescript, "java": java,
}

func python(t *testing.T, out string) language {
	packages, err := pythonPackages(t.Context())
	require.NoError(t, err)
	venv := fetch(t, packages, "venv/bin")
	run(t, "python", filepath.Join(venv, "ruff"), "check", "--no-cache")
	run(t, "python", filepath.Join(venv, "ruff"), "format", "--no-cache", "--diff")
	interpreter := filepath.Join(venv, "python")
	run(t, "../../schemas/proto", interpreter, "-m", "grpc_tools.protoc", "-I.", "--python_out="+out,
		"lotline/command/v1/command.proto", "lotline/event/v1/event.proto")
	return language{
		name: "python", dir: "python",
		producers: []producer{
			{[]string{interpreter, "-B", "producer.py"}, makeWorkload(t, "python", skus()).withUnreadable(t)},
			{[]string{"env", "PYTHONPATH=" + out, interpreter, "-B", "protobuf_producer.py"}, makeWorkload(t, "python protobuf", skus()[:fewSKUs])},
		},
		consumer: []string{interpreter, "-B", "consumer.py"},
		database: func(url string) string { return url },
	}
}

func typescript(t *testing.T, out string) language {
	modules := fetch(t, typescriptPackages(), "node_modules")
	require.NoError(t, os.CopyFS(out, os.DirFS("typescript")))
	require.NoError(t, os.RemoveAll(filepath.Join(out, "node_modules"))) // of somebody who tried the example in place
	require.NoError(t, os.Symlink(modules, filepath.Join(out, "node_modules")))
	run(t, out, "node_modules/.bin/tsc")
	return language{
		name: "typescript", dir: out,
		producers: []producer{
			{[]string{"node", "dist/producer.js"}, makeWorkload(t, "typescript", skus()).withUnreadable(t)},
			{[]string{"node", "dist/producer.js", "--structured"}, makeWorkload(t, "typescript structured", skus()[:fewSKUs]).withUnreadable(t)},
		},
		consumer: []string{"node", "dist/consumer.js"},
		database: func(url string) string { return url },
	}
}

func java(t *testing.T, out string) language {
	jars := fetch(t, javaPackages(), "libs")
	classpath := out + ":" + filepath.Join(jars, "*")
	run(t, "java", "javac", "-J-XX:TieredStopAtLevel=1", "-Xlint:all", "-Werror", "--release", "17", "-cp", classpath, "-d", out, "Producer.java", "Consumer.java")
	// Programs this short spend most of their time on optimizing themselves.
	jvm := []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath}
	return language{
		name: "java", dir: "java",
		producers: []producer{
			{append(slices.Clip(jvm), "Producer"), makeWorkload(t, "java", skus()).withUnreadable(t)},
		},
		consumer: append(slices.Clip(jvm), "Consumer"),
		database: func(address string) string { return jdbc(t, address) },
	}
}

// jdbc is the URL in the form of Java's driver, which wants the user as a parameter.
func jdbc(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	query := u.Query()
	query.Set("user", u.User.Username())
	if password, ok := u.User.Password(); ok {
		query.Set("password", password)
	}
	u.User, u.RawQuery = nil, query.Encode()
	return "jdbc:" + strings.Replace(u.String(), "postgres://", "postgresql://", 1)
}

// fetch returns a part of a cached folder.
func fetch(t *testing.T, folder cache.Folder, part string) string {
	t.Helper()
	require.NoError(t, folder.CheckTools())
	dir, err := folder.Dir(t.Context())
	require.NoError(t, err)
	return filepath.Join(dir, part)
}

// run runs a command that checks or builds, and fails the test with what it printed.
func run(t *testing.T, dir, command string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), prepareWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", command, strings.Join(args, " "), out)
}

// process is a client's program while it runs.
type process struct {
	cmd  *exec.Cmd
	log  bytes.Buffer  // to be read once done is closed
	done chan struct{} // closed when it has ended
}

// start starts a program that ends with the test at the latest.
func start(t *testing.T, dir string, command, environment []string, stdin string) *process {
	t.Helper()
	p := &process{done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), command[0], command[1:]...)
	p.cmd.Dir, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = dir, strings.NewReader(stdin), &p.log, &p.log
	p.cmd.Env = append(os.Environ(), environment...)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // ProcessState has the exit code
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.done
}

// await waits until something is reached while the program runs; reached says what is missing, or "".
func (p *process) await(t *testing.T, reached func() string) {
	t.Helper()
	deadline := time.After(awaitWithin)
	for missing := reached(); missing != ""; missing = reached() {
		select {
		case <-p.done:
			require.Fail(t, "a client ended by itself", "%s\n%s", missing, &p.log)
		case <-deadline:
			p.kill()
			require.Fail(t, "a client does not go on", "%s\n%s", missing, &p.log)
		case <-time.After(lookEvery):
		}
	}
}

// askToStop sends the signal with which an orchestrator ends a program.
func (p *process) askToStop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// stopped waits until the program took its leave.
func (p *process) stopped(t *testing.T) {
	t.Helper()
	code := p.exit(t, stopWithin)
	// A JVM that has run its shutdown hooks still reports the signal.
	require.Contains(t, []int{0, 128 + int(syscall.SIGTERM)}, code, "exit code\n%s", &p.log)
}

// exit waits for the program's end.
func (p *process) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.kill()
		require.Fail(t, "a client did not end", "within %s\n%s", within, &p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}
