package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	chclient "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/pkg/readmodel/postgres"
	"github.com/lotline/lotline/pkg/readmodel/redis"
	"github.com/lotline/lotline/pkg/readmodel/writeside"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/servers"
)

const questionTimeout = 10 * time.Second

// hosts are the servers.
type hosts struct{ postgres, clickhouse, redis *servers.Server }

// start starts the servers; stop ends those that run, also after an error.
func start(ctx context.Context, dir string) (h hosts, stop func(), err error) {
	var running []*servers.Server
	stop = func() {
		for _, s := range running {
			_ = s.Stop() // what was measured does not change by it
		}
	}
	for _, s := range []struct {
		name  string
		into  **servers.Server
		start func(context.Context, servers.Options) (*servers.Server, error)
	}{{"postgres", &h.postgres, servers.StartPostgres}, {"clickhouse", &h.clickhouse, servers.StartClickHouse}, {"redis", &h.redis, servers.StartRedis}} {
		if *s.into, err = s.start(ctx, dataDir(dir, s.name)); err != nil {
			return h, stop, err
		}
		running = append(running, *s.into)
	}
	return h, stop, nil
}

// open makes all stores ready, and fills the write side with what the history comes to.
func (h hosts) open(ctx context.Context, rows readmodel.Rows) ([]*subject, error) {
	ch := clickhouseclient.Config{Addrs: []string{h.clickhouse.Addr}, Database: "lotline", User: "default"}
	pg := postgres.Config{URL: h.postgres.DSN, Schema: "lotline_read"}
	rd := redis.Config{Addr: h.redis.Addr, Prefix: "lotline"}
	log := slog.Default()
	_, pgErr := postgres.Migrate(ctx, pg, log)
	_, allocatorErr := allocator.Migrate(ctx, h.postgres.DSN)
	if err := errors.Join(clickhouse.Migrate(ctx, ch, clickhouse.Layout{}, log), pgErr, allocatorErr, h.decide(ctx, rows)); err != nil {
		return nil, err
	}
	chWriter, err1 := clickhouse.NewWriter(ch)
	chReader, err2 := clickhouse.NewReader(ch, questionTimeout)
	pgWriter, err3 := postgres.NewWriter(pg)
	pgReader, err4 := postgres.NewReader(pg, questionTimeout)
	side, err5 := writeside.NewReader(postgresclient.Settings{PostgresURL: h.postgres.DSN}, questionTimeout)
	return []*subject{
		{reader: chReader, writer: chWriter, bytes: func(ctx context.Context) (int64, error) { return clickHouseBytes(ctx, ch) }},
		{reader: pgReader, writer: pgWriter, bytes: func(ctx context.Context) (int64, error) { return h.postgresBytes(ctx, pg.Schema) }},
		{reader: redis.NewReader(rd, questionTimeout), writer: redis.NewWriter(rd), bytes: func(ctx context.Context) (int64, error) { return redisBytes(ctx, rd.Addr) }},
		{reader: side, bytes: func(ctx context.Context) (int64, error) { return h.postgresBytes(ctx, "public") }},
	}, errors.Join(err1, err2, err3, err4, err5)
}

// decide writes the state that the history comes to into the allocator's tables.
func (h hosts) decide(ctx context.Context, rows readmodel.Rows) error {
	conn, err := pgx.Connect(ctx, h.postgres.DSN)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx)
	var products, batches, lines [][]any
	for _, s := range rows.SKUs {
		products = append(products, []any{s.SKU, int64(s.Version), s.Available})
	}
	for _, b := range rows.Batches {
		batches = append(batches, []any{b.SKU, b.Ref, day(b.ETA), int64(1), b.Qty, b.Qty, b.Qty - b.Available})
	}
	for _, l := range rows.Lines {
		var ref any
		if l.BatchRef != "" {
			ref = l.BatchRef
		}
		lines = append(lines, []any{l.OrderID, l.SKU, l.Qty, ref, int64(l.Version), "/test", l.CommandID, int32(0), int64(0), l.EventTime})
	}
	for _, table := range []struct {
		name, columns string
		rows          [][]any
	}{
		{"products", "sku version available", products},
		{"batches", "sku ref eta created_version created_qty qty allocated", batches},
		{"order_lines", "orderid sku qty batchref allocated_version command_source command_id command_partition command_offset command_time", lines},
	} {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{table.name}, strings.Fields(table.columns), pgx.CopyFromRows(table.rows)); err != nil {
			return fmt.Errorf("fill %s: %w", table.name, err)
		}
	}
	_, err = conn.Exec(ctx, "ANALYZE")
	return err
}

func day(eta string) any {
	if eta == "" {
		return nil
	}
	at, _ := time.Parse(time.DateOnly, eta) // the history's own
	return at
}

func (h hosts) postgresBytes(ctx context.Context, schema string) (size int64, err error) {
	conn, err := pgx.Connect(ctx, h.postgres.DSN)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace", schema).Scan(&size)
	return size, err
}

func clickHouseBytes(ctx context.Context, cfg clickhouseclient.Config) (int64, error) {
	opts, err := cfg.Options()
	if err != nil {
		return 0, err
	}
	conn, err := chclient.Open(opts)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var size uint64
	err = conn.QueryRow(ctx, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()").Scan(&size)
	return int64(size), err
}

func redisBytes(ctx context.Context, addr string) (int64, error) {
	client := goredis.NewClient(&goredis.Options{Addr: addr})
	defer client.Close()
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(info, "used_memory:")
	number, _, _ := strings.Cut(after, "\r\n")
	return strconv.ParseInt(number, 10, 64)
}

// repository is what the repository way came to.
type repository struct {
	orders, queries int
	took            time.Duration
}

// repositoryWay answers where an order's lines are as the book's first try does, through the write model: the SKUs of the
// order, of each its product with all batches, and of each batch its lines, in which the order is looked for.
func (h hosts) repositoryWay(ctx context.Context, want map[string][]readmodel.Allocation, span time.Duration) (r repository, err error) {
	conn, err := pgx.Connect(ctx, h.postgres.DSN)
	if err != nil {
		return r, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx)
	column := func(sql string, args ...any) []string {
		r.queries++
		rows, queryErr := conn.Query(ctx, sql, args...)
		if queryErr != nil {
			err = queryErr
			return nil
		}
		values, collectErr := pgx.CollectRows(rows, pgx.RowTo[string])
		err = errors.Join(err, collectErr)
		return values
	}
	began := time.Now()
	for id, lines := range want {
		if r.took = time.Since(began); r.took > span || err != nil {
			return r, err
		}
		var found []readmodel.Allocation
		for _, sku := range column("SELECT sku FROM order_lines WHERE orderid = $1 AND batchref IS NOT NULL ORDER BY sku", id) {
			for _, ref := range column("SELECT ref FROM batches WHERE sku = $1", sku) {
				for _, order := range column("SELECT orderid FROM order_lines WHERE sku = $1 AND batchref = $2", sku, ref) {
					if order == id {
						found = append(found, readmodel.Allocation{SKU: sku, BatchRef: ref})
					}
				}
			}
		}
		r.orders++
		if !slices.EqualFunc(found, lines, func(a, b readmodel.Allocation) bool { return a.SKU == b.SKU && a.BatchRef == b.BatchRef }) {
			return r, errors.Join(err, fmt.Errorf("order %s by the repository is %v and should be %v", id, found, lines))
		}
	}
	r.took = time.Since(began)
	return r, err
}
