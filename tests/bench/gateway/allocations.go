package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// allocations asks where orders are: by the gateway, and by a query each.
func (s *site) allocations(ctx context.Context) (err error) {
	if err := s.fillOrders(ctx); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	if err := s.startGateway(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	clients := s.clients(32 * s.Connections)
	byGateway := func(worker int, _ int64) (int, error) { return s.askOrder(clients[worker]) }
	byQuery := func(int, int64) (int, error) {
		return http.StatusOK, s.queryOrder(ctx, rand.IntN(s.Lines/2))
	}

	table := fmt.Sprintf("GET /allocations, %d lines", s.Lines)
	all, alone := fmt.Sprintf("%d connections", s.Connections), "1 connection"
	for range s.Rounds {
		of := func(name string, connections int, ask func(int, int64) (int, error)) (*result, error) {
			return s.run(ctx, &load{name: name, connections: connections, duration: s.Duration, ask: ask})
		}
		g, err := of("allocations", s.Connections, byGateway)
		if err != nil {
			return err
		}
		d, err := of("", s.Connections, byQuery)
		if err != nil {
			return err
		}
		one, err := of("allocations-1", 1, byGateway)
		if err != nil {
			return err
		}
		oneDirect, err := of("", 1, byQuery)
		if err != nil {
			return err
		}
		if g.refused+g.failed > 0 {
			return fmt.Errorf("%d were refused and %d failed", g.refused, g.failed)
		}
		s.report.Add(table, all, "answers", "/s", g.rate())
		s.report.Add(table, all, "of a query a request", "", g.rate()/d.rate())
		s.add(table, alone, one)
		s.report.AddLatencies(table, alone+", a query a request", oneDirect.latencies)
		s.costs(table+", "+all, g)
		s.costs(table+", "+alone, one)
		s.costs(table+", "+alone+", a query a request", oneDirect)
	}
	most := s.report.Value(table, all, "answers")
	if err := s.rounds(ctx, table, "at half of that", &load{name: "allocations-half", connections: s.Connections, duration: s.Duration, rate: most / 2, ask: byGateway}); err != nil {
		return err
	}
	over, err := s.run(ctx, &load{name: "allocations-over", connections: len(clients), duration: 2 * s.Duration, rate: 4 * most, fromSending: true, ask: byGateway})
	if err != nil {
		return err
	}
	s.add(table, fmt.Sprintf("at four times that, %d connections, from sending", len(clients)), over)
	return nil
}

func (s *site) askOrder(c *client) (status int, err error) {
	order := rand.IntN(s.Lines / 2)
	status, body, err := c.get(fmt.Sprint("/allocations/order-", order))
	if want := fmt.Sprintf(`[{"sku":"SKU-0","batchref":"batch-%d"},{"sku":"SKU-1","batchref":"batch-%d"}]`+"\n", 2*order, 2*order+1); err == nil && status == http.StatusOK && string(body) != want {
		err = fmt.Errorf("order-%d is answered with %s", order, body)
	}
	return status, err
}
