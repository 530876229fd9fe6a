package clickhouse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/internal/underway"
)

// shape has the statements that make a generation, a file a table, with {{.}} for its number. Migrations 3 to 6 made the
// first one; a test holds the two against each other. What changes here is in the next generation.
//
//go:embed generations/*.sql
var shape embed.FS

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

// quietMax is how long Switch waits for a moment without an insert.
const quietMax = 5 * time.Second

// Generations makes and switches generations of the read model in ClickHouse. It is a readmodel.Generations, a
// readmodel.Logged and a readmodel.Summed.
type Generations struct {
	writer *Writer // for its connections and its way of inserting
	shape  fs.FS
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
	return &Generations{&Writer{conn: conn, database: cfg.Database}, shape}, nil
}

// Name is clickhouse.
func (g *Generations) Name() string { return name }

// Close releases the connections.
func (g *Generations) Close() error { return g.writer.Close() }

// of is the name of a table in a generation.
func of(table string, generation int) string { return fmt.Sprintf("%s_g%d", table, generation) }

var (
	ofGeneration = regexp.MustCompile(`^(` + strings.Join(append(slices.Clone(generationTables), marks), "|") + `)_g([0-9]+)$`)
	aliasTarget  = regexp.MustCompile(`_g([0-9]+)'\)$`)
)

// List reads the generations from the names of tables, and the live one from what the aliases stand for. Where a switch
// was broken off between two aliases, the older of the two counts: the newer is not finished.
func (g *Generations) List(ctx context.Context) (all []int, live int, err error) {
	tables, err := tablesOf(ctx, g.writer.conn)
	if err != nil {
		return nil, 0, err
	}
	for table := range tables {
		if m := ofGeneration.FindStringSubmatch(table); m != nil {
			n, _ := strconv.Atoi(m[2]) // digits
			all = append(all, n)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, alias := range generationTables {
		m := aliasTarget.FindStringSubmatch(tables[alias])
		if m == nil {
			return nil, 0, fmt.Errorf("the table %s of database %s is not there, or no alias of a generation: run lotline migrate", alias, g.writer.database)
		}
		n, _ := strconv.Atoi(m[1])
		if live == 0 || n < live {
			live = n
		}
	}
	return all, live, nil
}

// Begin makes a generation's tables and then the views that feed them.
//
// An insert finds out which views there are while it starts, so one that started before a view existed never reaches it. It
// is among those that Settle waits for: a query is in the list of running ones before it looks for views.
func (g *Generations) Begin(ctx context.Context, generation int) error {
	if err := g.exec(ctx, "CREATE TABLE IF NOT EXISTS "+of(marks, generation)+
		" (name String, value String, at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = ReplacingMergeTree(at) ORDER BY name"+
		" COMMENT 'How far the making of this generation has come'"); err != nil {
		return err
	}
	statements, err := g.statements(generation)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if err := g.exec(ctx, s); err != nil {
			return err
		}
	}
	return g.Settle(ctx)
}

// statements returns what makes a generation: all tables first.
func (g *Generations) statements(generation int) ([]string, error) {
	files, err := fs.Glob(g.shape, "generations/*.sql")
	if err != nil || len(files) == 0 {
		return nil, errors.Join(errors.New("a generation's statements are not in this build"), err)
	}
	var tables, views []string
	for _, file := range files {
		text, err := fs.ReadFile(g.shape, file)
		if err != nil {
			return nil, fmt.Errorf("read a generation's statements: %w", err)
		}
		for statement := range strings.SplitSeq(strings.ReplaceAll(string(text), "{{.}}", strconv.Itoa(generation)), ";\n") {
			statement = strings.TrimSpace(statement)
			switch {
			case statement == "":
			case strings.HasPrefix(statement, "CREATE TABLE"):
				tables = append(tables, statement)
			default:
				views = append(views, statement)
			}
		}
	}
	return append(tables, views...), nil
}

// Switch exchanges the aliases with others that stand for the generation, never the tables themselves: views write to
// those by name, and would go on filling the one that has the name.
//
// One statement exchanges all four. ClickHouse makes each exchange atomic, one after the other: between the first and the
// last, well under a millisecond, a reader can find tables of both generations, which have the same but for what was
// wrong. A block that is being written reaches the views one after the other too, so Switch waits for a moment without an
// insert: else a reader could find it in the old generation and not yet in the new one. Where inserts never cease it
// switches after 5 s all the same.
func (g *Generations) Switch(ctx context.Context, generation int) error {
	tables, err := tablesOf(ctx, g.writer.conn)
	if err != nil {
		return err
	}
	var pairs, others []string
	for _, alias := range generationTables {
		target, other := of(alias, generation), alias+"_other"
		if _, made := tables[target]; !made {
			return fmt.Errorf("generation %d has no table %s", generation, target)
		}
		others = append(others, "DROP TABLE IF EXISTS "+other+" SYNC")
		if strings.HasSuffix(tables[alias], "'"+target+"')") {
			continue
		}
		if err := errors.Join(g.exec(ctx, "DROP TABLE IF EXISTS "+other+" SYNC"),
			g.exec(ctx, "CREATE TABLE "+other+" ENGINE = Alias("+target+")")); err != nil {
			return err
		}
		pairs = append(pairs, alias+" AND "+other)
	}
	if len(pairs) > 0 {
		began := time.Now()
		if err := underway.List(g.inserting).Await(ctx, func(running []string) bool { return len(running) == 0 || time.Since(began) > quietMax }); err != nil {
			return err
		}
		if err := g.exec(ctx, "EXCHANGE TABLES "+strings.Join(pairs, ", ")); err != nil {
			return err
		}
	}
	for _, drop := range others {
		if err := g.exec(ctx, drop); err != nil {
			return err
		}
	}
	return nil
}

// Drop drops the views first, so that no insert begins that would miss their tables. One that has begun is refused, and
// is made again by whoever writes.
func (g *Generations) Drop(ctx context.Context, generation int) error {
	_, live, err := g.List(ctx)
	if err != nil {
		return err
	}
	if generation == live {
		return fmt.Errorf("generation %d is the one that is asked", generation)
	}
	var drops []string
	for _, table := range generationTables {
		drops = append(drops, "DROP VIEW IF EXISTS mv_"+of(table, generation)+" SYNC")
	}
	for _, table := range generationTables {
		drops = append(drops, "DROP TABLE IF EXISTS "+of(table, generation)+" SYNC")
	}
	for _, drop := range append(drops, "DROP TABLE IF EXISTS "+of(marks, generation)+" SYNC") {
		if err := g.exec(ctx, drop); err != nil {
			return err
		}
	}
	return nil
}

func (g *Generations) exec(ctx context.Context, sql string) error {
	if err := g.writer.conn.Exec(ctx, sql); err != nil {
		statement, _, _ := strings.Cut(sql, "\n")
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// tablesOf returns the names of the database's tables with their engines. It is where all that changes tables begins, and
// refuses to on a cluster: each host would have to be told.
func tablesOf(ctx context.Context, conn driver.Conn) (map[string]string, error) {
	found := make(map[string]string)
	var table, engine string
	if err := each(ctx, conn, "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()", nil, []any{&table, &engine}, func() error {
		found[table] = engine
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	if strings.HasPrefix(found[tableEvents], "Distributed") {
		return nil, errors.New("the read model is on a ClickHouse cluster, where it cannot be rebuilt or repaired yet: delete the offsets of the projector's group, and it projects all that the topic has again")
	}
	return found, nil
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
