package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
)

const answerWithin = 15 * time.Second

// load is a stream of requests.
type load struct {
	connections int
	duration    time.Duration
	rate        float64 // a second; 0: every connection asks again at once
	fromSending bool    // count latencies from when a request was sent: if more are due than connections can carry, others wait for one
	// ask makes the request and checks what comes, n being its number. An error ends the load.
	ask func(worker int, n int64) (status int, err error)
}

// result is what a load came to.
type result struct {
	took      time.Duration
	latencies []time.Duration // of 2xx, sorted
	refused   int             // with 503
	failed    int             // with any other 5xx
}

func (r *result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

func (r *result) at(share float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[int(share*float64(len(r.latencies)-1))]
}

// run sends the requests and returns once all are answered.
func (l *load) run(ctx context.Context) (*result, error) {
	group, ctx := errgroup.WithContext(ctx)
	workers := make([]result, l.connections)
	var next atomic.Int64
	start := time.Now()
	for worker := range l.connections {
		group.Go(func() error { return l.work(ctx, worker, start, &next, &workers[worker]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := &result{took: time.Since(start)}
	if l.rate > 0 {
		all.took = max(all.took, l.duration)
	}
	for _, w := range workers {
		all.latencies = append(all.latencies, w.latencies...)
		all.refused += w.refused
		all.failed += w.failed
	}
	slices.Sort(all.latencies)
	return all, nil
}

func (l *load) work(ctx context.Context, worker int, start time.Time, next *atomic.Int64, r *result) error {
	for ctx.Err() == nil {
		n := next.Add(1) - 1
		due := time.Now()
		if l.rate > 0 {
			due = start.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
		}
		if due.Sub(start) >= l.duration {
			return nil
		}
		time.Sleep(time.Until(due))
		if l.fromSending {
			due = time.Now()
		}
		status, err := l.ask(worker, n)
		switch {
		case err != nil:
			return err
		case status == fasthttp.StatusServiceUnavailable:
			r.refused++
		case status >= 500:
			r.failed++
		case status >= 300:
			return fmt.Errorf("request %d was answered with %d", n, status)
		default:
			r.latencies = append(r.latencies, time.Since(due))
		}
	}
	return ctx.Err()
}

// client is one connection of a gateway's client.
type client struct {
	host     *fasthttp.HostClient
	request  fasthttp.Request
	response fasthttp.Response
}

func (s *site) clients(n int) []*client {
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = &client{host: &fasthttp.HostClient{Addr: s.config.Gateway.HTTPAddr, MaxConns: 1, ReadTimeout: answerWithin, WriteTimeout: answerWithin}}
		clients[i].request.Header.SetHost(s.config.Gateway.HTTPAddr)
	}
	return clients
}

func (c *client) get(path string) (status int, body []byte, err error) {
	c.request.SetRequestURI("http://" + c.host.Addr + path)
	if err := c.host.Do(&c.request, &c.response); err != nil {
		return 0, nil, fmt.Errorf("GET %.100s: %w", path, err)
	}
	return c.response.StatusCode(), c.response.Body(), nil
}

func (c *client) post(path string, json []byte) (status int, body []byte, err error) {
	c.request.SetRequestURI("http://" + c.host.Addr + path)
	c.request.Header.SetMethod(fasthttp.MethodPost)
	c.request.Header.SetContentType("application/json")
	c.request.Header.Set("Prefer", "wait=10")
	c.request.SetBodyRaw(json)
	if err := c.host.Do(&c.request, &c.response); err != nil {
		return 0, nil, fmt.Errorf("POST %s: %w", path, err)
	}
	return c.response.StatusCode(), c.response.Body(), nil
}
