package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// boundWrites returns a way to connect that is like that of opts, but fails a write that takes longer, as to a server that
// is frozen: the client bounds only what it sends last of an insert.
func boundWrites(opts *clickhouse.Options, within time.Duration) func(ctx context.Context, addr string) (net.Conn, error) {
	dial := opts.DialContext
	if dial == nil {
		dialer := net.Dialer{Timeout: opts.DialTimeout}
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &boundedConn{conn, within}, nil
	}
}

type boundedConn struct {
	net.Conn
	within time.Duration
}

func (c *boundedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.within)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// SyscallConn is how the client sees that the server has closed a connection since it was last used, as one that was restarted,
// and takes another: those to the hosts of a cluster lie idle while a generation is filled.
func (c *boundedConn) SyscallConn() (syscall.RawConn, error) {
	conn := c.Conn
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	if raw, ok := conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
