package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/readmodel"
)

// readRowsMax is how many rows Read hands over at once.
const readRowsMax = 50_000

// loadSettings leave it to merges to drop rows of one key: of those that are loaded hardly any have the same, and looking
// for them costs half as much again as writing them.
var loadSettings = func() clickhouse.Settings {
	settings := maps.Clone(insertSettings)
	settings["optimize_on_insert"] = 0
	return settings
}()

// loadTimeout bounds a Load, whose rows come as fast as they are read. A write that is stuck fails after insertTimeout.
const loadTimeout = 10 * time.Minute

// loadConnectionsMax is enough for 32 loads at once, of two tables each, and a mark: a load that has one connection and waits
// for its second must not wait for others that do the same.
const loadConnectionsMax = 65

// Load inserts rows into a generation's tables, while they come: ClickHouse makes one part of all that an insert has, as far as
// that has room in its blocks. Those of order lines end last, as the most.
func (g *Generations) Load(ctx context.Context, generation int, rows readmodel.Parts) (err error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(loadSettings))
	into := func(table string) *insert { return &insert{writer: g.writer, table: of(table, generation)} }
	skus, batches, refs, lines := into(tableSKUs), into(tableStock), into(tableRefs), into(tableLines)
	all := []*insert{skus, batches, refs, lines}
	defer func() {
		for _, i := range all {
			err = errors.Join(err, i.abort())
		}
	}()
	days, columns := new(block), new(lineColumns)
	if err := rows(func(part *readmodel.State) error {
		return errors.Join(load(ctx, skus, part.SKUs, days, skuColumns), load(ctx, batches, part.Batches, days, stockColumns),
			load(ctx, refs, part.Refs, days, refColumns), load(ctx, lines, part.Lines, days, columns.of))
	}); err != nil {
		return err
	}
	for _, i := range all {
		if err := i.send(); err != nil {
			return err
		}
	}
	return nil
}

func load[R any](ctx context.Context, into *insert, rows []R, days *block, columns func([]R, *block) ([]column, error)) error {
	if len(rows) == 0 {
		return nil
	}
	values, err := columns(rows, days)
	if err != nil {
		return err
	}
	return into.add(ctx, values)
}

// values returns a field of each row.
func values[R, V any](rows []R, field func(*R) V) []V {
	all := make([]V, len(rows))
	for i := range rows {
		all[i] = field(&rows[i])
	}
	return all
}

func skuColumns(rows []readmodel.SKURow, _ *block) ([]column, error) {
	return []column{
		{"sku", values(rows, func(r *readmodel.SKURow) string { return r.SKU })},
		{"version", values(rows, func(r *readmodel.SKURow) uint64 { return r.Version })},
		{"available", values(rows, func(r *readmodel.SKURow) int64 { return r.Available })},
		{"event_time", values(rows, func(r *readmodel.SKURow) time.Time { return r.EventTime })},
	}, nil
}

func stockColumns(rows []readmodel.BatchRow, days *block) ([]column, error) {
	etas := make([]*time.Time, len(rows))
	for i := range rows {
		var err error
		if etas[i], err = days.eta(rows[i].ETA); err != nil {
			return nil, fmt.Errorf("the eta of batch %q of SKU %q: %w", rows[i].Ref, rows[i].SKU, err)
		}
	}
	return []column{
		{"sku", values(rows, func(r *readmodel.BatchRow) string { return r.SKU })},
		{"ref", values(rows, func(r *readmodel.BatchRow) string { return r.Ref })},
		{"version", values(rows, func(r *readmodel.BatchRow) uint64 { return r.Version })},
		{"is_deleted", make([]uint8, len(rows))},
		{"qty", values(rows, func(r *readmodel.BatchRow) int32 { return r.Qty })},
		{"available", values(rows, func(r *readmodel.BatchRow) int32 { return r.Available })},
		{"eta", etas},
		{"event_time", values(rows, func(r *readmodel.BatchRow) time.Time { return r.EventTime })},
	}, nil
}

func refColumns(rows []readmodel.RefRow, _ *block) ([]column, error) {
	return []column{
		{"ref", values(rows, func(r *readmodel.RefRow) string { return r.Ref })},
		{"sku", values(rows, func(r *readmodel.RefRow) string { return r.SKU })},
	}, nil
}

// lineColumns are rows of order_lines. Their memory is used again for each part.
type lineColumns struct {
	orderID, sku, batchRef, commandID []string
	version                           []uint64
	deleted                           []uint8
	qty                               []int32
	eta                               []*time.Time
	eventTime                         []time.Time
}

func (c *lineColumns) of(rows []readmodel.LineRow, days *block) ([]column, error) {
	*c = lineColumns{
		orderID: c.orderID[:0], sku: c.sku[:0], batchRef: c.batchRef[:0], commandID: c.commandID[:0],
		version: c.version[:0], deleted: c.deleted[:0], qty: c.qty[:0], eta: c.eta[:0], eventTime: c.eventTime[:0],
	}
	for i := range rows {
		r := &rows[i]
		eta, err := days.eta(r.ETA)
		if err != nil {
			return nil, fmt.Errorf("the eta of order line %q of SKU %q: %w", r.OrderID, r.SKU, err)
		}
		deleted := uint8(0)
		if r.BatchRef == "" {
			deleted = 1
		}
		c.orderID, c.sku, c.batchRef, c.commandID = append(c.orderID, r.OrderID), append(c.sku, r.SKU), append(c.batchRef, r.BatchRef), append(c.commandID, r.CommandID)
		c.version, c.deleted, c.qty = append(c.version, r.Version), append(c.deleted, deleted), append(c.qty, r.Qty)
		c.eta, c.eventTime = append(c.eta, eta), append(c.eventTime, r.EventTime)
	}
	return []column{
		{"orderid", c.orderID},
		{"sku", c.sku},
		{"version", c.version},
		{"is_deleted", c.deleted},
		{"batchref", c.batchRef},
		{"qty", c.qty},
		{"eta", c.eta},
		{"commandid", c.commandID},
		{"event_time", c.eventTime},
	}, nil
}

// compareSettings leave the server's cores to those that write and ask: nobody waits for a comparison. On a cluster a shard looks
// lines up among its own, where all of an order's are.
var compareSettings = clickhouse.Settings{"max_threads": 1, "os_threads_nice_value_query": 5, "distributed_product_mode": "local"}

// Read reads the tables one after the other: SKUs first, so that what a row says is not older than its SKU's.
func (g *Generations) Read(ctx context.Context, generation int, skus []string, handle func(*readmodel.State) error) error {
	where, args := "", []any(nil)
	if skus != nil {
		where, args = " WHERE sku IN {skus:Array(String)}", []any{clickhouse.Named("skus", skus)}
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(compareSettings))
	part := new(readmodel.State)
	read := func(table, columns string, fields []any, keep func()) error {
		err := each(ctx, g.writer.conn, "SELECT "+columns+" FROM "+of(table, generation)+" FINAL"+where, args, fields, func() error {
			keep()
			return part.HandOver(readRowsMax, handle)
		})
		if err != nil {
			return fmt.Errorf("read %s of generation %d: %w", table, generation, err)
		}
		return nil
	}
	var eta *time.Time
	var sku readmodel.SKURow
	if err := read(tableSKUs, "sku, version, available, event_time", []any{&sku.SKU, &sku.Version, &sku.Available, &sku.EventTime}, func() {
		part.SKUs = append(part.SKUs, sku)
	}); err != nil {
		return err
	}
	var b readmodel.BatchRow
	if err := read(tableStock, "sku, ref, version, qty, available, eta, event_time", []any{&b.SKU, &b.Ref, &b.Version, &b.Qty, &b.Available, &eta, &b.EventTime}, func() {
		b.ETA = day(eta)
		part.Batches = append(part.Batches, b)
	}); err != nil {
		return err
	}
	var ref readmodel.RefRow
	if err := read(tableRefs, "ref, sku", []any{&ref.Ref, &ref.SKU}, func() { part.Refs = append(part.Refs, ref) }); err != nil {
		return err
	}
	if skus != nil { // lines are in the order of orders, so FINAL would read all of them: which they are is looked up first
		where = " WHERE (orderid, sku) IN (SELECT orderid, sku FROM " + of(tableLines, generation) + where + ")"
	}
	var l readmodel.LineRow
	if err := read(tableLines, "orderid, sku, version, batchref, qty, eta, commandid, event_time",
		[]any{&l.OrderID, &l.SKU, &l.Version, &l.BatchRef, &l.Qty, &eta, &l.CommandID, &l.EventTime}, func() {
			l.ETA = day(eta)
			part.Lines = append(part.Lines, l)
		}); err != nil {
		return err
	}
	return part.HandOver(1, handle)
}

// LogParts are days: the log is ordered by hour, so a day is read without looking at others.
func (g *Generations) LogParts(ctx context.Context, below map[int32]int64) (parts []readmodel.LogPart, err error) {
	var part readmodel.LogPart
	var events uint64
	if err := each(ctx, g.writer.conn, "SELECT toString(toDate(event_time)) AS day, count() FROM events WHERE "+belowSQL(below)+" GROUP BY day ORDER BY day",
		nil, []any{&part.Name, &events}, func() error {
			part.Events = int64(events)
			parts = append(parts, part)
			return nil
		}); err != nil {
		return nil, fmt.Errorf("list the days of the log of events: %w", err)
	}
	return parts, nil
}

// LoadLog runs what the generation's views select over a part of the log, into the tables that they feed.
func (g *Generations) LoadLog(ctx context.Context, generation int, below map[int32]int64, part string) error {
	day, err := time.Parse(time.DateOnly, part)
	if err != nil {
		return fmt.Errorf("the part %q of the log is no day: %w", part, err)
	}
	where := fmt.Sprintf("event_time >= toDateTime64('%s 00:00:00', 3, 'UTC') AND event_time < toDateTime64('%s 00:00:00', 3, 'UTC') AND %s",
		day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly), belowSQL(below))
	for _, table := range generationTables {
		if err := g.fromLog(ctx, table, generation, where); err != nil {
			return err
		}
	}
	return nil
}

// CompleteLines loads the lines that a cut moved once more, as the log has them: of two rows of a version the one that was
// inserted last counts. Only a cut allocates in an event that is not its command's first.
func (g *Generations) CompleteLines(ctx context.Context, generation int) error {
	return g.fromLog(ctx, tableLines, generation, "type = 'Allocated' AND seq > 0")
}

// fromLog runs what a view selects over some events, into the table that it feeds.
func (g *Generations) fromLog(ctx context.Context, table string, generation int, where string) error {
	selects, columns, err := g.view(ctx, "mv_"+of(table, generation))
	if err != nil {
		return err
	}
	from := "FROM (SELECT * FROM events WHERE " + where + ") AS events"
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings))
	return g.exec(ctx, "INSERT INTO "+of(table, generation)+" ("+columns+") "+eventsSource.ReplaceAllLiteralString(selects, from))
}

// eventsSource is how ClickHouse writes down where a view selects from.
var eventsSource = regexp.MustCompile(`FROM [^ ]+\.events(` + localSuffix + `)?\b`)

// view returns what a view selects, and the columns that this gives, in order.
func (g *Generations) view(ctx context.Context, view string) (selects, columns string, err error) {
	err = g.writer.conn.QueryRow(ctx, `SELECT as_select, (
		SELECT arrayStringConcat(arrayMap(c -> c.2, arraySort(groupArray((position, name)))), ', ') FROM system.columns WHERE database = currentDatabase() AND table = @view)
		FROM system.tables WHERE database = currentDatabase() AND name = @view`, clickhouse.Named("view", view)).Scan(&selects, &columns)
	if err != nil {
		return "", "", fmt.Errorf("look up what %s selects: %w", view, err)
	}
	if !eventsSource.MatchString(selects) {
		return "", "", fmt.Errorf("%s does not select from events, but: %s", view, selects)
	}
	return selects, columns, nil
}

// belowSQL is the condition that a row of the log is of an event below some offsets of the events topic.
func belowSQL(offsets map[int32]int64) string {
	condition := "0"
	for _, p := range slices.Sorted(maps.Keys(offsets)) {
		condition += fmt.Sprintf(" OR kpartition = %d AND koffset < %d", p, offsets[p])
	}
	return "(" + condition + ")"
}
