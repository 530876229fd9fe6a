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
	for _, skus := range []int64{allocatedSKUs, 1} {
		ask := func(round int) func(int, int64) (int, error) {
			return func(worker int, n int64) (int, error) {
				body := fmt.Appendf(nil, `{"orderid":"o-%d-%d-%d-%d","sku":"SKU-%d","qty":1}`, run, skus, round, n, n%skus)
				return post(worker, "/allocate", body, http.StatusAccepted, "Allocated")
			}
		}
		if skus > 1 {
			if _, err := s.run(ctx, &load{connections: s.Writers, duration: s.Warm, ask: ask(-1)}); err != nil {
				return err
			}
		}
		for round := range s.Rounds {
			r, err := s.run(ctx, &load{name: fmt.Sprint("allocate-", skus), connections: s.Writers, duration: s.Duration, ask: ask(round)})
			if err != nil {
				return err
			}
			s.add(table, fmt.Sprintf("%d SKUs, %d connections", skus, s.Writers), r)
		}
	}
	return nil
}
