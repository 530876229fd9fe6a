package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel"
	store "github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/usage"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/topics"
)

// projectedWithin is more than any wait for the projector takes.
const projectedWithin = 2 * time.Minute

type bench struct {
	flags
	binary  string
	servers []usage.Process // whose CPU time is told
	report  *report.Report
}

func buildProjector(ctx context.Context) (binary string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "lotline-bench-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	binary = filepath.Join(dir, "projector")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/lotline/lotline/services/projector/cmd/projector")
	if out, err := build.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("build the projector: %w: %s", err, out)
	}
	return binary, remove, nil
}

// clickHouseVersion asks the server.
func clickHouseVersion(ctx context.Context, addr string) (version string, err error) {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{addr}})
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, "SELECT version()").Scan(&version)
	return version, errors.Join(err, conn.Close())
}

// site is a database and topics of one measurement.
type site struct {
	*bench
	prefix string
	cfg    clickhouseclient.Config
	conn   driver.Conn
	client *kgo.Client
	admin  *kadm.Client
	topic  string
	group  string
	// projector is the one that was started last; nil: none was
	projector *process
}

func (b *bench) newSite(ctx context.Context) (*site, error) {
	s := &site{bench: b, prefix: "b" + strings.ToLower(rand.Text()[:12])}
	s.cfg = clickhouseclient.Config{Addrs: []string{b.ClickHouse}, Database: s.prefix, User: "default"}
	if err := store.Migrate(ctx, s.cfg, store.Layout{}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: s.cfg.Addrs, Auth: clickhouse.Auth{Database: s.prefix, Username: "default"}})
	if err != nil {
		return nil, err
	}
	kafka := kafkaclient.Config{Brokers: b.Kafka, TopicPrefix: s.prefix}
	client, err := kgo.NewClient(append(kafka.Opts("bench"), kgo.TransactionalID(s.prefix))...)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.conn, s.client, s.admin = conn, client, kadm.NewClient(client)
	declared := topics.Declared(s.prefix)
	s.topic, s.group = declared.Events.Name, declared.ProjectorGroup
	changes, err := topics.Diff(ctx, s.admin, []topics.Topic{declared.Events}, 1)
	if err == nil {
		err = topics.Apply(ctx, s.admin, changes)
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *site) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var left error
	if p := s.projector; p != nil && p.cmd.ProcessState == nil { // something failed before it was stopped
		left = errors.Join(p.cmd.Process.Kill(), p.cmd.Wait(), fmt.Errorf("the projector had said: %s", p.log))
	}
	_, topic := s.admin.DeleteTopics(ctx, s.topic)
	s.client.Close()
	return errors.Join(left, topic, s.conn.Exec(ctx, "DROP DATABASE "+s.prefix), s.conn.Close())
}

// publish appends events in one transaction, and returns when it had ended.
func (s *site) publish(ctx context.Context, records []readmodel.Record) (time.Time, error) {
	if err := s.client.BeginTransaction(); err != nil {
		return time.Time{}, err
	}
	produced := make([]*kgo.Record, len(records))
	for i := range records {
		r := &records[i]
		produced[i] = &kgo.Record{
			Topic: s.topic, Key: []byte(r.Event.SKU), Value: schemas.AppendEvent(nil, &r.Event),
			Headers: cloudevents.Headers(cloudevents.Envelope{
				ID: r.ID, Source: "/lotline/allocator", Type: "lotline.event.v1." + r.Event.Type.String(),
				ContentType: schemas.ContentTypeJSON, Time: r.Time,
			}),
		}
	}
	if err := s.client.ProduceSync(ctx, produced...).FirstErr(); err != nil {
		return time.Time{}, err
	}
	if err := s.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return time.Time{}, err
	}
	for i, p := range produced {
		records[i].Partition, records[i].Offset = p.Partition, p.Offset
	}
	return time.Now(), nil
}

// process is a running projector.
type process struct {
	cmd   *exec.Cmd
	log   *bytes.Buffer
	admin string
}

func (s *site) start(ctx context.Context) (*process, error) {
	port, err := ports.Free()
	if err != nil {
		return nil, err
	}
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	p := &process{cmd: exec.CommandContext(ctx, s.binary, "--kafka-brokers="+strings.Join(s.Kafka, ","), "--kafka-topic-prefix="+s.prefix,
		"--clickhouse-addrs="+s.ClickHouse, "--clickhouse-database="+s.prefix, "--admin-addr="+admin, "--admin-profiles"), log: new(bytes.Buffer), admin: admin}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the projector: %w", err)
	}
	s.projector = p
	return p, nil
}

// stop ends the process and returns the most memory that it had, in bytes.
func (p *process) stop() (int64, error) {
	_, most, err := usage.Process{Name: "the projector", PID: p.cmd.Process.Pid}.Memory()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, p.log)
	}
	if err := errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait()); err != nil {
		return 0, fmt.Errorf("stop the projector: %w: %s", err, p.log)
	}
	return most, nil
}

// awaitProjected returns once the group's offsets are at the ends.
func (s *site) awaitProjected(ctx context.Context) error {
	ends, err := s.admin.ListEndOffsets(ctx, s.topic)
	if err != nil {
		return err
	}
	return await(ctx, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		at, err := s.admin.FetchOffsets(ctx, s.group)
		if err != nil { // the group may not be there yet
			return false, nil
		}
		left := int64(0)
		ends.Each(func(end kadm.ListedOffset) {
			committed, _ := at.Lookup(s.topic, end.Partition)
			left += end.Offset - max(committed.At, 0)
		})
		return left == 0, nil
	})
}

// await asks again and again until it is so. A projector that has stopped, or cannot begin, ends the wait too.
func await(ctx context.Context, every time.Duration, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, projectedWithin, fmt.Errorf("the projector has not projected what it was to within %s", projectedWithin))
	defer cancel()
	for {
		yes, err := so(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil || yes:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

// check compares every row of every table, but the probe's, with what a fold of the events says.
func (s *site) check(ctx context.Context, h *readmodeltest.History) error {
	for query, want := range h.Tables() {
		rows, err := s.conn.Query(ctx, query+" WHERE sku != ?", probeSKU)
		if err != nil {
			return err
		}
		var got []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				return err
			}
			got = append(got, line)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%d rows and not the %d that the events come to: %s", len(got), len(want), query)
		}
	}
	return nil
}
