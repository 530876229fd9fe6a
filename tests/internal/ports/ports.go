// Package ports finds free ports for test servers and services. tests/servers, tests/stack and tests/crash call it; it
// imports the standard library only.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports that are tried lie below those that systems give to outgoing connections (from 32768 on Linux): a port
// from among these could be taken by a connection between the moment it is found here and the moment it is listened on.
const (
	lowest  = 12_000
	highest = 32_000
	tries   = 100
)

// Free returns a port on 127.0.0.1 that nobody listens on. Two callers get the same one hardly ever, not never.
func Free() (int, error) {
	var errs error
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			errs = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port: %w", errs)
}
