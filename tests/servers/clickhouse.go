package servers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/ebitengine/purego"
)

// StartClickHouse starts ClickHouse with its native and HTTP protocols and waits until it answers. The user is
// "default", without a password.
func StartClickHouse(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	cache, err := npmPackages.Dir(ctx)
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	library := filepath.Join(cache, "node_modules", "@chdb", "lib-linux-x64-gnu", "libchdb.so")
	if _, err := os.Stat(library); err != nil {
		return nil, fmt.Errorf("start clickhouse: package-lock.json has no ClickHouse for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	for _, config := range []string{"clickhouse/config.xml", "clickhouse/users.xml"} {
		if err := writeEmbedded(config, o.DataDir); err != nil {
			return nil, fmt.Errorf("start clickhouse: %w", err)
		}
	}
	command, err := child("clickhouse", library, o.DataDir, strconv.Itoa(o.Port), strconv.Itoa(o.SecondPort))
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	s := &Server{
		Name: "clickhouse", Addr: local(o.Port), HTTPAddr: local(o.SecondPort), LogFile: o.LogFile,
		stopSignal: syscall.SIGTERM, command: command,
		ready: func(ctx context.Context) error { return ping(ctx, "http://"+local(o.SecondPort)+"/ping") },
	}
	return s, s.Restart(ctx)
}

func ping(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", address, response.Status)
	}
	return nil
}

// serveClickHouse is the server's process: it runs the library's "clickhouse local" with a script that listens, then
// reads from a pipe for as long as the server is to live. SIGTERM closes the pipe, and the script goes on to its end.
func serveClickHouse(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: LIBRARY DATADIR TCP_PORT HTTP_PORT")
	}
	library, dir, tcp, web := args[0], args[1], args[2], args[3]
	lifeline, release, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load ClickHouse: %w", err)
	}
	var (
		handleSignals func(enabled int32)
		queryCmdline  func(argc int32, argv **byte) uintptr
	)
	purego.RegisterLibFunc(&handleSignals, handle, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&queryCmdline, handle, "chdb_query_cmdline")
	handleSignals(0) // they are this program's
	if err := outliveConnections(library, handle); err != nil {
		return fmt.Errorf("keep connections from ending ClickHouse: %w", err)
	}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	var stopping atomic.Bool
	go func() {
		<-stop
		stopping.Store(true)
		_ = release.Close()
	}()
	script := fmt.Sprintf("SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; "+
		"SELECT * FROM file('/dev/fd/%d', LineAsString) FORMAT Null; "+
		"SYSTEM STOP LISTEN TCP; SYSTEM STOP LISTEN HTTP", lifeline.Fd())
	argv, free := cStrings("clickhouse", "--path="+dir, "--listen_host=127.0.0.1", "--tcp_port="+tcp, "--http_port="+web,
		"--config-file="+filepath.Join(dir, "config.xml"), "--query", script)
	defer free()
	queryCmdline(int32(len(argv)-1), &argv[0])
	runtime.KeepAlive(lifeline)
	if !stopping.Load() {
		return errors.New("ClickHouse ended unasked")
	}
	return nil
}

// cStrings returns a C argument vector: NUL-terminated strings, then a nil pointer; it stays in place until freed.
func cStrings(list ...string) (argv []*byte, free func()) {
	var pinner runtime.Pinner
	for _, s := range list {
		text := append([]byte(s), 0)
		pinner.Pin(&text[0])
		argv = append(argv, &text[0])
	}
	argv = append(argv, nil)
	pinner.Pin(&argv[0])
	return argv, pinner.Unpin
}
