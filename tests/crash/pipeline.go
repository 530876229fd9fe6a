package crash

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/verify"
	"github.com/lotline/lotline/topics"
)

// pipeline is one installation: its own topics and databases, and the processes that run on them.
type pipeline struct {
	target  verify.Target
	servers Servers
	name    string
	bin     string
	dir     string
	out     io.Writer
	procs   map[string]*exec.Cmd // "allocator a"
	adm     *kadm.Client
}

func newPipeline(ctx context.Context, servers Servers, bin string, out io.Writer) (*pipeline, error) {
	name := "crash" + strings.ToLower(rand.Text()[:10])
	u, err := url.Parse(servers.PostgresURL)
	if err != nil {
		return nil, fmt.Errorf("parse LOTLINE_TEST_POSTGRES: %w", err)
	}
	u.Path = "/" + name
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return nil, fmt.Errorf("make a folder for logs: %w", err)
	}
	p := &pipeline{
		servers: servers, name: name, bin: bin, dir: dir, out: out, procs: make(map[string]*exec.Cmd),
		target: verify.Target{
			Kafka:       kafkaclient.Config{Brokers: []string{servers.Kafka}, TopicPrefix: name},
			PostgresURL: u.String(), ClickHouse: servers.ClickHouse, Database: name,
		},
	}
	client, err := kgo.NewClient(p.target.Kafka.Opts("crash")...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	p.adm = kadm.NewClient(client)
	if err := p.postgres(ctx, `CREATE DATABASE "`+name+`"`); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"topics", "apply", "--kafka-replication=1"}, {"migrate", "all"}} {
		if output, err := p.command(ctx, "lotline", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("lotline %s: %w: %s", strings.Join(args, " "), err, output)
		}
	}
	return p, nil
}

func (p *pipeline) postgres(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.servers.PostgresURL)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// close ends the processes and drops what the installation made. The logs stay if a process left any.
func (p *pipeline) close() {
	_ = p.killAll() // after an error; whoever wants to know has asked
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	set := topics.Declared(p.name)
	_, kafkaErr := p.adm.DeleteTopics(ctx, set.Commands.Name, set.Events.Name, set.DeadLetters.Name)
	postgresErr := p.postgres(ctx, `DROP DATABASE "`+p.name+`" WITH (FORCE)`)
	if err := errors.Join(kafkaErr, postgresErr, p.dropClickHouse(ctx)); err != nil {
		fmt.Fprintln(p.out, "clean up:", err)
	}
	p.adm.Close()
	p.removeEmptyLogs()
}

func (p *pipeline) removeEmptyLogs() {
	logs, _ := filepath.Glob(filepath.Join(p.dir, "*.log"))
	for _, log := range logs {
		if info, err := os.Stat(log); err != nil || info.Size() > 0 {
			return
		}
	}
	if err := os.RemoveAll(p.dir); err != nil {
		fmt.Fprintln(p.out, "clean up:", err)
	}
}

func (p *pipeline) dropClickHouse(ctx context.Context) error {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.servers.ClickHouse}})
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(ctx, `DROP DATABASE IF EXISTS `+p.name)
}

// command is one of the project's binaries with the installation's settings in its environment.
func (p *pipeline) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...)
	cmd.Env = append(os.Environ(),
		"LOTLINE_KAFKA_BROKERS="+p.servers.Kafka,
		"LOTLINE_KAFKA_TOPIC_PREFIX="+p.name,
		"LOTLINE_POSTGRES_URL="+p.target.PostgresURL,
		"LOTLINE_CLICKHOUSE_ADDRS="+p.target.ClickHouse,
		"LOTLINE_CLICKHOUSE_DATABASE="+p.name,
		"LOTLINE_ADMIN_ADDR=",
	)
	return cmd
}

func (p *pipeline) start(ctx context.Context, program, instance string, args ...string) error {
	logPath := filepath.Join(p.dir, program+"-"+instance+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", program, err)
	}
	defer log.Close()
	if program == "allocator" {
		args = append(args, "--instance-id="+instance)
	}
	cmd := p.command(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	p.procs[program+" "+instance] = cmd
	return nil
}

// kill ends a process, such as "allocator a", as a crash does. A process that had ended by itself is a fault of its own.
func (p *pipeline) kill(name string) error {
	cmd := p.procs[name]
	delete(p.procs, name)
	// Neither says whether it still ran: until it is waited for, a child that has ended can be killed.
	_, _ = cmd.Process.Kill(), cmd.Wait()
	if ended := cmd.ProcessState.String(); ended != "signal: killed" {
		return fmt.Errorf("%s was not running any more (%s), see %s", name, ended, p.dir)
	}
	return nil
}

// killAll ends all processes as kill does.
func (p *pipeline) killAll() (err error) {
	for name := range p.procs {
		err = errors.Join(err, p.kill(name))
	}
	return err
}

// send pipes lines into `lotline send`.
func (p *pipeline) send(ctx context.Context, lines []string) error { return p.sendOver(ctx, lines, 0) }

// sendOver is send of lines that come evenly over a while. Exit code 1 says that unreadable lines were sent as they are.
func (p *pipeline) sendOver(ctx context.Context, lines []string, while time.Duration) error {
	cmd := p.command(ctx, "lotline", "send", "--send-bad", "--format=ndjson", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if while > 0 {
		cmd.Stdin = &paced{Reader: cmd.Stdin, until: time.Now().Add(while), left: len(lines)}
	}
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return fmt.Errorf("lotline send: %w: %s", err, output)
	}
	return nil
}

// lineBytes is about the length of a workload's line.
const lineBytes = 100

// paced reads lines so that the last comes at a time.
type paced struct {
	io.Reader

	until time.Time
	left  int
}

func (p *paced) Read(b []byte) (int, error) {
	time.Sleep(time.Until(p.until) / time.Duration(max(p.left, 1)))
	n, err := p.Reader.Read(b[:min(len(b), lineBytes)])
	p.left -= bytes.Count(b[:n], []byte("\n"))
	return n, err
}

// warm waits until the allocators share the partitions and work: one command goes through.
func (p *pipeline) warm(ctx context.Context) error {
	if err := p.send(ctx, []string{`{"type":"CreateBatch","id":"warm","ref":"warm","sku":"WARM-UP","qty":1,"eta":null}`}); err != nil {
		return err
	}
	_, err := p.awaitPublished(ctx, time.Now())
	if err != nil {
		return err
	}
	group, members := topics.Declared(p.name).AllocatorGroup, 2*allocator.DefaultConfig().Sessions
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		groups, err := p.adm.DescribeGroups(ctx, group)
		if err == nil && groups[group].State == "Stable" && len(groups[group].Members) == members {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the allocators have not formed a group of %d members within 30 s, see %s", members, p.dir)
}

// awaitPublished waits until everything sent so far is published, and returns how long after since that was.
func (p *pipeline) awaitPublished(ctx context.Context, since time.Time) (time.Duration, error) {
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	commands := topics.Declared(p.name).Commands.Name
	for {
		published, err := verify.Published(waiting, p.target, p.adm)
		ends, errEnds := p.adm.ListEndOffsets(waiting, commands)
		if err = errors.Join(err, errEnds); err == nil {
			done := true
			ends.Each(func(end kadm.ListedOffset) {
				done = done && published[end.Partition] >= end.Offset
			})
			if done {
				return time.Since(since), nil
			}
		}
		select {
		case <-waiting.Done():
			return 0, fmt.Errorf("not everything was published within a minute, see %s: %w", p.dir, errors.Join(err, waiting.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
