package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
)

// tick is how often requests that are due are sent, those of a tick together: waking for each by itself took half of what this
// program takes from what it measures. Latencies count from when each was due, so half a tick is in them.
const tick = time.Millisecond

// load is a stream of requests.
type load struct {
	name        string // of its profile, if the gateway is profiled; "": it is not
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
	latencies []time.Duration // of 2xx
	refused   int             // with 503
	failed    int             // with any other 5xx
	cpu       []used
}

func (r *result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// add reports what a load came to.
func (s *site) add(table, row string, r *result) {
	s.report.Add(table, row, "answers", "/s", r.rate())
	s.report.AddLatencies(table, row, r.latencies)
	s.report.Add(table, row, "refused", "/s", float64(r.refused)/r.took.Seconds())
	s.report.Add(table, row, "failed", "", float64(r.failed))
	s.costs(table+", "+row, r)
}

// rounds runs a load as often as there are rounds, and reports each.
func (s *site) rounds(ctx context.Context, table, row string, l *load) error {
	for range s.Rounds {
		r, err := s.run(ctx, l)
		if err != nil {
			return err
		}
		s.add(table, row, r)
	}
	return nil
}

// run sends the requests and returns once all are answered.
func (s *site) run(ctx context.Context, l *load) (*result, error) {
	before, err := s.used()
	if err != nil {
		return nil, err
	}
	profiled, err := s.profile(ctx, l)
	if err != nil {
		return nil, err
	}
	all, err := l.run(ctx)
	if err = errors.Join(err, profiled()); err != nil {
		return nil, err
	}
	after, err := s.used()
	if err != nil {
		return nil, err
	}
	for i := range after {
		after[i].time -= before[i].time
	}
	all.cpu = after
	return all, nil
}

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
		if l.rate > 0 {
			time.Sleep(time.Until(start.Add((due.Sub(start) + tick - 1).Truncate(tick))))
		}
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

// client is one connection of a gateway's client. fasthttp reads and writes, without its own client: pools and deadlines of
// each request would be a good part of what the client takes from what it measures.
type client struct {
	addr     string
	conn     net.Conn // nil: not connected yet
	reader   *bufio.Reader
	writer   *bufio.Writer
	request  fasthttp.Request
	response fasthttp.Response
}

func (s *site) clients(n int) []*client {
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = &client{addr: s.config.Gateway.HTTPAddr}
		clients[i].request.Header.SetHost(s.config.Gateway.HTTPAddr)
	}
	return clients
}

func (c *client) get(path string) (status int, body []byte, err error) {
	return c.do(fasthttp.MethodGet, path)
}

func (c *client) post(path string, json []byte) (status int, body []byte, err error) {
	c.request.Header.SetMethod(fasthttp.MethodPost)
	c.request.Header.SetContentType("application/json")
	c.request.Header.Set("Prefer", "wait=10")
	c.request.SetBodyRaw(json)
	return c.do(fasthttp.MethodPost, path)
}

// do sends the request and reads the answer. The body is good until the next one.
func (c *client) do(method, path string) (status int, body []byte, err error) {
	if c.conn == nil {
		if c.conn, err = new(net.Dialer).DialContext(context.Background(), "tcp", c.addr); err != nil {
			return 0, nil, fmt.Errorf("connect to the gateway: %w", err)
		}
		c.reader, c.writer = bufio.NewReader(c.conn), bufio.NewWriter(c.conn)
	}
	c.request.Header.SetRequestURI(path)
	if err = c.request.Write(c.writer); err == nil {
		err = c.writer.Flush()
	}
	if err == nil {
		err = c.response.Read(c.reader)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%s %.100s: %w", method, path, err)
	}
	return c.response.StatusCode(), c.response.Body(), nil
}
