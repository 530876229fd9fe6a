package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lotline/lotline/tests/internal/cache"
	"github.com/lotline/lotline/tests/internal/debian"
)

// Varnish compiles its configuration, with the machine's compiler: Debian's would be 60 MB more.
var varnishPackages = func() cache.Folder {
	folder := debian.Packages("varnish", "Varnish (70 MB from Debian)",
		[]string{"gcc", "gcc-12", "gcc-14", "cpp", "cpp-12", "cpp-14", "binutils", "libc6-dev"}, "varnish")
	folder.Tools = append(folder.Tools, cache.Tool{Command: "cc", Needs: "a C compiler (Debian: gcc)"})
	return folder
}()

// Varnish is the folder of Varnish, for fetching it.
func Varnish() cache.Folder { return varnishPackages }

// StartVarnish starts an HTTP cache before the server at backend (host:port), as Debian configures it: what answers say of
// caching is obeyed, and that is all. It waits until it takes connections.
func StartVarnish(ctx context.Context, o Options, backend string) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start varnish: %w", err)
	}
	dir, err := varnishPackages.Dir(ctx)
	if err != nil {
		return nil, fmt.Errorf("start varnish: %w", err)
	}
	libraries, err := debian.Libraries(dir)
	if err != nil {
		return nil, fmt.Errorf("start varnish: %w", err)
	}
	modules, err := filepath.Glob(filepath.Join(dir, "root", "usr", "lib", "*-linux-gnu*", "varnish"))
	if err != nil || len(modules) != 1 {
		return nil, fmt.Errorf("start varnish: its libraries are not in %s: %w", dir, err)
	}
	s := &Server{
		Name: "varnish", Addr: local(o.Port), LogFile: o.LogFile, stopSignal: syscall.SIGTERM,
		command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(dir, "root", "usr", "sbin", "varnishd"), "-F", "-j", "none", "-n", o.DataDir, "-a", local(o.Port),
				"-b", backend, "-s", "malloc,64m", "-p", "vmod_path="+filepath.Join(modules[0], "vmods"))
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries+":"+modules[0])
			return cmd
		},
		ready: func(ctx context.Context) error {
			dialer := net.Dialer{Timeout: time.Second}
			conn, err := dialer.DialContext(ctx, "tcp", local(o.Port))
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
	return s, s.Restart(ctx)
}
