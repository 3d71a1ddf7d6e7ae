package retry_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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

// A timeout of HTTP/2 has no type that tells it from one of the handshake. The
// handler acted all the same, and did so six times.
func TestHTTP_Sent_HTTP2HeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var acts atomic.Int32
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				acts.Add(1)
				<-r.Context().Done()
			}
		}))
		dial := piped(server)
		base := startH2(t, server)
		base.DialContext, base.ResponseHeaderTimeout = dial, 50*time.Millisecond
		transport, err := retry.NewTransport(base, soon)
		require.NoError(t, err)
		for range 2 { // at first contact, and later
			acts.Store(0)
			_, err = (&http.Client{Transport: transport}).Post(server.URL, "", strings.NewReader("x"))
			require.Error(t, err)
			assert.EqualValues(t, 1, acts.Load())
			resp, err := (&http.Client{Transport: transport}).Get(server.URL)
			read(t, resp, err)
		}
	})
}

// A dialer of the user's own fails with whatever it likes: nothing was sent, of
// whatever method, at first contact and later, beneath whatever wraps the base.
func TestHTTP_Sent_OwnDialer(t *testing.T) {
	for name, failure := range map[string]error{
		"plain": errors.New("tunnel down"),
		"socks": &net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("host unreachable")},
	} {
		for _, wrapped := range []bool{false, true} {
			for _, method := range []string{"GET", "POST"} {
				server := newStand(t, status(200))
				var dials atomic.Int32
				std := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					if dials.Add(1) <= 2 {
						return nil, failure
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}}
				t.Cleanup(std.CloseIdleConnections)
				var base http.RoundTripper = std
				if wrapped {
					base = roundTrip(std.RoundTrip)
				}
				transport, err := retry.NewTransport(base, soon)
				require.NoError(t, err)
				resp, err := (&http.Client{Transport: transport}).Do(newRequest(t, method, server.URL, strings.NewReader("x")))
				read(t, resp, err)
				assert.EqualValues(t, 3, dials.Load(), "%s %s", name, method)
				assert.Equal(t, 1, server.hits())
			}
		}
	}
}

// A POST met a connection that the server had closed, net/http tried a second one,
// and could not make it: a service that restarts, a Unix socket that is away. Nothing
// of the POST was ever written, but "connected" stayed from the first connection, and
// it was not repeated.
func TestHTTP_Sent_LastConnectionCounts(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for name, wrap := range map[string]func(*http.Transport) (http.RoundTripper, []retry.Option){
			"plain": func(std *http.Transport) (http.RoundTripper, []retry.Option) { return std, nil },
			"base that clones": func(std *http.Transport) (http.RoundTripper, []retry.Option) {
				return roundTrip(func(req *http.Request) (*http.Response, error) { return std.RoundTrip(req.Clone(req.Context())) }), nil
			},
			"WrapTransport": func(std *http.Transport) (http.RoundTripper, []retry.Option) {
				return std, []retry.Option{retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
					return roundTrip(func(req *http.Request) (*http.Response, error) { return base.RoundTrip(req.Clone(req.Context())) })
				})}
			},
		} {
			t.Run(network+" "+name, func(t *testing.T) {
				server := newStand(t, status(200))
				var dials atomic.Int32
				std := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					dialer, address := new(net.Dialer), server.Listener.Addr().String()
					switch dials.Add(1) {
					case 1:
						conn, err := dialer.DialContext(ctx, "tcp", address)
						return &closedLater{Conn: conn}, err
					case 2:
						if network == "unix" {
							return dialer.DialContext(ctx, network, filepath.Join(t.TempDir(), "away"))
						}
						return dialer.DialContext(ctx, network, "127.0.0.1:1")
					}
					return dialer.DialContext(ctx, "tcp", address)
				}}
				t.Cleanup(std.CloseIdleConnections)
				base, opts := wrap(std)
				cfg, tr := track(soon)
				transport, err := retry.NewTransport(base, cfg, opts...)
				require.NoError(t, err)
				for range 2 {
					resp, err := (&http.Client{Transport: transport}).Post(server.URL, "", strings.NewReader("x"))
					read(t, resp, err)
				}
				assert.Equal(t, 2, tr.last().Attempt)
				assert.Equal(t, 2, server.hits())
				assert.EqualValues(t, 3, dials.Load())
			})
		}
	}
}

// closedLater is a connection that carries one request. The second one meets its end:
// nothing of it can be written.
type closedLater struct {
	net.Conn
	writes atomic.Int32
}

func (c *closedLater) Write(p []byte) (int, error) {
	if c.writes.Add(1) > 1 {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return c.Conn.Write(p)
}

// A transport of the user's makes other requests on the way, with the same context,
// and their connections are no evidence about the request itself: here it was sent, and
// what could not be dialled was where to report that, or to get another token.
func TestHTTP_Sent_OtherRequestsOnTheWay(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{"another address, after no answer": reset, "the same address, after an answer": status(401)} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, answer)
			var away atomic.Bool
			std := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if away.Load() {
					address = "127.0.0.1:1"
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}}
			transport, err := retry.NewTransport(roundTrip(func(req *http.Request) (*http.Response, error) {
				resp, err := std.RoundTrip(req)
				other := "http://127.0.0.1:1/"
				if err == nil {
					resp.Body.Close()
					other = server.URL + "/token"
				}
				away.Store(true)
				defer away.Store(false)
				return std.RoundTrip(newRequest(t, "GET", other, nil).WithContext(req.Context()))
			}), soon)
			require.NoError(t, err)
			_, err = (&http.Client{Transport: transport}).Post(server.URL, "", strings.NewReader("x"))
			assert.ErrorIs(t, err, retry.ErrNotIdempotent)
			assert.Equal(t, 1, server.hits())
		})
	}
}

// A base that does not tell of its connections: the error's type is all there is.
func TestHTTP_Sent_BaseThatDoesNotTell(t *testing.T) {
	for op, want := range map[string]int{"dial": 4, "proxyconnect": 4, "socks connect": 4, "read": 1, "write": 1} {
		attempts := 0
		transport, err := retry.NewTransport(roundTrip(func(*http.Request) (*http.Response, error) {
			attempts++
			return nil, &net.OpError{Op: op, Err: errors.New("no")}
		}), soon)
		require.NoError(t, err)
		_, err = (&http.Client{Transport: transport}).Post("http://gene.example/", "", strings.NewReader("x"))
		require.Error(t, err)
		assert.Equal(t, want, attempts, op)
	}
}

// With Expect: 100-continue the header is out before anybody touches the body: a
// body that was not read proves nothing.
func TestHTTP_Sent_ExpectContinue(t *testing.T) {
	t.Parallel()
	address, requests := countedConversation(t, "")
	base := &http.Transport{ExpectContinueTimeout: 200 * time.Millisecond}
	t.Cleanup(base.CloseIdleConnections)
	transport, err := retry.NewTransport(base, soon)
	require.NoError(t, err)
	req := newRequest(t, "POST", address, io.LimitReader(strings.NewReader("x"), 1))
	req.ContentLength = 1
	req.Header.Set("Expect", "100-continue")
	_, err = (&http.Client{Transport: transport}).Do(req)
	require.Error(t, err)
	assert.LessOrEqual(t, requests.Load(), int32(1))
}

// An answer is an answer: that its decoding dialled somewhere else, and failed,
// does not mean that the request was not sent.
func TestHTTP_Sent_DecodeThatDials(t *testing.T) {
	server := newStand(t, status(200))
	client := outcomeClient(t, nil, soon, retry.IdempotentOnly())
	_, err := retry.Fetch(client, newRequest(t, "POST", server.URL, strings.NewReader("x")), func(*http.Response) (int, error) {
		_, err := net.Dial("tcp", "127.0.0.1:1")
		return 0, err
	})
	require.Error(t, err)
	assert.Equal(t, 1, server.hits())
}

// HTTP/2 without TLS: a GOAWAY in the very first answer is a connection that went
// away, and not a peer that does not speak HTTP.
func TestHTTP_Sent_PlainHTTP2GoAway(t *testing.T) {
	f, base := newPlainFrames(t, func(stream uint32) []byte { return goAway(stream, 2) }, ok200)
	resp, err := outcomeClient(t, base, soon).Get(t.Context(), f.url)
	read(t, resp, err)
	assert.EqualValues(t, 2, f.streams.Load())
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

// The first answer of a host, cut off anywhere in its status line or header, is a
// cut connection; and by the rule of the method not repeated.
func TestHTTP_Sent_CutInTheFirstAnswer(t *testing.T) {
	whole := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for n := range len(whole) - 2 {
		for method, times := range map[string]int32{"GET": 2, "POST": 1} {
			address, requests := newAnswers(t, whole[:n], whole)
			resp, err := outcomeTransport(t, soon).Do(newRequest(t, method, address, nil))
			if err == nil {
				resp.Body.Close()
			}
			assert.Equal(t, times, requests.Load(), "%s %q: %v", method, whole[:n], err)
		}
	}
}

// A TLS alert, or a record that is none, from a host that has answered before is a
// fault of the way.
func TestHTTP_Sent_AlertAfterAnAnswer(t *testing.T) {
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	lender.Close()
	for name, spoil := range map[string]func(net.Conn){
		"no TLS": func(conn net.Conn) { io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"alert":  func(conn net.Conn) { conn.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }, // handshake_failure
	} {
		t.Run(name, func(t *testing.T) {
			for _, known := range []bool{true, false} {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				defer listener.Close()
				var conns atomic.Int32
				go func() {
					for {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						if n := conns.Add(1); known == (n == 2) {
							conn.Read(make([]byte, 4096))
							spoil(conn)
							conn.(*net.TCPConn).CloseWrite()
							continue
						}
						go func() {
							server := tls.Server(conn, &tls.Config{Certificates: lender.TLS.Certificates})
							defer server.Close()
							server.Read(make([]byte, 4096))
							io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
						}()
					}
				}()
				base := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
				client := outcomeClient(t, &http.Client{Transport: base}, soon)
				resp, err := client.Get(t.Context(), "https://"+listener.Addr().String())
				if !known {
					assert.Error(t, err)
					assert.EqualValues(t, 1, conns.Load())
					continue
				}
				read(t, resp, err)
				resp, err = client.Get(t.Context(), "https://"+listener.Addr().String())
				read(t, resp, err)
				assert.EqualValues(t, 3, conns.Load())
			}
		})
	}
}

// A scheme that the base serves is one like any other: an error of the network
// proves that somebody serves it. One that nobody serves costs one attempt,
// whatever is around the base.
func TestHTTP_Sent_Schemes(t *testing.T) {
	attempts := 0
	std := &http.Transport{}
	std.RegisterProtocol("gopher", roundTrip(func(req *http.Request) (*http.Response, error) {
		if attempts++; attempts == 1 {
			return nil, &net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}))
	for _, base := range []http.RoundTripper{std, roundTrip(std.RoundTrip)} {
		attempts = 0
		resp, err := outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), "gopher://gene.example/")
		read(t, resp, err)
		assert.Equal(t, 2, attempts)

		cfg, tr := track(soon)
		_, err = outcomeClient(t, &http.Client{Transport: base}, cfg).Get(t.Context(), "finger://gene.example/")
		require.Error(t, err)
		assert.Equal(t, 1, tr.last().Attempt)
	}
}

// What is wrong with the request itself is one attempt, says what it is, and is
// nobody's outage: the breaker has neither a success nor a failure.
func TestHTTP_Refused_ByNetHTTP(t *testing.T) {
	over2, base2 := newH2(t, func(http.ResponseWriter, *http.Request) {})
	over1 := newStand(t, status(200))
	for _, test := range []struct {
		name  string
		h2    bool
		spoil func(*http.Request)
	}{
		{"method", false, func(r *http.Request) { r.Method = "G E T" }},
		{"header", false, func(r *http.Request) { r.Header.Set("A", "x\ny") }},
		{"no host", false, func(r *http.Request) { r.URL.Host, r.Host = "", "" }},
		{"trailer", false, func(r *http.Request) {
			r.Trailer = http.Header{"X Sum": {"1"}}
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), -1
		}},
		{"trailer that is none", false, func(r *http.Request) {
			r.Trailer = http.Header{"Content-Length": {"1"}}
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(strings.NewReader("x"), 1)), -1
		}},
		{"query", false, func(r *http.Request) { r.URL.RawQuery = "gene=\x01" }},
		{"tab in a query", false, func(r *http.Request) { r.URL.RawQuery = "gene=\t" }},
		{"length without a body", false, func(r *http.Request) { r.ContentLength = 5 }},
		{"opaque", false, func(r *http.Request) { r.URL.Opaque = "//gene.example/\x01" }},
		{"upgrade", true, func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }},
		{"connection", true, func(r *http.Request) { r.Header.Set("Connection", "x") }},
		{"transfer-encoding", true, func(r *http.Request) { r.Header.Set("Transfer-Encoding", "gzip") }},
		{"long header", true, func(r *http.Request) { r.Header.Set("A", strings.Repeat("x", 2<<20)) }},
	} {
		for _, known := range []bool{false, true} {
			for _, wrapped := range []bool{false, true} {
				if !known && test.name == "long header" {
					continue // nobody knows what the peer allows, until it has said so
				}
				if wrapped && test.h2 {
					continue
				}
				var base http.RoundTripper = &http.Transport{}
				address := over1.URL
				if test.h2 {
					base, address = base2.Clone(), over2.URL
				}
				if wrapped {
					base = roundTrip(base.RoundTrip)
				}
				breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
				require.NoError(t, err)
				cfg, tr := track(soon)
				transport, err := retry.NewTransport(base, cfg, retry.PerHost(func(_ string, cfg *retry.Config) error {
					cfg.Breaker = breaker
					return nil
				}))
				require.NoError(t, err)
				if known {
					resp, err := transport.RoundTrip(newRequest(t, "GET", address, nil))
					read(t, resp, err)
				}
				breaker.Reset()
				req := newRequest(t, "GET", address, nil)
				test.spoil(req)
				_, err = transport.RoundTrip(req)
				require.Error(t, err, test.name)
				assert.Equal(t, 1, tr.last().Attempt, "%s: %v", test.name, err)
				s := breaker.Snapshot()
				assert.Zero(t, s.Failures+s.Successes, "%s (known %v): %v", test.name, known, err)
				transport.CloseIdleConnections()
			}
		}
	}
}

// An HTTP/2 connection that went dead takes no second attempt with it.
func TestHTTP_DeadHTTP2Connection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		dial := piped(server)
		base := startH2(t, server)
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err == nil && !dead.Load() {
				conn = &deadConn{conn, &dead}
			}
			return conn, err
		}
		cfg, tr := track(soon)
		cfg.AttemptTimeout = 300 * time.Millisecond
		client := outcomeClient(t, &http.Client{Transport: base}, cfg)
		resp, err := client.Get(t.Context(), server.URL)
		read(t, resp, err)
		dead.Store(true)
		resp, err = client.Get(t.Context(), server.URL)
		read(t, resp, err)
		assert.Equal(t, 2, tr.last().Attempt)
	})
}

// deadConn swallows what is written, once it is dead.
type deadConn struct {
	net.Conn
	dead *atomic.Bool
}

func (c *deadConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// What HostKey returns may be a token: it names nothing that is shown.
func TestHTTP_HostKeyIsShownNowhere(t *testing.T) {
	server := newStand(t, status(500))
	cfg, tr := track(soon)
	text, logger := newLog()
	cfg.Logger = logger
	client := outcomeClient(t, nil, cfg, retry.HostKey(func(*http.Request) string { return "SECRET" }),
		retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 2}))
	_, err := client.Get(t.Context(), server.URL)
	require.ErrorIs(t, err, retry.ErrCircuitOpen)
	assert.NotContains(t, err.Error()+text.String()+tr.last().Name, "SECRET")
	assert.Contains(t, text.String(), server.URL)
	var open *retry.OpenError
	require.ErrorAs(t, err, &open)
	assert.Equal(t, server.URL, open.Name)
}

// Settings that are wrong fail the constructor, or, per host, its requests, by an
// error that matches, and are tried anew.
func TestHTTP_HostSettings(t *testing.T) {
	_, err := retry.NewRetryableClient(nil, retry.Config{}, retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 1, Window: -1}))
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)

	server := newStand(t, status(200))
	errNoLimits := errors.New("no limits known")
	calls := 0
	client := outcomeClient(t, nil, soon, retry.PerHost(func(string, *retry.Config) error {
		if calls++; calls == 1 {
			return errNoLimits
		}
		return nil
	}))
	_, err = client.Get(t.Context(), server.URL)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.ErrorIs(t, err, errNoLimits)
	for range 2 {
		resp, err := client.Get(t.Context(), server.URL)
		read(t, resp, err)
	}
	assert.Equal(t, 2, calls)
}
