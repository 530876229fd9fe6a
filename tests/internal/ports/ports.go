// Package ports finds free ports for test servers and services. tests/servers, tests/stack and tests/crash call it; it
// imports the standard library only.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports that are tried lie below those that systems give to outgoing connections (from 32768 on Linux): a port
// from among these could be taken by a connection between the moment it is found here and the moment it is listened on.
const (
	lowest  = 12_000
	highest = 32_000
	tries   = 100
)

// given are the ports that this process got before. Whoever asked for one may not listen on it yet: servers that start side by
// side would get the same one now and then, and one of them would fail.
var given sync.Map

// Free returns a port on 127.0.0.1 that nobody listens on, and to this process each only once. Two processes get the same one hardly
// ever, not never.
func Free() (int, error) {
	errs := errors.New("all that were tried were given out before")
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		if _, before := given.LoadOrStore(port, true); before {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			errs = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port: %w", errs)
}
