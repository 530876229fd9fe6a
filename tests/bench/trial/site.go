// Package trial is what a measurement of the write side needs: work of a known shape, topics and a database of its own,
// allocators and a projector as processes, a consumer of events, and a check of what came out, row by row.
//
// The benchmarks allocator and peers call it. It imports the services' roots for their migrations, topics, schemas, pkg,
// tests/verify and the clients of the servers.
package trial

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/bench/usage"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/topics"
)

// Servers are the flags that say where the servers are, for a benchmark's own.
type Servers struct {
	Postgres string   `required:"" env:"LOTLINE_TEST_POSTGRES" help:"URL of a superuser of Postgres." json:"-"`
	Kafka    []string `required:"" env:"LOTLINE_TEST_KAFKA" help:"Kafka brokers." json:"-"`
}

// Ground is where trials are held: servers, binaries, and a migrated database to copy.
type Ground struct {
	Servers
	Dir      string // of binaries and files
	template string
}

// NewGround builds the programs, packages of this repository, and migrates a database. The caller closes it, also after an error.
func NewGround(ctx context.Context, s Servers, programs ...string) (*Ground, error) {
	g := &Ground{Servers: s, template: "bench_" + strings.ToLower(rand.Text()[:12])}
	var err error
	if g.Dir, err = os.MkdirTemp("", "lotline-bench-"); err != nil {
		return g, err
	}
	for _, program := range programs {
		build := exec.CommandContext(ctx, "go", "build", "-o", g.Dir+"/", "github.com/lotline/lotline/"+program)
		if out, err := build.CombinedOutput(); err != nil {
			return g, fmt.Errorf("build %s: %w: %s", program, err, out)
		}
	}
	if err := g.Exec(ctx, "CREATE DATABASE "+g.template); err != nil {
		return g, err
	}
	warning, err := allocator.Migrate(ctx, g.database(g.template))
	if err == nil && warning != "" {
		err = errors.New(warning)
	}
	return g, err
}

// Close removes what was made.
func (g *Ground) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(os.RemoveAll(g.Dir), g.Exec(ctx, "DROP DATABASE IF EXISTS "+g.template))
}

// Exec runs SQL as a superuser in the database that the URL names.
func (g *Ground) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, g.Postgres)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// database is the URL of a database for a superuser.
func (g *Ground) database(name string) string {
	at, err := url.Parse(g.Postgres)
	if err != nil {
		return "" // Exec has connected with it
	}
	at.Path = "/" + name
	return at.String()
}

// Processes finds the servers' processes on this machine.
func (g *Ground) Processes() ([]usage.Process, error) {
	at, err := url.Parse(g.Postgres)
	if err != nil {
		return nil, err
	}
	postgres, err := usage.Listening("Postgres", at.Host)
	if err != nil {
		return nil, err
	}
	kafka, err := usage.Listening("Kafka", g.Kafka[0])
	return []usage.Process{postgres, kafka}, err
}

// Versions are the servers', for a report, with the settings of Postgres that its speed depends on.
func (g *Ground) Versions(ctx context.Context) (map[string]string, error) {
	conn, err := pgx.Connect(ctx, g.Postgres)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	var postgres string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version') || string_agg(', ' || name || ' ' || current_setting(name), '' ORDER BY name)
		FROM pg_settings WHERE name IN ('fsync', 'shared_buffers', 'max_wal_size', 'min_wal_size', 'checkpoint_timeout')`).Scan(&postgres); err != nil {
		return nil, err
	}
	return map[string]string{"postgres": postgres, "kafka": servers.KafkaVersion()}, nil
}

// Site is the topics and the database of one trial.
type Site struct {
	*Ground
	Set         topics.Set
	Config      kafkaclient.Config
	PostgresURL string
	admin       *kadm.Client
	clickHouse  string // where a projector was started
	seeded      bool   // its database is there for other runs too
}

// NewSite makes topics of that many partitions, and a database; the caller closes it.
func (g *Ground) NewSite(ctx context.Context, partitions int32) (*Site, error) {
	name := "b" + strings.ToLower(rand.Text()[:12])
	s := &Site{Ground: g, Set: topics.Declared(name), Config: kafkaclient.Config{Brokers: g.Kafka, TopicPrefix: name}, PostgresURL: g.database(name)}
	s.Set.Commands.Partitions, s.Set.Events.Partitions = partitions, partitions
	client, err := kgo.NewClient(s.Config.Opts("bench")...)
	if err != nil {
		return nil, err
	}
	s.admin = kadm.NewClient(client)
	changes, err := topics.Diff(ctx, s.admin, s.Set.All(), 1)
	if err == nil {
		err = topics.Apply(ctx, s.admin, changes)
	}
	if err == nil {
		err = g.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+g.template)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Stock puts the work's SKUs and batches into Postgres, as the allocator leaves them.
func (s *Site) Stock(ctx context.Context, w *Work) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var batches, skus [][]any
	for i := range w.Setup {
		c, version := &w.Setup[i], int64(1+i%w.Batches)
		var eta any
		if c.ETA != "" {
			day, err := time.Parse(time.DateOnly, c.ETA)
			if err != nil {
				return err
			}
			eta = day
		}
		batches = append(batches, []any{c.SKU, c.Ref, eta, version, c.Qty, c.Qty, int32(0)})
		if version == int64(w.Batches) {
			skus = append(skus, []any{c.SKU, version, w.available(0)})
		}
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"products"}, []string{"sku", "version", "available"}, pgx.CopyFromRows(skus))
	if err == nil {
		_, err = conn.CopyFrom(ctx, pgx.Identifier{"batches"}, []string{"sku", "ref", "eta", "created_version", "created_qty", "qty", "allocated"}, pgx.CopyFromRows(batches))
	}
	if err == nil {
		_, err = conn.Exec(ctx, "ANALYZE")
	}
	return err
}

// Close removes topics and databases.
func (s *Site) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := s.admin.DeleteTopics(ctx, s.Set.Commands.Name, s.Set.Events.Name, s.Set.DeadLetters.Name)
	s.admin.Close()
	if s.clickHouse != "" {
		err = errors.Join(err, drop(ctx, s.clickHouse, s.Config.TopicPrefix))
	}
	if s.seeded {
		err = errors.Join(err, s.clear(ctx))
	}
	return errors.Join(err, s.Exec(ctx, "DROP DATABASE IF EXISTS "+s.Config.TopicPrefix+" WITH (FORCE)"))
}

// awaitMembers waits until the allocators' group has so many members and is at rest.
func (s *Site) awaitMembers(ctx context.Context, members int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	group := s.Set.AllocatorGroup
	for {
		groups, err := s.admin.DescribeGroups(ctx, group)
		if err == nil && groups[group].State == "Stable" && len(groups[group].Members) == members {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the allocators have not formed a group of %d members: %w", members, errors.Join(err, ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
