package trial

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/services/allocator"
)

// seeded is the database that Seed makes.
func seeded(lines int) string { return fmt.Sprintf("bench_%d_lines", lines) }

// Seed makes a database with that many order lines and leaves it to later runs, whose Fill takes it; one that is there stays.
// Making 50 million takes many times as long as measuring anything with them, and 13 GB.
func (g *Ground) Seed(ctx context.Context, lines int) error {
	there, err := g.has(ctx, seeded(lines))
	if err != nil || there {
		return err
	}
	unfinished := seeded(lines) + "_unfinished" // what was stopped half way is not taken for whole
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + unfinished, "CREATE DATABASE " + unfinished + " TEMPLATE " + g.template} {
		if err := g.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := fill(ctx, g.database(unfinished), lines); err != nil {
		return err
	}
	return g.Exec(ctx, "ALTER DATABASE "+unfinished+" RENAME TO "+seeded(lines))
}

// has says whether there is a database of that name.
func (g *Ground) has(ctx context.Context, database string) (there bool, err error) {
	conn, err := pgx.Connect(ctx, g.Postgres)
	if err != nil {
		return false, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there)
	return there, err
}

// Fill gives the site order lines of SKUs that the work does not touch, a hundred of each: by the database that Seed made of
// so many, and else by making them.
func (s *Site) Fill(ctx context.Context, lines int) error {
	there, err := s.has(ctx, seeded(lines))
	if err != nil {
		return err
	}
	if !there {
		return errors.Join(fill(ctx, s.PostgresURL, lines), s.warm(ctx))
	}
	s.PostgresURL, s.seeded = s.database(seeded(lines)), true
	warning, err := allocator.Migrate(ctx, s.PostgresURL) // it may be older than this build
	if err == nil && warning != "" {
		err = errors.New(warning)
	}
	return errors.Join(err, s.clear(ctx), s.warm(ctx)) // a run that was killed has left something
}

// warm reads the primary key of order lines into shared_buffers, as far as there is room: a database that has been up for a
// while has it there.
func (s *Site) warm(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		"SET enable_seqscan = off", "SET enable_bitmapscan = off", "SET max_parallel_workers_per_gather = 0",
		"SELECT count(orderid) FROM order_lines WHERE orderid >= ''",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}

// fill makes the lines. In the indexes they lie between those that the work adds, as in a shop: rows that come in a range of
// their own would not notice how many others there are. Indexes are made after them, which is several times as fast; the primary
// key as full as inserts in no order leave it.
func fill(ctx context.Context, postgresURL string, lines int) error {
	conn, err := pgx.Connect(ctx, postgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var newest string
	if err := conn.QueryRow(ctx, "SELECT pg_get_indexdef('order_lines_newest'::regclass)").Scan(&newest); err != nil {
		return err
	}
	for _, sql := range []string{
		"SET maintenance_work_mem = '512MB'",
		"ALTER TABLE order_lines DROP CONSTRAINT order_lines_pkey",
		"DROP INDEX order_lines_newest",
		fmt.Sprintf(`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version, command_source, command_id, command_partition, command_offset, command_time)
			SELECT 'order-' || left(md5(n::text), 16), 'SKU-' || lpad((n / 100 %% 10000)::text, 6, '0') || '-old-' || n / 1000000, 1, 'batch', 2 + n %% 100, '/bench', 'old-' || n, 0, n, now()
			FROM generate_series(0, %d::bigint - 1) n`, lines),
		"ALTER TABLE order_lines ADD PRIMARY KEY (orderid, sku) WITH (fillfactor = 70)",
		newest,
		"VACUUM (FREEZE, ANALYZE) order_lines", // or it comes while something is measured
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}

// clear takes what work has left out of a database that others will use. Lines are found by the index of a SKU's batches: all
// of order_lines may be many gigabytes.
func (s *Site) clear(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		"SET enable_seqscan = off", "SET enable_hashjoin = off", "SET enable_mergejoin = off",
		"DELETE FROM order_lines l USING batches b WHERE l.sku = b.sku AND l.batchref = b.ref",
		"TRUNCATE products, batches, partitions, outbox, command_seen",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}
