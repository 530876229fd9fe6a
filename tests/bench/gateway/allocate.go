package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	allocatedSKUs = 5000
	stockForAll   = 1_000_000_000
)

// allocate has order lines allocated, and waits for what becomes of each.
func (s *site) allocate(ctx context.Context) (err error) {
	for _, start := range []func(context.Context) error{s.startAllocator, s.startProjector, func(ctx context.Context) error { return s.startGateway(ctx) }} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	clients := s.clients(s.Writers)
	run := time.Now().UnixNano()
	post := func(worker int, path string, body []byte, status int, outcome string) (int, error) {
		got, answer, err := clients[worker].post(path, body)
		if err == nil && got < 500 && (got != status || !bytes.Contains(answer, []byte(`"outcome":"`+outcome+`"`))) {
			err = fmt.Errorf("%s is answered with %d %s", body, got, answer)
		}
		return got, err
	}
	group, _ := errgroup.WithContext(ctx)
	for worker := range s.Writers {
		group.Go(func() error {
			for n := worker; n < allocatedSKUs; n += s.Writers {
				body := fmt.Appendf(nil, `{"ref":"batch","sku":"SKU-%d","qty":%d,"eta":null}`, n, stockForAll)
				if _, err := post(worker, "/add_batch", body, http.StatusCreated, "BatchCreated"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	const table = "POST /allocate, and what became of it"
	var allocated, unsure int
	measure := func(l *load) (*result, error) {
		r, err := s.run(ctx, l)
		if err == nil {
			allocated, unsure = allocated+len(r.latencies), unsure+r.refused+r.failed
		}
		return r, err
	}
	for _, skus := range []int64{allocatedSKUs, 1} {
		ask := func(round int) func(int, int64) (int, error) {
			return func(worker int, n int64) (int, error) {
				body := fmt.Appendf(nil, `{"orderid":"o-%d-%d-%d-%d","sku":"SKU-%d","qty":1}`, run, skus, round, n, n%skus)
				return post(worker, "/allocate", body, http.StatusAccepted, "Allocated")
			}
		}
		if skus > 1 {
			if _, err := measure(&load{connections: s.Writers, duration: s.Warm, ask: ask(-1)}); err != nil {
				return err
			}
		}
		for round := range s.Rounds {
			r, err := measure(&load{name: fmt.Sprint("allocate-", skus), connections: s.Writers, duration: s.Duration, ask: ask(round)})
			if err != nil {
				return err
			}
			s.add(table, fmt.Sprintf("%d SKUs, %d connections", skus, s.Writers), r)
		}
	}
	return s.haveLines(ctx, fmt.Sprintf("o-%d-", run), allocated, unsure)
}

// haveLines holds the orders whose ids begin so, once they are projected, against the answers that they have a batch: each has its line,
// the one it asked for. Those that were answered with 5xx may have theirs or not.
func (s *site) haveLines(ctx context.Context, orders string, allocated, unsure int) error {
	if err := s.projected(ctx); err != nil {
		return err
	}
	var lines, asked uint64
	if err := s.conn.QueryRow(ctx, `SELECT count(), countIf(batchref = 'batch' AND qty = 1 AND eta IS NULL
			AND sku = concat('SKU-', toUInt64(splitByChar('-', orderid)[-1]) % toUInt64(splitByChar('-', orderid)[3])))
		FROM order_lines FINAL WHERE startsWith(orderid, ?)`, orders).Scan(&lines, &asked); err != nil {
		return fmt.Errorf("count the orders' lines: %w", err)
	}
	if lines != asked || int(lines) < allocated || int(lines) > allocated+unsure {
		return fmt.Errorf("%d orders were answered that they have a batch, and %d with 5xx; there are %d lines, %d of them as asked for", allocated, unsure, lines, asked)
	}
	return nil
}
