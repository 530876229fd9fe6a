package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/bench/report"
	"github.com/lotline/lotline/tests/bench/usage"
)

const (
	pageSKUs        = 200
	pageConnections = 4
	pagesPerSecond  = 20
	manyConnections = 1000
	memoryRate      = 2000
	// steadyRate is the same in every hour, which half of the most is not: half of the 20,000/s that a gateway is to answer at least.
	steadyRate = 10_000
	warmRate   = 1000
	// settling is how long the projector gets for what it could not project while ClickHouse was asked a query a request.
	settling  = 10 * time.Second
	freshness = "answers of GET /availability/{sku}"
)

// availability asks what is left, while it changes, by the gateway and by a query each.
func (s *site) availability(ctx context.Context) error {
	return s.whileStockChanges(ctx, func(ctx context.Context, k *stock) error {
		clients, zipfs := s.clients(s.Connections), s.zipfs(s.Connections)
		byGateway := func(worker int, _ int64) (int, error) {
			return s.askSKU(k, clients[worker], int(zipfs[worker]()))
		}
		byQuery := func(worker int, _ int64) (int, error) {
			return http.StatusOK, s.querySKU(ctx, zipfs[worker]())
		}
		if _, err := s.run(ctx, &load{connections: s.Connections, duration: s.Warm, rate: warmRate, ask: byGateway}); err != nil {
			return err
		}
		table := fmt.Sprintf("GET /availability/{sku}, %d SKUs, %d events/s", s.SKUs, s.Events)
		row := fmt.Sprintf("%d connections", s.Connections)
		for range s.Rounds {
			g, err := s.run(ctx, &load{name: "availability", connections: s.Connections, duration: s.Duration, ask: byGateway})
			if err != nil {
				return err
			}
			d, err := s.run(ctx, &load{connections: s.Connections, duration: s.Duration, ask: byQuery})
			if err != nil {
				return err
			}
			s.add(table, row, g)
			s.report.Add(table, row, "of a query a request", "", g.rate()/d.rate())
		}
		half := load{connections: s.Connections, duration: settling, rate: s.report.Value(table, row, "answers") / 2, ask: byGateway}
		if _, err := s.run(ctx, &half); err != nil {
			return err
		}
		half.name, half.duration = "availability-half", s.Duration
		if err := s.rounds(ctx, table, "at half of that", &half); err != nil {
			return err
		}
		steady := load{connections: s.Connections, duration: s.Duration, rate: steadyRate, ask: byGateway}
		if err := s.rounds(ctx, table, fmt.Sprintf("at %d/s", steadyRate), &steady); err != nil {
			return err
		}
		page, err := s.run(ctx, &load{name: "page", connections: pageConnections, duration: 2 * s.Duration, rate: pagesPerSecond, ask: func(worker int, _ int64) (int, error) {
			return s.askPage(k, clients[worker])
		}})
		if err != nil {
			return err
		}
		s.add(table, fmt.Sprintf("%d SKUs in one call, at random, %d calls/s", pageSKUs, pagesPerSecond), page)
		s.report.Add(freshness, "oldest, from the commit of what came next to the question", "age", "ms", report.Milliseconds(k.oldest))
		return k.err()
	})
}

// memory has many connections ask what is left.
func (s *site) memory(ctx context.Context) error {
	return s.whileStockChanges(ctx, func(ctx context.Context, k *stock) error {
		clients, zipfs := s.clients(manyConnections), s.zipfs(manyConnections)
		r, err := s.run(ctx, &load{name: "many", connections: manyConnections, duration: 4 * s.Duration, rate: memoryRate, ask: func(worker int, _ int64) (int, error) {
			return s.askSKU(k, clients[worker], int(zipfs[worker]()))
		}})
		if err != nil {
			return err
		}
		_, most, err := usage.Process{Name: "the gateway", PID: s.gateway.cmd.Process.Pid}.Memory()
		if err != nil {
			return err
		}
		const table = "GET /availability/{sku} over many connections"
		row := fmt.Sprintf("%d connections, %d questions/s", manyConnections, memoryRate)
		s.add(table, row, r)
		s.report.Add(table, row, "most memory of the gateway", "MiB", float64(most>>20))
		return k.err()
	})
}

// whileStockChanges fills the tables, starts gateway and projector, and measures while events come.
func (s *site) whileStockChanges(ctx context.Context, measure func(context.Context, *stock) error) (err error) {
	if err := s.fillSKUs(ctx); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	if err := s.startProjector(ctx); err != nil {
		return err
	}
	if err := s.projected(ctx); err != nil {
		return err
	}
	if err := s.startGateway(ctx); err != nil {
		return err
	}
	k := &stock{skus: make([]published, s.SKUs)}
	group, running := errgroup.WithContext(ctx)
	running, quiet := context.WithCancel(running)
	defer quiet()
	group.Go(func() error { return s.publish(running, k) })
	group.Go(func() error {
		defer quiet()
		return measure(running, k)
	})
	return errors.Join(group.Wait(), s.stop())
}

func (s *site) zipfs(n int) []func() uint64 {
	draws := make([]func() uint64, n)
	for i := range draws {
		draws[i] = newZipf(s.SKUs).Uint64
	}
	return draws
}

// askSKU holds the answer against what was published.
func (s *site) askSKU(k *stock, c *client, sku int) (status int, err error) {
	told := k.told(sku)
	asked := time.Now()
	status, body, err := c.get("/availability/SKU-" + strconv.Itoa(sku))
	if err != nil || status != http.StatusOK {
		return status, err
	}
	version, err := versionOf(body, sku)
	if err != nil {
		return status, err
	}
	k.answered(asked, told[0], sku, version)
	return status, nil
}

// askPage asks for many, as a page that lists them.
func (s *site) askPage(k *stock, c *client) (status int, err error) {
	skus := make([]int, pageSKUs)
	var query strings.Builder
	for i := range skus {
		skus[i] = rand.IntN(s.SKUs)
		fmt.Fprintf(&query, "&sku=SKU-%d", skus[i])
	}
	told := k.told(skus...)
	asked := time.Now()
	status, body, err := c.get("/availability?" + query.String()[1:])
	if err != nil || status != http.StatusOK {
		return status, err
	}
	answers := bytes.Split(body, []byte(`{"sku":`))[1:]
	if len(answers) != pageSKUs {
		return status, fmt.Errorf("%d of %d SKUs are answered", len(answers), pageSKUs)
	}
	for i, sku := range skus {
		version, err := versionOf(append([]byte(`{"sku":`), answers[i]...), sku)
		if err != nil {
			return status, err
		}
		k.answered(asked, told[i], sku, version)
	}
	return status, nil
}

// versionOf reads an answer, which has to say what is so at its version.
func versionOf(body []byte, sku int) (version uint64, err error) {
	_, after, _ := bytes.Cut(body, []byte(`"version":`))
	digits, _, _ := bytes.Cut(after, []byte(","))
	version, err = strconv.ParseUint(string(digits), 10, 64)
	left := stockOf - int64(version) + 1
	want := fmt.Sprintf(`{"sku":"SKU-%d","version":%d,"available":%d,"batches":[{"ref":"batch","qty":%d,"available":%d,"eta":null}]}`, sku, version, left, stockOf, left)
	if err == nil && !bytes.HasPrefix(body, []byte(want)) {
		err = fmt.Errorf("SKU-%d is answered with %.300s", sku, body)
	}
	return version, err
}

// err is what was wrong with answers.
func (k *stock) err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back+k.old > 0 {
		return fmt.Errorf("%d answers went back, %d were older than %s; the last one: %s", k.back, k.old, freshWithin, k.lastViolated)
	}
	return nil
}
