// Package usage says what processes on this machine use: CPU time, with all their children, and memory.
//
// The benchmarks call it. It imports the standard library only and reads /proc, so it works on Linux only.
package usage

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a process on this machine. Its methods may be called concurrently.
type Process struct {
	Name string // for people
	PID  int
}

// Listening finds the process that listens at an address (host:port): the oldest that has the socket.
func Listening(name, addr string) (Process, error) {
	pid, err := listener(addr)
	if err != nil {
		return Process{}, fmt.Errorf("find the process of %s: %w", name, err)
	}
	return Process{name, pid}, nil
}

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

// CPU returns what the process, its children and theirs used so far.
func (p Process) CPU() (time.Duration, error) {
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
	if _, runs := used[p.PID]; !runs {
		return 0, fmt.Errorf("%s has ended", p.Name)
	}
	for pid, n := range used {
		for at := pid; at > 1; at = parents[at] {
			if at == p.PID {
				ticks += n
				break
			}
		}
	}
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// Own returns what this process used so far, without its children.
func Own() time.Duration {
	var self syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &self) != nil {
		return 0 // it knows this process: it cannot fail
	}
	return time.Duration(self.Utime.Nano() + self.Stime.Nano())
}

// Memory returns the bytes that the process itself has in memory, and the most that it ever had.
func (p Process) Memory() (now, most int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, 0, fmt.Errorf("%s has ended: %w", p.Name, err)
	}
	field := func(name string) int64 {
		_, after, _ := strings.Cut(string(status), name+":")
		kib, parse := strconv.ParseInt(strings.Fields(after + " ?")[0], 10, 64)
		err = errors.Join(err, parse)
		return kib << 10
	}
	return field("VmRSS"), field("VmHWM"), err
}
