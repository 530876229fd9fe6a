package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// process is a process on this machine.
type process struct {
	name string
	pid  int
}

// processes finds those that listen where the pipeline's servers do, on this machine.
func (s *site) processes() (all []process, err error) {
	at, err := url.Parse(s.Postgres)
	if err != nil {
		return nil, err
	}
	for _, p := range []struct{ name, addr string }{{"Postgres", at.Host}, {"ClickHouse", s.ClickHouse}, {"Kafka", s.Kafka[0]}} {
		pid, err := listener(p.addr)
		if err != nil {
			return nil, fmt.Errorf("find the process of %s: %w", p.name, err)
		}
		all = append(all, process{p.name, pid})
	}
	return append(all, process{"the services and this program", os.Getpid()}), nil
}

// listener returns the oldest process that has the socket on which somebody listens at a port.
func listener(addr string) (int, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, err
	}
	var sockets []string
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(table)) {
			const local, state, inode, listens = 1, 3, 9, "0A"
			if f := strings.Fields(line); len(f) > inode && f[state] == listens && strings.HasSuffix(f[local], fmt.Sprintf(":%04X", number)) {
				sockets = append(sockets, "socket:["+f[inode]+"]")
			}
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	oldest := 0
	for _, file := range files {
		to, err := os.Readlink(file)
		if err != nil || !slices.Contains(sockets, to) { // it has ended meanwhile
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil && (oldest == 0 || pid < oldest) {
			oldest = pid
		}
	}
	if oldest == 0 {
		return 0, fmt.Errorf("nobody on this machine listens at %s", addr)
	}
	return oldest, nil
}

// cpu returns what a process, its children and theirs used so far.
func (p process) cpu() (time.Duration, error) {
	const perSecond = 100 // the kernel's unit, as it tells it
	var ticks int64
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	used, parents := make(map[int]int64), make(map[int]int)
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile: its parent has its time
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		_, after, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(after)
		parents[pid], _ = strconv.Atoi(f[1])
		for _, field := range f[11:15] { // its own, and that of children that have ended
			n, _ := strconv.ParseInt(field, 10, 64)
			used[pid] += n
		}
	}
	if _, runs := used[p.pid]; !runs {
		return 0, fmt.Errorf("%s has ended", p.name)
	}
	for pid, n := range used {
		for at := pid; at > 1; at = parents[at] {
			if at == p.pid {
				ticks += n
				break
			}
		}
	}
	return time.Duration(ticks) * time.Second / perSecond, nil
}
