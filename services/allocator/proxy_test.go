//go:build integration

package allocator_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between an allocator and Postgres and does something to the connection at the moment that matters:
// when a commit, which is what carries events, passes.
type proxy struct {
	url string

	mu       sync.Mutex
	onCommit func(*link) (forward bool)
	commits  int
}

// link is one proxied connection.
type link struct {
	client, server net.Conn
	swallow        bool // answers do not arrive any more; the connection ends once the commit is acknowledged
	mu             sync.Mutex
}

// Bytes that only a commit's request holds, and the end of Postgres' answer to one that was committed.
var (
	commitMark   = []byte(`"commandid":`)
	readyForMore = []byte{'Z', 0, 0, 0, 5, 'I'}
)

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	u.Host = listener.Addr().String()
	p := &proxy{url: u.String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			l := &link{client: client, server: to}
			t.Cleanup(l.cut)
			go p.requests(l)
			go l.answers()
		}
	}()
	return p
}

// at does fn to the next commits; fn returns whether the request goes on to Postgres.
func (p *proxy) at(fn func(*link) (forward bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onCommit = fn
}

func (p *proxy) seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commits
}

func (p *proxy) requests(l *link) {
	defer l.cut()
	buf := make([]byte, 1<<16)
	for {
		n, err := l.client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], commitMark) {
			p.mu.Lock()
			p.commits++
			fn := p.onCommit
			p.mu.Unlock()
			if fn != nil && !fn(l) {
				return
			}
		}
		if _, err := l.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *link) answers() {
	defer l.cut()
	buf := make([]byte, 1<<16)
	for {
		n, err := l.server.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		swallow := l.swallow
		l.mu.Unlock()
		switch {
		case !swallow:
			if _, err := io.Copy(l.client, bytes.NewReader(buf[:n])); err != nil {
				return
			}
		case bytes.HasSuffix(buf[:n], readyForMore):
			return
		}
	}
}

// loseAnswer lets the commit happen and cuts the connection before its answer arrives.
func (l *link) loseAnswer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swallow = true
}

func (l *link) cut() {
	_ = l.client.Close()
	_ = l.server.Close()
}
