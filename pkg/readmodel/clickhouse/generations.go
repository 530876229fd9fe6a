package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
)

// Names of a generation's tables, without their number.
const (
	tableLines = "order_lines"
	tableStock = "stock"
	tableSKUs  = "skus"
	tableRefs  = "batches_by_ref"
	marks      = "rebuild" // what Mark keeps. Begin makes it first and Drop drops it last, so what was begun is in List.
)

// generationTables are what readers ask for, in the order of names: each is an alias of the live generation's table.
var generationTables = []string{tableRefs, tableLines, tableSKUs, tableStock}

// Generations makes and switches generations of the read model in ClickHouse, on one host or on all of a cluster. It is a
// readmodel.Generations, a readmodel.Logged and a readmodel.Summed.
type Generations struct {
	writer *Writer // for its connections and its way of inserting
	shape  fs.FS
	found  *servers // by at; nil until it was looked for
}

var (
	_ readmodel.Generations = (*Generations)(nil)
	_ readmodel.Logged      = (*Generations)(nil)
	_ readmodel.Summed      = (*Generations)(nil)
)

// NewGenerations returns the generations of a database. It connects when it is first used.
func NewGenerations(cfg clickhouseclient.Config) (*Generations, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	opts.ReadTimeout = ddlTimeout // filling a table from another takes long
	opts.Compression = nil        // of rows by the hundred thousand a second it takes more than it saves: they are some 100 bytes each
	opts.MaxOpenConns = loadConnectionsMax
	opts.DialContext = boundWrites(opts, insertTimeout)
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	return &Generations{writer: &Writer{conn: conn, database: cfg.Database, opts: opts}, shape: shape}, nil
}

// Name is clickhouse.
func (g *Generations) Name() string { return name }

// Close releases the connections.
func (g *Generations) Close() error {
	var err error
	if g.found != nil {
		err = g.found.close()
	}
	return errors.Join(err, g.writer.Close())
}

// at returns where the tables are. It is not for Load, which may run beside itself.
func (g *Generations) at(ctx context.Context) (*servers, error) {
	if g.found == nil {
		found, err := g.writer.locate(ctx)
		if err != nil {
			return nil, err
		}
		g.found = found
	}
	return g.found, nil
}

// of is the name of a table in a generation.
func of(table string, generation int) string { return fmt.Sprintf("%s_g%d", table, generation) }

var (
	ofGeneration = regexp.MustCompile(`^(` + strings.Join(append(slices.Clone(generationTables), marks), "|") + `)_g([0-9]+)(` + localSuffix + `)?$`)
	aliasTarget  = regexp.MustCompile(`_g([0-9]+)'\)$`)
)

// List reads the generations from the names of tables, at any host, and the live one from what aliases stand for. A switch
// changes them in order, host by host, and the last alias of the last host last of all. So this is the one that counts: a
// switch that was broken off has not happened yet, whichever way it went.
func (g *Generations) List(ctx context.Context) (all []int, live int, err error) {
	s, err := g.at(ctx)
	if err != nil {
		return nil, 0, err
	}
	hosts, err := s.tables(ctx)
	if err != nil {
		return nil, 0, err
	}
	for i, tables := range hosts {
		for table := range tables {
			if m := ofGeneration.FindStringSubmatch(table); m != nil {
				n, _ := strconv.Atoi(m[2]) // digits
				all = append(all, n)
			}
		}
		for _, alias := range generationTables {
			m := aliasTarget.FindStringSubmatch(tables[alias])
			if m == nil {
				return nil, 0, s.hosts[i].named(fmt.Errorf("the table %s of database %s is not there, or no alias of a generation: run lotline migrate", alias, g.writer.database))
			}
			live, _ = strconv.Atoi(m[1])
		}
	}
	slices.Sort(all)
	return slices.Compact(all), live, nil
}

// exec runs a statement where the generations are asked and loaded: at one host, which on a cluster may be any.
func (g *Generations) exec(ctx context.Context, sql string) error {
	return host{conn: g.writer.conn}.exec(ctx, sql)
}

// each calls keep for each row of a query, with its fields scanned.
func each(ctx context.Context, conn driver.Conn, sql string, args, fields []any, keep func() error) error {
	return eachRow(ctx, conn, sql, args, func(row driver.Rows) error {
		if err := row.Scan(fields...); err != nil {
			return err
		}
		return keep()
	})
}
