package retry_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// pipes is a network for a testing/synctest bubble, where time does not pass while
// a goroutine waits for a connection of the kernel's.
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

// assertClosed waits for net/http, which may still be at the body when the answer
// is there. That it is not closed twice is seen at the end of the test.
func assertClosed(t *testing.T, body *countedClose) {
	t.Helper()
	assert.Eventually(t, func() bool { return body.closed.Load() > 0 }, 5*time.Second, time.Millisecond)
	t.Cleanup(func() { assert.EqualValues(t, 1, body.closed.Load()) })
}

func must(resp *http.Response, err error) *http.Response {
	if err != nil {
		panic(err)
	}
	return resp
}

// sending answers with a status, a content type and a body, sent in parts.
func sending(code int, kind string, parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		for _, part := range parts {
			io.WriteString(w, part)
			w.(http.Flusher).Flush()
		}
	}
}

// conversation starts a server that answers the requests on each of its connections in
// turn, with one answer each, and closes the connection after the last. Of an
// answer "" nothing is sent.
func conversation(t testing.TB, answers ...string) string {
	address, _ := countedConversation(t, answers...)
	return address
}

func countedConversation(t testing.TB, answers ...string) (string, *atomic.Int32) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	requests := new(atomic.Int32)
	serve := func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for _, answer := range answers {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			requests.Add(1)
			io.WriteString(conn, answer)
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "http://" + listener.Addr().String(), requests
}

// refusing makes the first dials meet a port where nothing listens.
func refusing(t testing.TB, times int32) *http.Transport {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	listener.Close()
	var dials atomic.Int32
	return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) <= times {
			address = closed
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

// newH2 is a server that speaks HTTP/2, and a base client for it.
func newH2(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *http.Transport) {
	server := httptest.NewUnstartedServer(handler)
	return server, startH2(t, server)
}

func startH2(t testing.TB, server *httptest.Server) *http.Transport {
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	base := server.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// newAnswers is a server that gives each connection one answer, and closes it.
func newAnswers(t testing.TB, answers ...string) (string, *atomic.Int32) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	requests := new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.Copy(io.Discard, req.Body)
				io.WriteString(conn, answers[min(int(requests.Add(1)), len(answers))-1])
			}
			conn.Close()
		}
	}()
	return "http://" + listener.Addr().String(), requests
}

// both runs a test with a client of either form.
func both(t *testing.T, base *http.Client, cfg retry.Config, test func(t *testing.T, do func(*http.Request) (*http.Response, error))) {
	client, err := retry.NewRetryableClient(base, cfg)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	t.Run("RetryableClient", func(t *testing.T) { test(t, client.Do) })
	transport, err := retry.NewTransport(base.Transport, cfg)
	require.NoError(t, err)
	standard := *base
	standard.Transport = transport
	t.Run("Transport", func(t *testing.T) { test(t, standard.Do) })
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// frames is an HTTP/2 server, as far as its answers go: each stream gets the next
// of them. What an answer returns is sent as it is; nil ends the connection.
type frames struct {
	url     string
	streams atomic.Int32
	conns   atomic.Int32
}

func frame(kind, flags byte, stream uint32, payload ...byte) []byte {
	n := len(payload)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags,
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}, payload...)
}

func rst(code byte) func(uint32) []byte {
	return func(stream uint32) []byte { return frame(3, 0, stream, 0, 0, 0, code) }
}

func ok200(stream uint32) []byte { return frame(1, 5, stream, 0x88) }

func goAway(stream uint32, code byte) []byte {
	return frame(7, 0, 0, 0, 0, 0, byte(stream), 0, 0, 0, code)
}

func newFrames(t testing.TB, answers ...func(stream uint32) []byte) (*frames, *http.Client) {
	lender := httptest.NewTLSServer(http.NotFoundHandler()) // of a certificate
	lender.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: lender.TLS.Certificates, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	base := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	return serveFrames(t, "https", listener, base, answers)
}

// newPlainFrames is newFrames without TLS, which is most of its time.
func newPlainFrames(t testing.TB, answers ...func(stream uint32) []byte) (*frames, *http.Client) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	base := &http.Transport{Protocols: new(http.Protocols)}
	base.Protocols.SetUnencryptedHTTP2(true)
	return serveFrames(t, "http", listener, base, answers)
}

func serveFrames(t testing.TB, scheme string, listener net.Listener, base *http.Transport, answers []func(uint32) []byte) (*frames, *http.Client) {
	t.Cleanup(func() { listener.Close() })
	t.Cleanup(base.CloseIdleConnections)
	f := &frames{url: scheme + "://" + listener.Addr().String()}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.conns.Add(1)
			go f.serve(conn, answers)
		}
	}()
	return f, &http.Client{Transport: base}
}

func (f *frames) serve(conn net.Conn, answers []func(uint32) []byte) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 24)); err != nil { // the preface
		return
	}
	conn.Write(frame(4, 0, 0)) // SETTINGS
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, conn, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
			return
		}
		stream := uint32(head[5])<<24 | uint32(head[6])<<16 | uint32(head[7])<<8 | uint32(head[8])
		switch {
		case head[3] == 4 && head[4]&1 == 0:
			conn.Write(frame(4, 1, 0)) // the settings' acknowledgement
		case head[3] <= 1 && head[4]&1 != 0: // the end of a request
			answer := answers[min(int(f.streams.Add(1)), len(answers))-1](stream)
			if answer == nil {
				return
			}
			conn.Write(answer)
			if last := answer[max(0, len(answer)-17):]; last[3] == 7 && last[len(last)-1] != 0 { // a GOAWAY for an error
				return
			}
		}
	}
}

// quiet is for servers whose clients are meant to fail.
var quiet = log.New(io.Discard, "", 0)

// framed is a raw HTTP answer, whose body ends by its length, its last chunk, or the
// end of the connection.
func framed(framing, coding string, body []byte) string {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	if coding != "" {
		head += "Content-Encoding: " + coding + "\r\n"
	}
	switch framing {
	case "length":
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	case "chunks", "trailers":
		head += "Transfer-Encoding: chunked\r\n\r\n"
		if len(body) > 0 {
			head += fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
		}
		if framing == "trailers" {
			return head + "0\r\nX-Sum: 7\r\nServer-Timing: db;dur=3\r\n\r\n"
		}
		return head + "0\r\n\r\n"
	}
	return head + "Connection: close\r\n\r\n" + string(body)
}

// logged is what a logger wrote.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func newLog() (*logged, *slog.Logger) {
	l := new(logged)
	return l, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// bodied answers with a status and a body of so many bytes.
func bodied(code, size int, pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Set(pairs[i], pairs[i+1])
		}
		w.WriteHeader(code)
		io.CopyN(w, endless{}, int64(size))
	}
}

// counting sends the attempt's number to the server.
type counting struct{ http.RoundTripper }

func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Add("X-Attempt", strconv.Itoa(retry.RetryCount(req.Context())))
	return c.RoundTripper.RoundTrip(req)
}

// stand is a real server that answers by a script, and keeps what it saw.
type stand struct {
	*httptest.Server
	mu    sync.Mutex
	seen  []request
	conns int
}

type request struct {
	method, path, body, remote string
	header                     http.Header
	trailer                    http.Header
	length                     int64
	encoding                   []string
	at                         time.Time
}

// newStand starts a server whose n-th answer is the n-th of answers, and the last
// of them from then on.
func newStand(t testing.TB, answers ...http.HandlerFunc) *stand {
	s := unstarted(t, answers...)
	s.Start()
	return s
}

func unstarted(t testing.TB, answers ...http.HandlerFunc) *stand {
	s := new(stand)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		n := len(s.seen)
		s.seen = append(s.seen, request{r.Method, r.URL.Path, string(body), r.RemoteAddr, r.Header, r.Trailer, r.ContentLength, r.TransferEncoding, at})
		s.mu.Unlock()
		answers[min(n, len(answers)-1)](w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
		}
	}
	t.Cleanup(s.Close)
	return s
}

func (s *stand) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[:len(s.seen):len(s.seen)]
}

func (s *stand) hits() int { return len(s.requests()) }

func (s *stand) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// status answers with a status, headers, and the status as the body.
func status(code int, pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Add(pairs[i], pairs[i+1])
		}
		w.WriteHeader(code)
		if code >= 200 && code != 204 && code != 304 {
			io.WriteString(w, strconv.Itoa(code))
		}
	}
}

func reset(w http.ResponseWriter, r *http.Request) { resetConnection(w) }

// track makes cfg report what its calls did.
func track(cfg retry.Config) (retry.Config, *tracked) {
	tr := new(tracked)
	cfg.OnRetry = func(_ context.Context, e retry.Event) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.delays = append(tr.delays, e.Delay)
		tr.errs = append(tr.errs, e.Err)
	}
	cfg.OnDone = func(_ context.Context, e retry.Event) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.done = append(tr.done, e)
	}
	return cfg, tr
}

type tracked struct {
	mu     sync.Mutex
	delays []time.Duration
	errs   []error
	done   []retry.Event
}

// last is how the last call ended.
func (tr *tracked) last() retry.Event {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.done) == 0 {
		return retry.Event{}
	}
	return tr.done[len(tr.done)-1]
}

// getting is a call for package retrytest: a GET of an address.
func getting(t *testing.T, base *http.Client, address string) func(retry.Config) error {
	return func(cfg retry.Config) error {
		resp, err := outcomeClient(t, base, cfg).Get(t.Context(), address)
		if err == nil {
			read(t, resp, err)
		}
		return err
	}
}

func newRequest(t testing.TB, method, address string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	require.NoError(t, err)
	return req
}

// read returns a response's status and body, and closes it.
func read(t testing.TB, resp *http.Response, err error) (int, string) {
	t.Helper()
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(body)
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

var soon = retry.Config{Backoff: retry.ConstantBackoff(time.Millisecond), MaxRetries: 3, Jitter: retry.NoJitter}

// countedClose counts how often a body is closed.
type countedClose struct {
	io.Reader
	closed atomic.Int32
}

func (c *countedClose) Close() error { c.closed.Add(1); return nil }

// resetConnection ends the connection as a crash does.
func resetConnection(w http.ResponseWriter) {
	conn, _, _ := w.(http.Hijacker).Hijack()
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func outcomeServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func outcomeClient(t *testing.T, base *http.Client, cfg retry.Config, opts ...retry.Option) *retry.RetryableClient {
	if base == nil {
		base = &http.Client{Transport: &http.Transport{}}
	}
	client, err := retry.NewRetryableClient(base, cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func outcomeTransport(t *testing.T, cfg retry.Config, opts ...retry.Option) *http.Client {
	transport, err := retry.NewTransport(&http.Transport{}, cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

type endless struct{}

// within is the test's context with a time limit; 0: none.
func within(t *testing.T, limit time.Duration) context.Context {
	if limit <= 0 {
		return t.Context()
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// rawServer reads a request, writes answer, and closes, for each connection.
func rawServer(t *testing.T, answer string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveRaw(t, listener, answer)
	return "http://" + listener.Addr().String()
}

func serveRaw(t *testing.T, listener net.Listener, answer string) {
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				conn.Read(make([]byte, 4096))
				io.WriteString(conn, answer)
				conn.Close()
			}()
		}
	}()
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
