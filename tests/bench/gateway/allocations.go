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

	var most, ratios, alone, aloneDirect []float64
	var last, lastAlone, lastDirect *result
	for range s.Rounds {
		of := func(name string, connections int, ask func(int, int64) (int, error)) (*result, error) {
			return s.run(ctx, &load{name: name, connections: connections, duration: s.Round, ask: ask})
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
		last, lastAlone, lastDirect = g, one, oneDirect
		most, ratios = append(most, g.rate()), append(ratios, g.rate()/d.rate())
		alone, aloneDirect = append(alone, ms(one.at(0.5))), append(aloneDirect, ms(oneDirect.at(0.5)))
	}
	line(fmt.Sprintf("GET /allocations, %d lines, %d connections", s.Lines, s.Connections), "%.0f/s (rounds %.0f)", median(most), most)
	s.costs(last)
	line("  of a query a request on as many connections", "%.2f times (rounds %.2f)", median(ratios), ratios)
	line("1 connection, p50: gateway, query", "%.2f, %.2f ms (rounds %.2f, %.2f)", median(alone), median(aloneDirect), alone, aloneDirect)
	s.costs(lastAlone)
	s.costs(lastDirect)

	half, err := s.run(ctx, &load{name: "allocations-half", connections: s.Connections, duration: 2 * s.Round, rate: median(most) / 2, ask: byGateway})
	if err != nil {
		return err
	}
	line("at half of that", "p50 %.1f ms, p99 %.1f ms, most %.1f ms; %d refused", ms(half.at(0.5)), ms(half.at(0.99)), ms(half.at(1)), half.refused)
	over, err := s.run(ctx, &load{name: "allocations-over", connections: len(clients), duration: 2 * s.Round, rate: 4 * median(most), fromSending: true, ask: byGateway})
	if err != nil {
		return err
	}
	line(fmt.Sprintf("at four times that, %d connections", len(clients)), "%.0f/s answered (%.2f of the most), %.0f/s refused, %d failed; p50 %.0f ms, p99 %.0f ms from sending",
		over.rate(), over.rate()/median(most), float64(over.refused)/over.took.Seconds(), over.failed, ms(over.at(0.5)), ms(over.at(0.99)))
	s.costs(over)
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
