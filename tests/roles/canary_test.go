//go:build integration

package roles

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/stack"
)

const (
	startsWithin = 30 * time.Second
	lookEvery    = 50 * time.Millisecond
)

// canary is an installation in which every password is the same word, that may not be seen anywhere.
type canary struct {
	*testing.T
	word string
	bin  string
	env  map[string]string // settings with which everything works
	seen map[string]string // what was printed or answered, by where
}

// TestNoSecretIsEverShown gives every part of a running pipeline, and the operator's command, the same word for every
// password, makes each of them fail in every way that it can, and looks for the word in all that they print and answer.
func TestNoSecretIsEverShown(t *testing.T) {
	c := newCanary(t)
	c.pipeline()
	c.services()
	c.operator()

	require.Contains(t, leaks(map[string]string{"here": "dial " + c.word}, c.word), "here", "the search itself finds nothing")
	require.Greater(t, len(c.seen), 60, "what was looked at")
	require.Empty(t, leaks(c.seen, c.word))
}

// leaks returns the texts in which a secret is, as it is or in a form that somebody could read back.
func leaks(seen map[string]string, secret string) map[string]string {
	found := make(map[string]string)
	for where, text := range seen {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))} {
			if at := strings.Index(strings.ToLower(text), strings.ToLower(form)); at >= 0 {
				found[where] = text[max(0, at-200):min(len(text), at+len(form)+200)]
			}
		}
	}
	return found
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{T: t, word: "canary" + rand.Text()[:15], bin: t.TempDir(), seen: make(map[string]string)} // a length without padding in base64
	build := exec.Command("go", "build", "-o", c.bin+"/", "./services/allocator/cmd/allocator", "./services/projector/cmd/projector", "./services/gateway/cmd/gateway", "./services/cli/cmd/lotline")
	build.Dir = "../.."
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)

	secret := secretFile(t, c.word)
	ch, pg := startClickHouseWith(t, func() string { return c.word }), startPostgres(t)
	authority := requireTLS(t, pg)
	execute(t, pg, "postgres", "CREATE DATABASE lotline")
	owner := inDatabase(t, pg.DSN, "lotline")
	_, err = allocator.Migrate(t.Context(), owner)
	require.NoError(t, err)
	for user, role := range map[string]string{"allocator_1": "lotline_allocator", "analyst": "lotline_bi", "migrator": "lotline_migrate"} {
		_, err := stack.Login(t.Context(), owner, user, role)
		require.NoError(t, err)
		execute(t, pg, "postgres", "ALTER ROLE "+user+" PASSWORD '"+c.word+"'")
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "everybody", c.word),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	c.env = map[string]string{
		"LOTLINE_KAFKA_BROKERS": strings.Join(kafka.ListenAddrs(), ","), "LOTLINE_KAFKA_SASL_USERNAME": "everybody", "LOTLINE_KAFKA_SASL_PASSWORD_FILE": secret,
		"LOTLINE_POSTGRES_URL":           fmt.Sprintf("postgres://allocator_1@%s/lotline?sslmode=verify-full&sslrootcert=%s", pg.Addr, authority),
		"LOTLINE_POSTGRES_PASSWORD_FILE": secret,
		"LOTLINE_CLICKHOUSE_ADDRS":       ch.Addr, "LOTLINE_CLICKHOUSE_USER": "lotline_migrate", "LOTLINE_CLICKHOUSE_PASSWORD_FILE": secret,
	}
	return c
}

// with is the environment of a process: what works, with some of it changed; a change to "" takes a variable away.
func (c *canary) with(change map[string]string) []string {
	environment := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range c.env {
		if _, changed := change[name]; !changed {
			environment = append(environment, name+"="+value)
		}
	}
	for name, value := range change {
		if value != "" {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}

// run waits for a process that ends by itself, and for it to say something.
func (c *canary) run(name, says string, change map[string]string, program string, args ...string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), startsWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Env = c.with(change)
	output, err := cmd.CombinedOutput()
	require.NoError(c, ctx.Err(), "%s did not end", name)
	var failed *exec.ExitError
	require.True(c, err == nil || errors.As(err, &failed), "%s: %v", name, err)
	require.Contains(c, strings.ToLower(string(output)), strings.ToLower(says), name)
	c.keep(name, string(output))
}

func (c *canary) keep(where, text string) {
	c.Helper()
	require.NotContains(c, c.seen, where)
	c.seen[where] = text
}

// process is a service that runs.
type process struct {
	cmd   *exec.Cmd
	admin string
	mu    sync.Mutex
	log   bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// start runs a service until it says that it is ready, or, if says is not empty, that in its readiness or its log.
func (c *canary) start(name, says string, change map[string]string, program string, args ...string) *process {
	c.Helper()
	port, err := ports.Free()
	require.NoError(c, err)
	p := &process{admin: fmt.Sprintf("http://127.0.0.1:%d", port)}
	p.cmd = exec.Command(filepath.Join(c.bin, program), append(args, fmt.Sprintf("--admin-addr=127.0.0.1:%d", port), "--log-level=debug")...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = c.with(change), p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(c, p.cmd.Start())
	c.Cleanup(func() { _ = p.cmd.Process.Kill() })
	require.EventuallyWithT(c, func(t *assert.CollectT) {
		response, err := http.Get(p.admin + "/readyz")
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		if says == "" {
			require.Equal(t, http.StatusOK, response.StatusCode, "%s", body)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Contains(t, strings.ToLower(string(body)+p.log.String()), strings.ToLower(says))
	}, startsWithin, lookEvery, name)
	return p
}

// end asks a service all that it answers, looks at its arguments, has it print every goroutine, and keeps it all.
func (c *canary) end(name string, p *process) {
	c.Helper()
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/nowhere", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/vars"} {
		c.ask(name, http.MethodGet, p.admin+path, "")
	}
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
	require.NoError(c, err)
	c.keep(name+" arguments", string(arguments))
	require.NoError(c, p.cmd.Process.Signal(syscall.SIGQUIT))
	require.Error(c, p.cmd.Wait())
	require.Contains(c, p.log.String(), "goroutine 1", "SIGQUIT shows what a panic would")
	c.keep(name+" log", p.log.String())
}

func (c *canary) ask(name, method, address, body string) {
	c.Helper()
	request, err := http.NewRequestWithContext(c.Context(), method, address, strings.NewReader(body))
	require.NoError(c, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(c, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(c, err)
	var headers bytes.Buffer
	require.NoError(c, response.Header.Write(&headers))
	c.keep(fmt.Sprintf("%s %s %s %.40s", name, method, request.URL.Path, body), response.Status+headers.String()+string(answer))
}

// pipeline works, is asked good and bad questions, and then ends.
func (c *canary) pipeline() {
	migrate := map[string]string{"LOTLINE_POSTGRES_URL": c.as("migrator")}
	c.run("topics apply", "lotline.commands", nil, "lotline", "topics", "apply", "--kafka-replication=1", "--log-level=debug")
	c.run("migrate", "clickhouse is up to date", migrate, "lotline", "migrate", "--log-level=debug")
	port, err := ports.Free()
	require.NoError(c, err)
	// One has its passwords from the environment.
	fromEnvironment := map[string]string{
		"LOTLINE_KAFKA_SASL_PASSWORD_FILE": "", "LOTLINE_KAFKA_SASL_PASSWORD": c.word,
		"LOTLINE_POSTGRES_PASSWORD_FILE": "", "LOTLINE_POSTGRES_PASSWORD": c.word,
	}
	processes := map[string]*process{
		"allocator": c.start("allocator", "", fromEnvironment, "allocator"),
		"projector": c.start("projector", "", map[string]string{"LOTLINE_CLICKHOUSE_USER": "lotline_writer"}, "projector"),
		"gateway":   c.start("gateway", "", map[string]string{"LOTLINE_CLICKHOUSE_USER": "lotline_reader"}, "gateway", fmt.Sprintf("--http-addr=127.0.0.1:%d", port)),
	}
	gateway := fmt.Sprintf("http://127.0.0.1:%d", port)
	for _, ask := range [][3]string{
		{http.MethodPost, "/add_batch", `{"ref":"b-1","sku":"TABLE","qty":10,"eta":null}`},
		{http.MethodPost, "/allocate", `{"orderid":"o-1","sku":"TABLE","qty":3}`},
		{http.MethodPost, "/allocate", `{"orderid":"o-1","sku":"NONE","qty":3}`},
		{http.MethodPost, "/allocate", `{`},
		{http.MethodPost, "/nowhere", ``},
		{http.MethodGet, "/allocate", ``},
		{http.MethodGet, "/allocations/none", ``},
		{http.MethodGet, "/commands/none", ``},
		{http.MethodGet, "/readyz", ``},
		{http.MethodGet, "/debug/pprof/cmdline", ``},
	} {
		c.ask("gateway's API", ask[0], gateway+ask[1], ask[2])
	}
	for name, p := range processes {
		c.end(name, p)
	}
}

// as is the Postgres URL for another user.
func (c *canary) as(user string) string {
	return strings.Replace(c.env["LOTLINE_POSTGRES_URL"], "allocator_1@", user+"@", 1)
}

const nobody = "127.0.0.1:1" // nobody listens there

// services fail in every way. What two of them do with the same code, one does.
func (c *canary) services() {
	kafka := c.kafkaFaults()
	for program, faults := range map[string][]fault{
		"allocator": append(c.postgresFaults(), kafka[:len(kafka)-1]...),
		"projector": append(c.clickHouseFaults()[:2], kafka[:len(kafka)-1]...), // the password refused, the server away
		"gateway":   slices.Concat(c.telemetryFaults(), c.clickHouseFaults(), kafka),
	} {
		for _, f := range faults {
			name := program + ", " + f.name
			if f.ends {
				c.run(name, f.says, f.change, program, "--admin-addr=", "--log-level=debug")
				continue
			}
			var args []string
			if program == "gateway" {
				args = append(args, "--http-addr=127.0.0.1:0")
			}
			c.end(name, c.start(name, f.says, f.change, program, args...))
		}
	}
}

// operator fails in every way.
func (c *canary) operator() {
	run := func(f fault, args ...string) {
		c.Helper()
		c.run(strings.Join(args, " ")+", "+f.name, f.says, f.change, "lotline", append(args, "--log-level=debug")...)
	}
	for _, f := range c.postgresFaults() {
		run(f, "migrate", "postgres")
		run(f, "verify")
	}
	for _, f := range c.clickHouseFaults() {
		if f.name == "ClickHouse without rights" {
			f.says = "was refused"
		}
		run(f, "migrate", "clickhouse")
	}
	for _, f := range c.kafkaFaults() {
		run(f, "topics", "diff")
	}
	run(fault{"a migration that is refused", "permission denied", map[string]string{"LOTLINE_POSTGRES_URL": c.as("analyst")}, true}, "migrate", "postgres")
	run(fault{"a flag that is none", "unknown flag", nil, true}, "verify", "--postgres-pasword")
}
