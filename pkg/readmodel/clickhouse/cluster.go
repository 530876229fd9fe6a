package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing/fstest"
	"text/template"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Cluster says how the tables lie on several hosts. The zero value is one host.
//
// On a cluster each table that holds rows is called events_local and so on, and events is a Distributed table over those
// of all shards, by the hash of what its rows are looked up by: a key is on one shard, so FINAL is as right there as on
// one host. A view reads what arrives on its own shard and writes to the Distributed table, since an order's lines belong
// to another shard than their SKUs.
type Cluster struct {
	Cluster    string `help:"Name of the ClickHouse cluster (in the servers' remote_servers) over whose hosts the tables are to be spread; empty = one host. A read model stays as it was first made." placeholder:"NAME"`
	Replicated bool   `help:"Make replicated tables on a cluster, which needs ClickHouse Keeper and the macros shard and replica on each host. Without it each shard must have one host." default:"true" negatable:""`
}

// localSuffix ends the names of tables that hold rows, on a cluster.
const localSuffix = "_local"

// keeperPath names a table's place in ClickHouse Keeper: the servers put their macros in.
const keeperPath = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"

// clusterName is what may be put into SQL.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Validate refuses names that no cluster should have.
func (c Cluster) Validate() error {
	if c.Cluster != "" && !clusterName.MatchString(c.Cluster) {
		return fmt.Errorf("--clickhouse-cluster is %q: only letters, digits, _ and - may be in a cluster's name", c.Cluster)
	}
	return nil
}

// render returns the migrations as SQL for the cluster.
func (c Cluster) render(migrations fs.FS) (fs.FS, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	rendered := make(fstest.MapFS, len(names)) // the standard library's only file system in memory
	for _, name := range names {
		text, err := c.write(migrations, name, nil)
		if err != nil {
			return nil, err
		}
		rendered[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return rendered, nil
}

// write returns a file as SQL for the cluster. What {{.}} stands for in it is the caller's to say.
func (c Cluster) write(files fs.FS, name string, about any) (string, error) {
	functions := template.FuncMap{"local": c.local, "engine": c.engine, "distributed": c.distributed}
	t, err := template.New(path.Base(name)).Funcs(functions).ParseFS(files, name)
	if err != nil {
		return "", fmt.Errorf("read the statements of %s: %w", name, err)
	}
	var text strings.Builder
	if err := t.Execute(&text, about); err != nil {
		return "", fmt.Errorf("write the statements of %s for cluster %q: %w", name, c.Cluster, err)
	}
	return text.String(), nil
}

// local names the table that holds the rows of one host.
func (c Cluster) local(table string) string {
	if c.Cluster == "" {
		return table
	}
	return table + localSuffix
}

// engine is the engine of such a table.
func (c Cluster) engine(engine string, arguments ...string) string {
	if c.Cluster != "" && c.Replicated {
		engine, arguments = "Replicated"+engine, append([]string{keeperPath}, arguments...)
	}
	if len(arguments) == 0 {
		return engine
	}
	return engine + "(" + strings.Join(arguments, ", ") + ")"
}

// distributed creates the table over those of all shards, on a cluster.
func (c Cluster) distributed(table, key string) string {
	if c.Cluster == "" {
		return ""
	}
	return fmt.Sprintf(`
CREATE TABLE IF NOT EXISTS %[1]s AS %[2]s
ENGINE = Distributed('%[3]s', currentDatabase(), '%[2]s', cityHash64(%[4]s))
COMMENT 'The rows of %[2]s on all shards of cluster %[3]s, by %[4]s';`, table, c.local(table), c.Cluster, key)
}

// hosts returns the options to connect to each host of the cluster, by shard and then by name: in the same order whichever
// host is asked. Without a cluster they are those of opts.
func (c Cluster) hosts(ctx context.Context, opts *clickhouse.Options) (hosts []*clickhouse.Options, err error) {
	if c.Cluster == "" {
		return []*clickhouse.Options{opts}, nil
	}
	asking := *opts
	asking.Auth.Database = "system" // the other one may be missing
	conn, err := clickhouse.Open(&asking)
	if err != nil {
		return nil, fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var name string
	var port uint16
	if err := each(ctx, conn, "SELECT host_name, port FROM system.clusters WHERE cluster = @cluster ORDER BY shard_num, host_name, port",
		[]any{clickhouse.Named("cluster", c.Cluster)}, []any{&name, &port}, func() error {
			host := *opts
			host.Addr = []string{net.JoinHostPort(name, strconv.Itoa(int(port)))}
			hosts = append(hosts, &host)
			return nil
		}); err != nil {
		return nil, fmt.Errorf("ask for the hosts of cluster %s: %w", c.Cluster, err)
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("ClickHouse at %s knows no cluster %s: name one of its remote_servers with --clickhouse-cluster", strings.Join(opts.Addr, ", "), c.Cluster)
	}
	return hosts, nil
}
