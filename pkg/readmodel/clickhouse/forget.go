package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// logTables have a row an event, with its place in the events topic.
var logTables = []string{"events", "outcomes"}

// forgetTimeout bounds Forget. The writer's connections give a statement as long as an insert may take; of a large log the last one of
// Forget takes longer, and broken off each time it would leave the SKUs deleted, however often it is run again. It is less than
// the hour for which people may ask (clickhouse-users.xml): who may not repair is told so, and not of a setting.
const forgetTimeout = 50 * time.Minute

// Forget deletes the rows of some SKUs that the events topic can give again, and returns once none of them is read any
// more. It is for rows that are wrong and that a row of the right version could not replace: one with too high a
// version, or one that no event speaks of. Rows that are written meanwhile may be deleted or not: the caller writes all
// again after it. Every generation is rid of them.
//
// starts is where the topic begins, by partition: rows of older events exist nowhere else. They stay, and go through the
// views once more. What hours say of the SKUs for BI is empty then, until they are counted again, within a minute or two of
// the events' coming back.
//
// On a cluster rows are deleted at each host, from the tables that hold them, if all hosts answer when it begins.
func (w *Writer) Forget(ctx context.Context, skus []string, starts map[int32]int64) (err error) {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	s, err := w.locate(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	hosts, err := s.tables(ctx)
	if err != nil {
		return err
	}
	ofSKUs := clickhouse.Named("skus", skus)
	deleting := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"lightweight_deletes_sync": 2}))
	from := func(h host, table, and string) error {
		if err := h.conn.Exec(deleting, "DELETE FROM "+table+" WHERE sku IN {skus:Array(String)}"+and, ofSKUs); err != nil {
			return h.named(fmt.Errorf("delete the rows of %d SKUs from %s: %w", len(skus), table, err))
		}
		return nil
	}
	for i, h := range s.hosts {
		for table := range hosts[i] {
			m := ofGeneration.FindStringSubmatch(table)
			if m == nil || m[1] == marks || s.Cluster.Cluster != "" && m[3] == "" {
				continue
			}
			if err := from(h, table, ""); err != nil {
				return err
			}
		}
	}
	older := belowSQL(starts)
	for _, h := range s.hosts {
		for _, table := range logTables {
			if err := from(h, s.local(table), " AND NOT "+older); err != nil {
				return err
			}
		}
	}
	inserting := clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings))
	// A count that began before the deletion may still be written after it, and loses against this one, which is newer; unless the
	// server's clock was set back and has not caught up, and then it stays in hours that got nothing else. Of two of the same time the
	// one that is written later counts.
	if err := w.conn.Exec(inserting, "INSERT INTO sku_hours (hour, sku, refreshed_at) SELECT hour, sku, greatest(now64(3), refreshed_at) FROM sku_hours FINAL WHERE sku IN {skus:Array(String)}", ofSKUs); err != nil {
		return fmt.Errorf("empty the hours of %d SKUs: %w", len(skus), err)
	}
	// Of each block the time is its own: hours are counted again whose events were written in the last two minutes, and now()
	// is when the statement began.
	if err := w.conn.Exec(inserting, "INSERT INTO events SELECT * REPLACE (nowInBlock() AS ingested_at) FROM events FINAL WHERE sku IN {skus:Array(String)} AND "+older, ofSKUs); err != nil {
		return fmt.Errorf("send the older events of %d SKUs through the views: %w", len(skus), err)
	}
	return nil
}
