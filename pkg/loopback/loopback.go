// Package loopback tells requests that were sent to this machine by a name of its own from others.
//
// Who listens on the loopback only needs that beside it to keep a web page out which somebody at this machine looks at: its host's
// name, made to point here once the page is open (DNS rebinding), is the page's own origin to the browser, so that no other check
// between sites would fail.
//
// The gateway's API and the admin endpoint of every service ask it. It imports the standard library only.
package loopback

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Named reports whether a request was sent to this machine by a name of its own. One of HTTP/1.0 may have no name, as load balancers'
// checks do; a browser sends one with every request.
func Named(r *http.Request) bool {
	return Is(r.Host) || r.Host == "" && !r.ProtoAtLeast(1, 1)
}

// Is reports whether the host of a request, with a port or without, is localhost or an address of the loopback.
func Is(host string) bool {
	if at, err := netip.ParseAddrPort(host); err == nil {
		return at.Addr().IsLoopback()
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}
