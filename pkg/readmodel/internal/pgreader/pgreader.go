// Package pgreader asks a Postgres the questions of a read model, in the SQL that it is given.
//
// The stores in Postgres call it: one has tables made of events, the other those of the write side. It may import
// readmodel, for the answers, and the Postgres client.
package pgreader

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	connectionsMax = 16
	dialTimeout    = time.Second
)

// Config says where to ask, and how.
type Config struct {
	ConnURL    func() (string, error) // asked again for each connection, so that passwords can be replaced
	SearchPath string                 // the schema of the tables; "": the server's own
	Timeout    time.Duration          // of one question
	Queries    Queries
}

// Queries are the questions in SQL. Each takes its keys as arrays of text, and answers these columns:
//
//	Orders: orderid, sku, batchref, version
//	Lines: orderid, sku, batchref, qty, eta ('' for null), version
//	Availability: sku, version, available; and of a batch ref, qty, available, eta, version, null if there is none
//	List: the same, of the SKUs after the first argument, as many as the second says, and none after the one with which there
//	are as many rows as the third says
//	SKUs: ref, sku
//	Outcomes: as in readmodel.Outcome; "": the store does not keep them
//
// in the order that readmodel.Reader wants, and bounded as it says.
type Queries struct{ Orders, Lines, Availability, List, SKUs, Outcomes string }

// Reader is all of a readmodel.Reader but its name, and a readmodel.Lister.
type Reader struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	queries Queries
}

// New returns a reader. It connects when it is first asked.
func New(cfg Config) (*Reader, error) {
	pool, err := Pool(cfg.ConnURL, connectionsMax, func(c *pgx.ConnConfig) {
		ms := fmt.Sprint(cfg.Timeout.Milliseconds())
		c.RuntimeParams["application_name"] = "lotline-reader"
		c.RuntimeParams["default_transaction_read_only"] = "on"
		c.RuntimeParams["statement_timeout"] = ms
		// Every question finds its rows by keys, in sets of a size that the planner cannot see: one generic plan by
		// index is right for all of them.
		c.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
		c.RuntimeParams["enable_seqscan"] = "off"
		c.RuntimeParams["jit"] = "off"
		if cfg.SearchPath != "" {
			c.RuntimeParams["search_path"] = pgx.Identifier{cfg.SearchPath}.Sanitize()
		}
		c.ConnectTimeout = dialTimeout
	})
	if err != nil {
		return nil, err
	}
	return &Reader{pool: pool, timeout: cfg.Timeout, queries: cfg.Queries}, nil
}

// Pool returns a pool of at most so many connections, each with what set changes. It connects when it is first used.
func Pool(connURL func() (string, error), connections int32, set func(*pgx.ConnConfig)) (*pgxpool.Pool, error) {
	url, err := connURL()
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the Postgres URL: %w", err)
	}
	set(cfg.ConnConfig)
	cfg.MaxConns = connections
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		url, err := connURL()
		if err != nil {
			return err
		}
		now, err := pgx.ParseConfig(url)
		if err != nil {
			return fmt.Errorf("read the Postgres URL: %w", err)
		}
		set(now)
		*c = *now
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("set up the Postgres client: %w", err)
	}
	return pool, nil
}

// Close closes the connections.
func (r *Reader) Close() error {
	r.pool.Close()
	return nil
}

// Check asks every question once, about nothing.
func (r *Reader) Check(ctx context.Context) error {
	for what, query := range map[string]string{
		"orders": r.queries.Orders, "lines": r.queries.Lines, "availability": r.queries.Availability, "SKUs": r.queries.SKUs,
		"outcomes": r.queries.Outcomes,
	} {
		if query == "" {
			continue
		}
		keys := [][]string{{}}
		if what == "lines" {
			keys = append(keys, []string{})
		}
		if err := r.each(ctx, query, func(pgx.Rows) error { return nil }, keys...); err != nil {
			return fmt.Errorf("ask for %s: %w", what, err)
		}
	}
	return nil
}

// Orders returns where the lines of orders are allocated.
func (r *Reader) Orders(ctx context.Context, orderIDs []string) (map[string][]readmodel.Allocation, error) {
	found := map[string][]readmodel.Allocation{}
	err := r.each(ctx, r.queries.Orders, func(row pgx.Rows) error {
		var orderID string
		var a readmodel.Allocation
		var version int64
		err := row.Scan(&orderID, &a.SKU, &a.BatchRef, &version)
		a.Version = uint64(version)
		found[orderID] = append(found[orderID], a)
		return err
	}, distinct(orderIDs))
	return found, err
}

// Lines returns single order lines.
func (r *Reader) Lines(ctx context.Context, keys []readmodel.LineKey) (map[readmodel.LineKey]readmodel.Line, error) {
	orders, skus := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		orders[i], skus[i] = key.OrderID, key.SKU
	}
	found := map[readmodel.LineKey]readmodel.Line{}
	err := r.each(ctx, r.queries.Lines, func(row pgx.Rows) error {
		var l readmodel.Line
		var version int64
		err := row.Scan(&l.OrderID, &l.SKU, &l.BatchRef, &l.Qty, &l.ETA, &version)
		l.Version = uint64(version)
		found[readmodel.LineKey{OrderID: l.OrderID, SKU: l.SKU}] = l
		return err
	}, orders, skus)
	return found, err
}

// distinct returns the keys, each once: one that is asked twice would be answered twice.
func distinct(keys []string) []string { return slices.Compact(slices.Sorted(slices.Values(keys))) }

// Availability returns what is left of SKUs and their batches, of one moment.
func (r *Reader) Availability(ctx context.Context, skus []string) (map[string]readmodel.Availability, error) {
	found := map[string]readmodel.Availability{}
	err := r.each(ctx, r.queries.Availability, func(row pgx.Rows) error {
		a, err := scanAvailability(row)
		a.Batches = append(found[a.SKU].Batches, a.Batches...)
		found[a.SKU] = a
		return err
	}, skus)
	return found, err
}

// scanAvailability reads a SKU with one of its batches, or none.
func scanAvailability(row pgx.Rows) (a readmodel.Availability, err error) {
	var version int64
	var b struct {
		ref, eta       *string
		qty, available *int32
		version        *int64
	}
	if err := row.Scan(&a.SKU, &version, &a.Available, &b.ref, &b.qty, &b.available, &b.eta, &b.version); err != nil {
		return a, err
	}
	a.Version = uint64(version)
	if b.ref != nil {
		a.Batches = []readmodel.Batch{{Ref: *b.ref, Qty: *b.qty, Available: *b.available, ETA: *b.eta, Version: uint64(*b.version)}}
	}
	return a, nil
}

// List returns what is left of the SKUs after one, of one moment.
func (r *Reader) List(ctx context.Context, after string, limit, batches int) (found []readmodel.Availability, err error) {
	err = r.eachRow(ctx, r.queries.List, func(row pgx.Rows) error {
		a, err := scanAvailability(row)
		if last := len(found) - 1; last >= 0 && found[last].SKU == a.SKU {
			found[last].Batches = append(found[last].Batches, a.Batches...)
		} else {
			found = append(found, a)
		}
		return err
	}, after, limit, batches)
	return found, err
}

// SKUs returns which SKUs have a batch of a ref.
func (r *Reader) SKUs(ctx context.Context, refs []string) (map[string][]string, error) {
	found := map[string][]string{}
	err := r.each(ctx, r.queries.SKUs, func(row pgx.Rows) error {
		var ref, sku string
		err := row.Scan(&ref, &sku)
		found[ref] = append(found[ref], sku)
		return err
	}, distinct(refs))
	return found, err
}

// Outcomes returns what became of commands, or readmodel.ErrNotKept.
func (r *Reader) Outcomes(ctx context.Context, commandIDs []string) (map[string]readmodel.Outcome, error) {
	if r.queries.Outcomes == "" {
		return nil, fmt.Errorf("what became of a command: %w", readmodel.ErrNotKept)
	}
	found := map[string]readmodel.Outcome{}
	err := r.each(ctx, r.queries.Outcomes, func(row pgx.Rows) error {
		var o readmodel.Outcome
		var version int64
		err := row.Scan(&o.CommandID, &o.CommandSource, &o.Type, &o.SKU, &version,
			&o.OrderID, &o.BatchRef, &o.Reason, &o.Message, &o.EventTime)
		o.Version, o.EventTime = uint64(version), o.EventTime.UTC()
		found[o.CommandID] = o
		return err
	}, commandIDs)
	return found, err
}

// each runs a query about keys and calls fn for each of its rows.
func (r *Reader) each(ctx context.Context, sql string, fn func(pgx.Rows) error, keys ...[]string) error {
	args := make([]any, len(keys))
	for i, k := range keys {
		if k == nil {
			k = []string{} // null is no array
		}
		args[i] = k
	}
	return r.eachRow(ctx, sql, fn, args...)
}

// eachRow calls fn for each row of a query.
func (r *Reader) eachRow(ctx context.Context, sql string, fn func(pgx.Rows) error, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the rows: %w", err)
	}
	return nil
}
