// Command servers starts real servers in a temporary directory and runs a command under them:
//
//	go run ./tests/cmd/servers --postgres --clickhouse --redis --kafka -- go test -tags integration ./...
//
// The command finds them in LOTLINE_TEST_POSTGRES (a superuser's URL), LOTLINE_TEST_CLICKHOUSE and
// LOTLINE_TEST_CLICKHOUSE_HTTP (host:port), LOTLINE_TEST_REDIS (host:port), and LOTLINE_TEST_KAFKA (brokers);
// LOTLINE_TEST_CLICKHOUSE_DATA is the directory of ClickHouse's files, and LOTLINE_TEST_KAFKA_JVM the options of Apache Kafka's JVM. Its exit code is the command's. Without a command it prints the variables and waits for Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/servers"
)

type flags struct {
	Postgres   bool     `help:"Start Postgres."`
	Setting    []string `name:"postgres-setting" sep:"none" help:"A setting of Postgres, such as shared_buffers=1GB; may be repeated." placeholder:"NAME=VALUE"`
	ClickHouse bool     `name:"clickhouse" help:"Start ClickHouse."`
	Kafka      bool     `help:"Start Apache Kafka (needs a JVM)." xor:"kafka"`
	Kfake      bool     `help:"Start kfake in its place: a Kafka in Go, without a JVM." xor:"kafka"`
	Redis      bool     `help:"Start Redis."`
	Long       bool     `help:"They are to run for long, as a deployment's or a benchmark's do: Apache Kafka's JVM compiles well what it does often, and has a larger heap. Otherwise it compiles quickly, for tests that take minutes."`
	Data       string   `help:"Keep the servers' data in this directory instead of a temporary one." type:"path"`
	Command    []string `arg:"" optional:"" passthrough:"" help:"What to run under them, after --."`
}

func main() {
	servers.Init()
	var f flags
	kong.Parse(&f, kong.Name("servers"), kong.Description("Runs a command under real servers."))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := f.run(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func (f flags) run(ctx context.Context) (err error) {
	dir, clickHouse := f.Data, f.Data
	if dir == "" {
		if dir, err = os.MkdirTemp("", prefix); err != nil {
			return fmt.Errorf("make a directory for the servers: %w", err)
		}
		defer os.RemoveAll(dir)
		clickHouse = dir
		if f.ClickHouse {
			sweep(memory)
			clickHouse = makeDir(memory, hasRoom(), dir)
			defer os.RemoveAll(clickHouse)
		}
	}
	release, err := servers.Hold(dir, fmt.Sprintf("other servers run in %s: stop them, or name another directory with --data", dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	running, err := f.start(ctx, dir, clickHouse)
	defer func() { err = errors.Join(err, stop(running)) }()
	if err != nil {
		return err
	}
	env := environment(running)
	if f.ClickHouse {
		env = append(env, "LOTLINE_TEST_CLICKHOUSE_DATA="+filepath.Join(clickHouse, "clickhouse"))
	}
	if f.Kafka {
		env = append(env, "LOTLINE_TEST_KAFKA_JVM="+strings.Join(servers.KafkaJVM(f.Long), " "))
	}
	if len(f.Command) == 0 {
		for _, variable := range env {
			name, value, _ := strings.Cut(variable, "=")
			fmt.Printf("export %s='%s'\n", name, value)
		}
		<-ctx.Done()
		return nil
	}
	command := f.Command
	if command[0] == "--" {
		command = command[1:]
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// start starts what was asked for side by side; what is running is returned with an error too.
func (f flags) start(ctx context.Context, dir, clickHouse string) ([]*servers.Server, error) {
	var (
		mu      sync.Mutex
		running []*servers.Server
		group   errgroup.Group
	)
	for _, kind := range []struct {
		wanted bool
		name   string
		dir    string
		start  func(context.Context, servers.Options) (*servers.Server, error)
	}{
		{f.Postgres, "postgres", dir, servers.StartPostgres},
		{f.ClickHouse, "clickhouse", clickHouse, servers.StartClickHouse},
		{f.Redis, "redis", dir, servers.StartRedis},
		{f.Kafka, "kafka", dir, servers.StartKafka},
		{f.Kfake, "kfake", dir, servers.StartKfake},
	} {
		if !kind.wanted {
			continue
		}
		group.Go(func() error {
			s, err := kind.start(ctx, servers.Options{DataDir: filepath.Join(kind.dir, kind.name), Settings: f.Setting, Long: f.Long})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			running = append(running, s)
			return nil
		})
	}
	err := group.Wait()
	return running, err
}

func environment(running []*servers.Server) []string {
	var env []string
	for _, s := range running {
		switch s.Name {
		case "postgres":
			env = append(env, "LOTLINE_TEST_POSTGRES="+s.DSN)
		case "clickhouse":
			env = append(env, "LOTLINE_TEST_CLICKHOUSE="+s.Addr, "LOTLINE_TEST_CLICKHOUSE_HTTP="+s.HTTPAddr)
		case "redis":
			env = append(env, "LOTLINE_TEST_REDIS="+s.Addr)
		case "kafka", "kfake":
			env = append(env, "LOTLINE_TEST_KAFKA="+s.Addr)
		}
	}
	return env
}

func stop(running []*servers.Server) error {
	var group errgroup.Group
	for _, s := range running {
		group.Go(s.Stop)
	}
	return group.Wait()
}
