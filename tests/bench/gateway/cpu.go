package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/lotline/lotline/tests/bench/usage"
)

// used is the CPU time of a process.
type used struct {
	name string
	time time.Duration
}

// used tells what everybody who takes part used so far, if that is to be said: this program, the services and the servers.
func (s *site) used() ([]used, error) {
	if !s.CPU {
		return nil, nil
	}
	if s.servers == nil {
		at, err := url.Parse(s.Postgres)
		if err != nil {
			return nil, err
		}
		for _, p := range []struct{ name, addr string }{{"ClickHouse", s.ClickHouse}, {"Kafka", s.Kafka[0]}, {"Postgres", at.Host}} {
			server, err := usage.Listening(p.name, p.addr)
			if err != nil {
				return nil, err
			}
			s.servers = append(s.servers, server)
		}
	}
	own, err := usage.Process{Name: "this program", PID: os.Getpid()}.CPU()
	if err != nil {
		return nil, err
	}
	all := []used{{"this program", own}}
	processes := s.servers
	for _, p := range s.services {
		processes = append(processes[:len(processes):len(processes)], usage.Process{Name: filepath.Base(p.cmd.Path), PID: p.cmd.Process.Pid})
	}
	for i, p := range processes {
		of, err := p.CPU()
		if err != nil {
			return nil, err
		}
		if i >= len(s.servers) {
			all[0].time -= of // the services are its children
		}
		all = append(all, used{p.Name, of})
	}
	return all, nil
}

const cpuTable = "CPU us an answer"

// costs reports what the answers of a load cost.
func (s *site) costs(row string, r *result) {
	var sum time.Duration
	for _, u := range r.cpu {
		s.report.Add(cpuTable, row, u.name, "", float64(u.time.Microseconds())/float64(len(r.latencies)))
		sum += u.time
	}
	if s.CPU {
		s.report.Add(cpuTable, row, "cores in all", "", sum.Seconds()/r.took.Seconds())
	}
}

// profile takes profiles of the gateway and of this program while a load runs, if it is to. What is returned waits for them.
func (s *site) profile(ctx context.Context, l *load) (wait func() error, err error) {
	if s.Profile == "" || l.name == "" {
		return func() error { return nil }, nil
	}
	own, err := os.Create(filepath.Join(s.Profile, l.name+"-client.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(own); err != nil {
		return nil, err
	}
	gateway := make(chan error, 1)
	go func() { gateway <- s.profileGateway(ctx, l) }()
	return func() error {
		pprof.StopCPUProfile()
		return errors.Join(own.Close(), <-gateway)
	}, nil
}

func (s *site) profileGateway(ctx context.Context, l *load) error {
	span := min(usage.ProfileMax, max(time.Second, l.duration-time.Second))
	profile, err := usage.CPUProfile(ctx, s.config.Gateway.AdminAddr, span)
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	return os.WriteFile(filepath.Join(s.Profile, l.name+".pprof"), profile, 0o644)
}
