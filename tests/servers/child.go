package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// childVariable tells a copy of this program which server it is.
const childVariable = "LOTLINE_SERVERS_CHILD"

var initialized bool

// Init makes it possible to start ClickHouse and kfake, which run in a copy of the calling program; in such a copy it
// does not return. Call it first thing in main or TestMain.
func Init() {
	initialized = true
	var serve func(args []string) error
	switch os.Getenv(childVariable) {
	case "":
		return
	case "clickhouse":
		serve = serveClickHouse
	case "kfake":
		serve = serveKfake
	}
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child returns how to run the named server in a copy of this program.
func child(name string, args ...string) (func() *exec.Cmd, error) {
	if !initialized { // the copy would be this program all over again, and so on
		return nil, errors.New("servers.Init was not called first in main or TestMain")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return func() *exec.Cmd {
		cmd := exec.Command(self, args...)
		cmd.Env = append(os.Environ(), childVariable+"="+name)
		return cmd
	}, nil
}
