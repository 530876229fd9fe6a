package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
)

// waitsFor are the services that need a server.
var waitsFor = map[string][]string{
	postgres: {"allocator"}, clickHouse: {"projector"}, kafka: {"allocator", "projector"},
}

// serverKilled takes a server away under load, for as long as the options say.
func serverKilled(server string) func(context.Context, *Field) error {
	return func(ctx context.Context, f *Field) error {
		sent := f.loadOver(ctx, f.options.Outage)
		time.Sleep(f.options.Outage / 10)
		if err := f.hosts.servers[server].Kill(); err != nil {
			return err
		}
		killed := time.Now()
		for _, program := range waitsFor[server] {
			says, err := f.names(ctx, program, server)
			if err != nil {
				return errors.Join(err, f.hosts.servers[server].Restart(ctx))
			}
			f.took(server+" killed", "%s", says)
		}
		time.Sleep(f.options.Outage - time.Since(killed))
		if err := f.allTell(ctx, server); err != nil {
			return errors.Join(err, f.hosts.servers[server].Restart(ctx))
		}
		if err := f.hosts.servers[server].Restart(ctx); err != nil {
			return err
		}
		back := time.Now()
		if err := sent(); err != nil {
			return err
		}
		if err := f.readyAgain(ctx); err != nil {
			return err
		}
		f.measure(server+" back, all ready after", time.Since(back))
		return nil
	}
}

// allTell waits until every service that needs the server says that it is away, which one with little to do may find out
// late, and sees that the others have stayed ready.
func (f *Field) allTell(ctx context.Context, server string) error {
	for _, process := range processes {
		needs := slices.Contains(waitsFor[server], process[0])
		for began := time.Now(); ; time.Sleep(lookEvery) {
			says, other, err := f.tells(ctx, process, server)
			if err == nil && (needs && says != "" || !needs && says == "" && len(other) == 0) {
				break
			}
			if !needs || time.Since(began) > noticedWithin {
				return errors.Join(fmt.Errorf("%s was away, and %s %s says of it %q, and else %q", server, process[0], process[1], says, other), err)
			}
		}
	}
	return nil
}

// awayAtStart starts the services while no server answers, which is so for as long as the options say, and then gives them
// one server after the other.
func awayAtStart(ctx context.Context, f *Field) error {
	if err := f.load(ctx)(); err != nil {
		return err
	}
	for _, process := range processes {
		if err := f.stop(process[0], process[1]); err != nil {
			return err
		}
	}
	for _, proxy := range f.hosts.proxies {
		proxy.Stop()
	}
	if err := f.startAll(ctx); err != nil {
		return err
	}
	time.Sleep(f.options.Outage)
	// The allocator looks for Kafka first and for Postgres then, the projector for ClickHouse first and for Kafka then.
	for _, step := range []struct{ program, waitsFor, given string }{
		{"allocator", kafka, ""}, {"projector", clickHouse, clickHouse}, {"projector", kafka, kafka}, {"allocator", postgres, postgres},
	} {
		says, err := f.names(ctx, step.program, step.waitsFor)
		if err != nil {
			return err
		}
		f.took(step.waitsFor+" away at the start", "%s", says)
		if step.given == "" {
			continue
		}
		if err := f.hosts.proxies[step.given].Start(); err != nil {
			return fmt.Errorf("let %s be reached: %w", step.given, err)
		}
	}
	back := time.Now()
	if err := f.readyAgain(ctx); err != nil {
		return err
	}
	f.measure("all there, all ready after", time.Since(back))
	return nil
}

// spoil are the ways in which connections go bad, as toxiproxy's names and settings of answers on their way back.
var spoil = []struct{ name, settings string }{
	{"latency", `{"latency": 300, "jitter": 100}`}, // ms
	{"reset_peer", `{"timeout": 50}`},              // after so many ms
	{"limit_data", `{"bytes": 2000}`},              // then it closes, in the middle of a message
	{"timeout", `{"timeout": 0}`},                  // swallows everything and never closes
}

// badConnections spoils the connections to each server in each way, for a while, under load.
func badConnections(ctx context.Context, f *Field) error {
	sent := f.loadOver(ctx, 2*f.options.Outage)
	for _, server := range []string{postgres, clickHouse, kafka} {
		for _, bad := range spoil {
			before, err := f.probe(ctx, server)
			if err != nil {
				return fmt.Errorf("%s does not answer before its connections are spoiled: %w", server, err)
			}
			toxics := f.hosts.proxies[server].Toxics
			if _, err := toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
				`{"name": %[1]q, "type": %[1]q, "stream": "downstream", "attributes": %[2]s}`, bad.name, bad.settings))); err != nil {
				return fmt.Errorf("spoil the connections to %s with %s: %w", server, bad.name, err)
			}
			time.Sleep(f.options.Outage / 6)
			after, err := f.probe(ctx, server)
			if err == nil && after < before+150*time.Millisecond {
				return fmt.Errorf("the fault %s on %s did not take effect: an exchange took %s, before it %s", bad.name, server, after, before)
			}
			if err != nil {
				f.took(bad.name+" on "+server, "an exchange failed after %s: %v", after.Round(time.Millisecond), err)
			} else {
				f.took(bad.name+" on "+server, "an exchange took %s, before it %s", after.Round(time.Millisecond), before.Round(time.Millisecond))
			}
			if err := toxics.RemoveToxic(ctx, bad.name); err != nil {
				return fmt.Errorf("heal the connections to %s: %w", server, err)
			}
		}
	}
	healed := time.Now()
	if err := sent(); err != nil {
		return err
	}
	if err := f.readyAgain(ctx); err != nil {
		return err
	}
	f.measure("healed, all ready after", time.Since(healed))
	return nil
}

// probeWithin is how long an exchange may take, which takes 100 ms when all is well.
const probeWithin = 3 * time.Second

// probe exchanges some kilobytes with a server through its proxy.
func (f *Field) probe(ctx context.Context, server string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	start := time.Now()
	var err error
	switch addr := f.hosts.proxies[server].Listen; server {
	case postgres:
		err = f.probePostgres(ctx)
	case clickHouse:
		err = probeClickHouse(ctx, addr)
	case kafka:
		err = probeKafka(ctx, addr)
	}
	return time.Since(start), err
}

func (f *Field) probePostgres(ctx context.Context) error {
	proxied, err := f.hosts.proxied(f.servers.PostgresURL)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, proxied)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `SELECT repeat('x', 4000), pg_sleep(0.1)`)
	return err
}

func probeClickHouse(ctx context.Context, addr string) error {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{addr}, DialTimeout: probeWithin, ReadTimeout: probeWithin})
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(ctx, `SELECT randomString(4000), sleep(0.1)`)
}

// probeKafka speaks the protocol by hand: a client would try again by itself.
func probeKafka(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	const apiVersions = "\x00\x00\x00\x10\x00\x12\x00\x00\x00\x00\x00\x01\x00\x06drills"
	for read := 0; read < 4000; time.Sleep(10 * time.Millisecond) {
		if _, err := io.WriteString(conn, apiVersions); err != nil {
			return err
		}
		n, err := conn.Read(make([]byte, 4096))
		if err != nil {
			return err
		}
		read += n
	}
	return nil
}
