package retry_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// pipes is a network for a testing/synctest bubble, where time does not pass while
// somebody waits for a connection of the kernel's.
type pipes struct {
	conns chan net.Conn
	over  chan struct{}
	close func()
}

// piped puts a server, which must not be started yet, on such a network, and
// returns what connects to it.
func piped(server *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	p := &pipes{conns: make(chan net.Conn), over: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.over) })
	server.Listener.Close()
	server.Listener = p
	return p.dial
}

// newPiped is newStand for a bubble, with a client that reaches it.
func newPiped(t testing.TB, answers ...http.HandlerFunc) (*stand, *http.Client) {
	s := unstarted(t, answers...)
	base := &http.Transport{DialContext: piped(s.Server)}
	t.Cleanup(base.CloseIdleConnections)
	s.Start()
	return s, &http.Client{Transport: base}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close(); return nil }

func (p *pipes) Addr() net.Addr { return p }

func (p *pipes) Network() string { return "pipe" }

func (p *pipes) String() string { return "example.com" } // which the certificate of httptest is for
