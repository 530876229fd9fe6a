package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// servers are where the tables of a read model are: on one host, or on all of a cluster. What changes tables goes from host to
// host, over each one's own address: a statement ON CLUSTER would need ClickHouse Keeper, and go on without a host that is away.
type servers struct {
	Cluster
	hosts []host // in the order of Cluster.hosts
}

// host is a server that has tables of the read model.
type host struct {
	addr string // host:port on a cluster, for errors; empty where there is but one
	conn driver.Conn
}

// distributedOver finds the cluster in the engine of a Distributed table.
var distributedOver = regexp.MustCompile(`^Distributed\('([A-Za-z0-9_-]+)',`)

// locate finds out from the tables where they are, so that nobody has to say it again after lotline migrate. The caller closes
// what it gets.
func (w *Writer) locate(ctx context.Context) (s *servers, err error) {
	tables, err := tablesOf(ctx, w.conn)
	if err != nil {
		return nil, err
	}
	over := distributedOver.FindStringSubmatch(tables[tableEvents])
	if over == nil && strings.HasPrefix(tables[tableEvents], "Distributed") {
		return nil, fmt.Errorf("the table %s is not of lotline migrate's making: it is %s", tableEvents, tables[tableEvents])
	}
	if over == nil {
		return &servers{hosts: []host{{conn: w.conn}}}, nil
	}
	s = &servers{Cluster: Cluster{Cluster: over[1], Replicated: strings.HasPrefix(tables[tableEvents+localSuffix], "Replicated")}}
	all, err := s.Cluster.hosts(ctx, w.opts)
	if err != nil {
		return nil, err
	}
	for _, opts := range all {
		conn, err := clickhouse.Open(opts)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set up the ClickHouse client: %w", err), s.close())
		}
		s.hosts = append(s.hosts, host{strings.Join(opts.Addr, ", "), conn})
	}
	return s, nil
}

// close closes the connections to the hosts of a cluster. That to a single host is the writer's.
func (s *servers) close() (err error) {
	for _, h := range s.hosts {
		if h.addr != "" {
			err = errors.Join(err, h.conn.Close())
		}
	}
	return err
}

// tables returns each host's tables with their engines. It fails if a host does not answer: what begins with it changes
// nothing while one is away.
func (s *servers) tables(ctx context.Context) (all []map[string]string, err error) {
	for _, h := range s.hosts {
		tables, err := tablesOf(ctx, h.conn)
		if err != nil {
			return nil, h.named(err)
		}
		all = append(all, tables)
	}
	return all, nil
}

// exec runs statements at each host, one host after the other.
func (s *servers) exec(ctx context.Context, statements ...string) error {
	for _, h := range s.hosts {
		if err := h.exec(ctx, statements...); err != nil {
			return err
		}
	}
	return nil
}

func (h host) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if err := h.conn.Exec(ctx, sql); err != nil {
			statement, _, _ := strings.Cut(sql, "\n")
			return h.named(fmt.Errorf("%s: %w", statement, err))
		}
	}
	return nil
}

// named says of an error at which host of a cluster it was.
func (h host) named(err error) error {
	if h.addr == "" {
		return err
	}
	return fmt.Errorf("at %s: %w", h.addr, err)
}

// tablesOf returns the names of the database's tables on one host, with their engines.
func tablesOf(ctx context.Context, conn driver.Conn) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	found := make(map[string]string)
	var table, engine string
	if err := each(ctx, conn, "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()", nil, []any{&table, &engine}, func() error {
		found[table] = engine
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	return found, nil
}
