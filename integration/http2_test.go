package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// http2Server listens at a fixed address with a certificate that lasts, so that
// it can be restarted.
type http2Server struct {
	addr string
	tls  *tls.Config
	pool *http.Transport
	jobs jobs
}

func newHTTP2(t testing.TB) *http2Server {
	model := httptest.NewUnstartedServer(nil)
	model.EnableHTTP2 = true
	model.StartTLS()
	defer model.Close()
	base := model.Client().Transport.(*http.Transport).Clone()
	base.ForceAttemptHTTP2 = true
	t.Cleanup(base.CloseIdleConnections)
	return &http2Server{addr: address(freePort(t)), tls: model.TLS.Clone(), pool: base}
}

func (s *http2Server) start(t testing.TB) *http.Server {
	t.Helper()
	listener, err := net.Listen("tcp", s.addr)
	require.NoError(t, err)
	server := &http.Server{Handler: &s.jobs, TLSConfig: s.tls.Clone()}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	return server
}

// A server over HTTP/2 that is restarted gracefully (GOAWAY, then the listener
// again) under load: each job is done.
func TestHTTP2GracefulRestart(t *testing.T) {
	const n = 10000
	s := newHTTP2(t)
	server := s.start(t)
	client, err := retry.NewRetryableClient(&http.Client{Transport: s.pool, Timeout: 10 * time.Second},
		retry.Config{InitialDelay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond, MaxRetries: 200})
	require.NoError(t, err)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		assert.Zero(t, work(t.Context(), t, client, "https://"+s.addr, n, 20))
	}()
	restarts := 0
	for running := true; running; {
		select {
		case <-finished:
			running = false
		case <-time.After(100 * time.Millisecond): // between restarts
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = server.Shutdown(ctx)
			cancel()
			server = s.start(t)
			restarts++
		}
	}
	require.NoError(t, server.Close())
	t.Logf("%d restarts", restarts)
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	assert.Len(t, s.jobs.seen, n)
}

// More requests than the server lets be in flight on one connection: those that
// it refuses (REFUSED_STREAM) or makes wait are all carried out, and once.
func TestHTTP2StreamLimit(t *testing.T) {
	s := newHTTP2(t)
	listener, err := net.Listen("tcp", s.addr)
	require.NoError(t, err)
	var most, now atomic.Int64
	server := &http.Server{TLSConfig: s.tls.Clone(), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 5},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			k := now.Add(1)
			for old := most.Load(); k > old && !most.CompareAndSwap(old, k); old = most.Load() {
			}
			s.jobs.ServeHTTP(w, r)
			now.Add(-1)
		})}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	defer server.Close()
	client, err := retry.NewRetryableClient(&http.Client{Transport: s.pool, Timeout: 10 * time.Second}, retry.Config{InitialDelay: 5 * time.Millisecond})
	require.NoError(t, err)
	assert.Zero(t, work(t.Context(), t, client, "https://"+s.addr, 1000, 100))
	s.jobs.once(t, 1000)
}

// deaf is a way to a server that can go dead: what is sent is lost, nothing comes
// back, and neither side closes.
type deaf struct {
	to   string
	mu   sync.Mutex
	dead []*deafConn
}

type deafConn struct {
	net.Conn
	off  atomic.Bool
	over chan struct{}
	once sync.Once
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.off.Load() {
		<-c.over
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *deafConn) Write(p []byte) (int, error) {
	if c.off.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *deafConn) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.Conn.Close()
}

func (d *deaf) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, d.to)
	if err != nil {
		return nil, err
	}
	c := &deafConn{Conn: conn, over: make(chan struct{})}
	d.mu.Lock()
	d.dead = append(d.dead, c)
	d.mu.Unlock()
	return c, nil
}

func (d *deaf) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.dead {
		c.off.Store(true)
	}
}

// A connection over HTTP/2 that goes dead without closing: the attempt's time
// limit ends the attempt, and the next one does not go to the same connection.
func TestHTTP2DeadConnection(t *testing.T) {
	s := newHTTP2(t)
	server := s.start(t)
	defer server.Close()
	way := &deaf{to: s.addr}
	s.pool.DialContext = way.dial
	attempts := 0
	client, err := retry.NewRetryableClient(&http.Client{Transport: s.pool, Timeout: 300 * time.Millisecond},
		retry.Config{InitialDelay: time.Millisecond, OnRetry: func(context.Context, retry.Event) { attempts++ }})
	require.NoError(t, err)
	for n := range 5 {
		attempts = 0
		resp, err := client.Get(t.Context(), fmt.Sprintf("https://%s/?job=%d", s.addr, n))
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n > 0 {
			assert.LessOrEqual(t, attempts, 1, "one attempt is lost with the connection, not two")
		}
		way.kill()
	}
}
