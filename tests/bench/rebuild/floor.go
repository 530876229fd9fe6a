package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	floorPages    = 2048      // of the table that are read at once, as a rebuild does
	floorLinesMax = 1_000_000 // that are held in memory and inserted
	floorBlock    = 125_000
)

// lineColumns are order lines as ClickHouse's client takes them.
type lineColumns struct {
	orderID, sku, batchRef, commandID []string
	version                           []uint64
	deleted                           []uint8
	qty                               []int32
	eta                               []*time.Time
	at                                []time.Time
}

// floor measures what a rebuild cannot do without, each by itself and with nothing else running: reading the order lines
// from Postgres, where nobody looks at them, and inserting as many rows from memory into a table like the read model's.
func (s *site) floor(ctx context.Context) (read, insert float64, err error) {
	var pages int
	if err := s.postgres.QueryRow(ctx, `SELECT pg_relation_size('order_lines') / current_setting('block_size')::int`).Scan(&pages); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(s.Workers)
	for page := 0; page < pages; page += floorPages {
		group.Go(func() error {
			conn, err := pgx.Connect(reading, s.on.PostgresURL)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			_, err = conn.PgConn().CopyTo(reading, io.Discard, fmt.Sprintf(`COPY (SELECT orderid, sku, coalesce(batchref, ''), command_id, allocated_version, qty, command_time
				FROM order_lines WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)') TO STDOUT (FORMAT binary)`, page, page+floorPages))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	read = float64(s.Lines) / time.Since(began).Seconds()
	insert, err = s.bareInsert(ctx)
	return read, insert, err
}

func (s *site) bareInsert(ctx context.Context) (perSecond float64, err error) {
	blocks, lines, err := s.linesInMemory(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.conn.Exec(ctx, fmt.Sprintf("CREATE TABLE order_lines_bare AS order_lines_g%d", 1+s.Rounds)); err != nil {
		return 0, err
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.ClickHouse}, Auth: clickhouse.Auth{Database: s.on.Database, Username: "default"},
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	began := time.Now()
	group, inserting := errgroup.WithContext(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "optimize_on_insert": 0})))
	group.SetLimit(s.Workers)
	for _, c := range blocks {
		group.Go(func() error {
			batch, err := conn.PrepareBatch(inserting, "INSERT INTO order_lines_bare (orderid, sku, version, is_deleted, batchref, qty, eta, commandid, event_time)")
			if err != nil {
				return err
			}
			for i, values := range []any{c.orderID, c.sku, c.version, c.deleted, c.batchRef, c.qty, c.eta, c.commandID, c.at} {
				if err := batch.Column(i).Append(values); err != nil {
					return err
				}
			}
			return batch.Send()
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(lines) / time.Since(began).Seconds(), nil
}

// linesInMemory returns blocks of Postgres' order lines.
func (s *site) linesInMemory(ctx context.Context) (blocks []*lineColumns, lines int, err error) {
	rows, err := s.postgres.Query(ctx, `SELECT l.orderid, l.sku, coalesce(l.batchref, ''), l.command_id, l.allocated_version, l.qty, b.eta, l.command_time
		FROM (SELECT * FROM order_lines LIMIT $1) l LEFT JOIN batches b ON b.sku = l.sku AND b.ref = l.batchref`, floorLinesMax)
	if err != nil {
		return nil, 0, err
	}
	once := make(map[time.Time]*time.Time) // etas
	var orderID, sku, batchRef, commandID string
	var version int64
	var qty int32
	var eta *time.Time
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&orderID, &sku, &batchRef, &commandID, &version, &qty, &eta, &at}, func() error {
		if lines%floorBlock == 0 {
			blocks = append(blocks, new(lineColumns))
		}
		lines++
		c := blocks[len(blocks)-1]
		if eta != nil {
			if once[*eta] == nil {
				once[*eta] = eta
			}
			eta = once[*eta]
		}
		deleted := uint8(0)
		if batchRef == "" {
			deleted = 1
		}
		c.orderID, c.sku, c.batchRef, c.commandID = append(c.orderID, orderID), append(c.sku, sku), append(c.batchRef, batchRef), append(c.commandID, commandID)
		c.version, c.deleted, c.qty = append(c.version, uint64(version)), append(c.deleted, deleted), append(c.qty, qty)
		c.eta, c.at = append(c.eta, eta), append(c.at, at)
		return nil
	})
	return blocks, lines, err
}
