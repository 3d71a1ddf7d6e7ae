package retry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func TestDialRefusedForGood(t *testing.T) {
	cfg, tr := track(soon)
	both(t, &http.Client{Transport: refusing(t, 1<<30)}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
		_, err := do(newRequest(t, "GET", "http://127.0.0.1:1/", nil))
		var wrapped *url.Error
		var op *net.OpError
		require.ErrorAs(t, err, &wrapped)
		require.ErrorAs(t, err, &op)
		assert.Equal(t, "dial", op.Op)
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.Equal(t, 4, tr.last().Attempt)
		assert.Equal(t, 1, strings.Count(err.Error(), "Get \""), "%v", err)
	})
}

// nameServer answers every question with a response code.
func nameServer(t *testing.T, code byte) *http.Transport {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			answer := bytes.Clone(buf[:n])
			answer[2], answer[3] = answer[2]|0x80, 0x80|code
			copy(answer[6:12], make([]byte, 6)) // no records
			question := answer[12:]
			end := bytes.IndexByte(question, 0) + 5
			server.WriteTo(answer[:12+end], from)
		}
	}()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	return &http.Transport{DialContext: (&net.Dialer{Resolver: resolver}).DialContext}
}

func TestNameResolution(t *testing.T) {
	for _, test := range []struct {
		code     byte
		attempts int
	}{{3, 1}, {2, 4}} {
		cfg, tr := track(soon)
		both(t, &http.Client{Transport: nameServer(t, test.code)}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
			_, err := do(newRequest(t, "POST", "http://gene.example./", strings.NewReader("x")))
			var failure *net.DNSError
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, test.attempts, tr.last().Attempt, "%v", err)
		})
	}
}

func TestTLSErrors(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	trusted := server.Client().Transport.(*http.Transport).TLSClientConfig
	wrongHost, expired := trusted.Clone(), trusted.Clone()
	wrongHost.ServerName = "other.invalid"
	expired.Time = func() time.Time { return time.Now().AddDate(200, 0, 0) }
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	old.StartTLS()
	defer old.Close()

	alert := func(err error) bool { // crypto/tls has no other type for what a peer sends
		var op *net.OpError
		return errors.As(err, &op) && op.Op == "remote error"
	}
	unverified := func(err error) bool {
		var verification *tls.CertificateVerificationError
		return errors.As(err, &verification)
	}
	for _, test := range []struct {
		name, url string
		tls       *tls.Config
		is        func(error) bool
	}{
		{"unknown CA", server.URL, &tls.Config{}, unverified},
		{"wrong host", server.URL, wrongHost, unverified},
		{"expired", server.URL, expired, unverified},
		{"protocol version", old.URL, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}, alert},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, tr := track(soon)
			both(t, &http.Client{Transport: &http.Transport{TLSClientConfig: test.tls}}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
				_, err := do(newRequest(t, "GET", test.url, nil))
				assert.True(t, test.is(err), "%v", err)
				assert.Equal(t, 1, tr.last().Attempt)
			})
		})
	}
}

func TestInvalidRequests(t *testing.T) {
	for name, spoil := range map[string]func(*http.Request){
		"scheme":        func(r *http.Request) { r.URL.Scheme = "gopher" },
		"no scheme":     func(r *http.Request) { r.URL.Scheme = "" },
		"no host":       func(r *http.Request) { r.URL.Host = "" },
		"no URL":        func(r *http.Request) { r.URL = nil },
		"RequestURI":    func(r *http.Request) { r.RequestURI = "/x" },
		"method":        func(r *http.Request) { r.Method = "G E T" },
		"header name":   func(r *http.Request) { r.Header["a b"] = []string{"x"} },
		"header value":  func(r *http.Request) { r.Header.Set("A", "x\ny") },
		"trailer name":  func(r *http.Request) { r.Trailer = http.Header{"a b": {"x"}} },
		"trailer value": func(r *http.Request) { r.Trailer = http.Header{"A": {"x\ny"}} },
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, status(200))
			cfg, tr := track(soon)
			both(t, &http.Client{Transport: &http.Transport{}}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
				resp, err := do(newRequest(t, "GET", server.URL, nil)) // the host is known to speak HTTP
				read(t, resp, err)
				before := server.hits()
				body := &countedClose{Reader: strings.NewReader("x")}
				req := newRequest(t, "PUT", server.URL, body)
				spoil(req)
				_, err = do(req)
				require.Error(t, err)
				assert.NotErrorIs(t, err, retry.ErrMaxRetries)
				assert.LessOrEqual(t, tr.last().Attempt, 1)
				assert.Empty(t, tr.delays)
				assert.EqualValues(t, 1, body.closed.Load())
				assert.Equal(t, before, server.hits())
			})
		})
	}
}

func TestRedirectErrors(t *testing.T) {
	errMine := errors.New("mine")
	server := newStand(t, status(302, "Location", "/"))
	base := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return errMine }}
	cfg, tr := track(soon)
	both(t, base, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
		before := server.hits()
		_, err := do(newRequest(t, "GET", server.URL, nil))
		assert.ErrorIs(t, err, errMine)
		assert.Equal(t, before+1, server.hits())
		assert.Empty(t, tr.delays)
	})
	malformed := newStand(t, status(302, "Location", "http://[::1?sig=SECRET"))
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), malformed.URL)
	assert.Error(t, err)
	assert.NotContains(t, err.Error(), "SECRET")
	assert.Equal(t, 1, malformed.hits())
}

// Connections that break, by the method's rule.
func TestBrokenConnections(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		is           error
	}{
		{"no answer", "", io.EOF},
		{"after the status line", "HTTP/1.1 200 OK", io.ErrUnexpectedEOF},
		{"in a header", "HTTP/1.1 200 OK\r\nContent-Le", nil},
	} {
		for method, times := range map[string]int{"GET": 4, "PUT": 4, "POST": 1} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				address, requests := countedConversation(t, test.answer)
				_, err := outcomeTransport(t, soon).Do(newRequest(t, method, address, strings.NewReader("x")))
				require.Error(t, err)
				if test.is != nil {
					assert.ErrorIs(t, err, test.is)
				}
				assert.EqualValues(t, times, requests.Load(), "%v", err)
			})
		}
	}
}

// A status line that is cut off has no type of error. Of a host that has answered
// before it is taken for a broken connection, of another for a peer that does not
// speak HTTP.
func TestCutInTheStatusLine(t *testing.T) {
	address, requests := countedConversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 20")
	client := outcomeTransport(t, soon)
	for range 2 {
		resp, err := client.Get(address)
		read(t, resp, err)
	}
	assert.EqualValues(t, 3, requests.Load())
}

// So is one of a host that has not, where what came is the beginning of one.
func TestWhatTheFirstStatusLineMeans(t *testing.T) {
	for answer, again := range map[string]bool{
		"HTTP/1.1 2": true, "HTTP/1.1 20": true, "HTTP/1.1 20\r\n": true, "HT": true, "HTTP/1.1": true, "22\r\n": true,
		"220\r\n": false, "220 ready\r\n": false, "HTTP/1.1 2000 OK\r\n": false, "HTTP/1.1 xx OK\r\n": false, "+O\r\n": false,
	} {
		address, requests := newAnswers(t, answer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		resp, err := outcomeClient(t, nil, soon).Get(t.Context(), address)
		if assert.Equal(t, again, err == nil, "%q: %v", answer, err); again {
			read(t, resp, err)
		}
		assert.Equal(t, again, requests.Load() == 2, "%q", answer)
	}
}

// How a connection of plain HTTP/2 ends has no type either, and there is no status line: it
// is a broken one.
func TestFirstConnectionOfPlainHTTP2Breaks(t *testing.T) {
	server, base := newPlainFrames(t, func(uint32) []byte { return nil }, ok200)
	resp, err := outcomeClient(t, base, soon).Get(t.Context(), server.url)
	read(t, resp, err)
	assert.EqualValues(t, 2, server.streams.Load())
}

// A peer that has shown a certificate, and then sends what is no HTTP, is taken for one whose
// connection broke.
func TestFirstAnswerOverTLSIsNoHTTP(t *testing.T) {
	server, base := newH2(t, status(200))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates})
	require.NoError(t, err)
	serveRaw(t, listener, "SSH-2.0-OpenSSH_9.6\r\n")
	_, err = outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), "https://"+listener.Addr().String())
	e := gaveUp(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 4, e.Attempts)
}

// A wrapper's own failure, before net/http was asked for a connection, says nothing of a
// proxy.
func TestWrapperThatFails(t *testing.T) {
	server, base := newH2(t, status(200))
	base.Proxy = func(req *http.Request) (*url.URL, error) { return nil, nil }
	proxied := base.Clone()
	proxied.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})
	failures := 0
	client := outcomeClient(t, &http.Client{Transport: proxied}, soon, retry.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if failures++; failures <= 2 {
				return nil, errors.New("no token yet")
			}
			return base.RoundTrip(req)
		})
	}))
	resp, err := client.Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Equal(t, 3, failures)
}

func TestPeerThatDoesNotSpeakHTTP(t *testing.T) {
	for name, answer := range map[string]string{
		"SSH":          "SSH-2.0-OpenSSH_9.6\r\n",
		"long headers": "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 10_000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			address, requests := countedConversation(t, answer)
			both(t, &http.Client{Transport: &http.Transport{MaxResponseHeaderBytes: 1000}}, soon, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
				before := requests.Load()
				_, err := do(newRequest(t, "GET", address, nil))
				assert.Error(t, err)
				assert.EqualValues(t, before+1, requests.Load())
			})
		})
	}
}

// What a proxy says to CONNECT comes without a type from net/http, and so is
// taken as permanent; a transport with OnProxyConnectResponse can give it one.
func TestProxyErrors(t *testing.T) {
	through := func(address string) *http.Transport {
		proxy, err := url.Parse(strings.Replace(address, "//", "//user:SECRET@", 1))
		require.NoError(t, err)
		return &http.Transport{Proxy: http.ProxyURL(proxy)}
	}
	typed := func(tr *http.Transport) *http.Transport {
		tr.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			return retry.CheckStatus(resp)
		}
		return tr
	}
	for _, test := range []struct {
		name     string
		code     int
		typed    bool
		attempts int
	}{
		{"407", 407, false, 1}, {"502", 502, false, 1},
		{"407 with a type", 407, true, 1}, {"502 with a type", 502, true, 4}, {"503 with a type", 503, true, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy := newStand(t, status(test.code))
			base := through(proxy.URL)
			if test.typed {
				base = typed(base)
			}
			client := outcomeClient(t, &http.Client{Transport: base}, soon, retry.IdempotentOnly())
			_, err := client.Post(t.Context(), "https://gene.example/", "", strings.NewReader("x"))
			require.Error(t, err)
			assert.Equal(t, test.attempts, proxy.hits(), "%v", err)
			assert.NotContains(t, err.Error(), "SECRET")
		})
	}
	for _, address := range []string{"http://gene.example/", "https://gene.example/"} {
		cfg, tr := track(soon)
		transport, err := retry.NewTransport(through("http://127.0.0.1:1"), cfg)
		require.NoError(t, err)
		_, err = (&http.Client{Transport: transport}).Post(address, "", strings.NewReader("x"))
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.Equal(t, 4, tr.last().Attempt)
		assert.NotContains(t, err.Error(), "SECRET")
	}
}

func TestOwnBodyFailsOnTheWay(t *testing.T) {
	errDisk := errors.New("disk")
	server := newStand(t, status(200))
	for name, body := range map[string]io.Reader{
		"at once": failingReader{errDisk},
		"later":   io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), failingReader{errDisk}),
	} {
		t.Run(name, func(t *testing.T) {
			cfg, tr := track(soon)
			both(t, &http.Client{Transport: &http.Transport{}}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
				counted := &countedClose{Reader: body}
				_, err := do(newRequest(t, "PUT", server.URL, counted))
				assert.ErrorIs(t, err, errDisk)
				assert.Equal(t, 1, tr.last().Attempt)
				assert.EqualValues(t, 1, counted.closed.Load())
			})
		})
	}
}

func TestCancelInTheFirstAttempt(t *testing.T) {
	errStop := errors.New("stop")
	for name, cause := range map[string]error{"plain": nil, "with a cause": errStop} {
		t.Run(name, func(t *testing.T) {
			var cancel context.CancelCauseFunc
			server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
				cancel(cause)
				<-r.Context().Done()
			})
			both(t, &http.Client{Transport: &http.Transport{}}, soon, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
				var ctx context.Context
				ctx, cancel = context.WithCancelCause(t.Context())
				before := server.hits()
				_, err := do(newRequest(t, "GET", server.URL, nil).WithContext(ctx))
				assert.ErrorIs(t, err, context.Canceled)
				if cause != nil {
					assert.ErrorIs(t, err, cause)
				}
				assert.Equal(t, before+1, server.hits())
			})
		})
	}
}

// silence accepts connections and says nothing.
func silence(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns []net.Conn
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-over
		for _, conn := range conns {
			conn.Close()
		}
	})
	return listener.Addr().String()
}

// mute is a connection, within a bubble, to what reads everything and says nothing.
func mute(context.Context, string, string) (net.Conn, error) {
	conn, server := net.Pipe()
	go io.Copy(io.Discard, server)
	return conn, nil
}

// Timeouts that are not the caller's are retried: before there is a connection
// for any method, later by the method's rule.
func TestTimeoutsOfAnAttempt(t *testing.T) {
	const limit = 20 * time.Millisecond
	hang := func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	for _, test := range []struct {
		name, scheme string
		base         *http.Transport
		timeout      time.Duration
		get, post    int
	}{
		{"dial", "http", &http.Transport{DialContext: hang}, 0, 3, 3},
		{"headers", "http", &http.Transport{DialContext: mute, ResponseHeaderTimeout: limit}, 0, 3, 1},
		{"TLS handshake", "https", &http.Transport{DialContext: mute, TLSHandshakeTimeout: limit}, 0, 3, 3},
		{"client", "http", &http.Transport{DialContext: mute}, limit, 3, 1},
	} {
		for method, attempts := range map[string]int{"GET": test.get, "POST": test.post} {
			bubble(t, test.name+" "+method, func(t *testing.T) {
				cfg, tr := track(soon)
				cfg.MaxRetries = 2
				client := outcomeClient(t, &http.Client{Transport: test.base.Clone(), Timeout: test.timeout}, cfg, retry.IdempotentOnly())
				_, err := client.Do(newRequest(t, method, test.scheme+"://gene.example", nil))
				var timeout net.Error
				require.ErrorAs(t, err, &timeout)
				assert.True(t, timeout.Timeout())
				assert.Equal(t, attempts, tr.last().Attempt, "%v", err)
			})
		}
	}
}

// However the race between the deadline and what it breaks goes: one attempt, and
// an error that says deadline.
func TestDeadlineInTheAttempt(t *testing.T) {
	for name, wrap := range map[string]func(*testing.T, retry.Config) http.RoundTripper{
		"RetryableClient": func(t *testing.T, cfg retry.Config) http.RoundTripper {
			return outcomeClient(t, &http.Client{Transport: &http.Transport{DialContext: mute}}, cfg).StandardClient().Transport
		},
		"Transport": func(t *testing.T, cfg retry.Config) http.RoundTripper {
			transport, err := retry.NewTransport(&http.Transport{DialContext: mute}, cfg)
			require.NoError(t, err)
			return transport
		},
	} {
		bubble(t, name, func(t *testing.T) {
			cfg, tr := track(retry.Config{})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := (&http.Client{Transport: wrap(t, cfg)}).Do(newRequest(t, "GET", "http://gene.example", nil).WithContext(ctx))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, 1, tr.last().Attempt)
		})
	}
}

func TestContextDoneBeforeTheRequest(t *testing.T) {
	server := newStand(t, status(200))
	both(t, &http.Client{Transport: &http.Transport{}}, soon, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		body := &countedClose{Reader: strings.NewReader("x")}
		_, err := do(newRequest(t, "PUT", server.URL, body).WithContext(ctx))
		assert.ErrorIs(t, err, context.Canceled)
		assert.EqualValues(t, 1, body.closed.Load())
		assert.Zero(t, server.hits())
	})
}

// failingConn fails to read.
type failingConn struct {
	net.Conn
	err error
}

func (c failingConn) Read([]byte) (int, error) { return 0, c.err }

func TestErrnos(t *testing.T) {
	for _, errno := range []error{syscall.EPIPE, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, net.ErrClosed} {
		for _, op := range []string{"read", "dial"} {
			for method, attempts := range map[string]int{"GET": 4, "POST": map[string]int{"read": 1, "dial": 4}[op]} {
				t.Run(fmt.Sprint(errno, op, method), func(t *testing.T) {
					inner := errno
					if _, ok := errno.(syscall.Errno); ok {
						inner = os.NewSyscallError(op, errno)
					}
					failure := &net.OpError{Op: op, Net: "tcp", Err: inner}
					address := silence(t)
					cfg, tr := track(soon)
					transport, err := retry.NewTransport(&http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
						if op == "dial" {
							return nil, failure
						}
						conn, err := net.Dial(network, address)
						return failingConn{conn, failure}, err
					}}, cfg)
					require.NoError(t, err)
					_, err = (&http.Client{Transport: transport}).Do(newRequest(t, method, "http://gene.example/", strings.NewReader("x")))
					require.Error(t, err)
					assert.Equal(t, attempts, tr.last().Attempt, "%v", err)
				})
			}
		}
	}
}

// Round trippers that break their contract.
func TestRoundTrippersThatBreakTheContract(t *testing.T) {
	do := func(cfg retry.Config, body io.Reader, f roundTrip) (*http.Response, error) {
		transport, err := retry.NewTransport(f, cfg)
		require.NoError(t, err)
		return transport.RoundTrip(newRequest(t, "PUT", "http://gene.example/", body))
	}
	_, err := do(soon, nil, func(*http.Request) (*http.Response, error) { return nil, nil })
	assert.Error(t, err)

	calls := 0
	resp, err := do(soon, nil, func(*http.Request) (*http.Response, error) {
		if calls++; calls == 1 {
			return &http.Response{StatusCode: 503}, nil
		}
		return &http.Response{StatusCode: 200}, nil
	})
	require.NoError(t, err)
	assert.Equal(t, 2, calls)
	assert.NotNil(t, resp.Body)

	both := &countedClose{Reader: strings.NewReader("x")}
	resp, err = do(soon, nil, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: both}, io.EOF
	})
	assert.Nil(t, resp)
	assert.ErrorIs(t, err, io.EOF)
	assert.Positive(t, both.closed.Load())

	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
	require.NoError(t, err)
	cfg := soon
	cfg.Breaker = breaker
	body := &countedClose{Reader: strings.NewReader("x")}
	assert.PanicsWithValue(t, "boom", func() {
		do(cfg, body, func(*http.Request) (*http.Response, error) { panic("boom") })
	})
	assert.EqualValues(t, 1, body.closed.Load())
	assert.Equal(t, retry.StateOpen, breaker.State())
}

// HTTP/2 says more precisely than HTTP/1 what was not processed.
func TestHTTP2StreamErrors(t *testing.T) {
	closing := func(last uint32, code byte) func(uint32) []byte {
		return func(stream uint32) []byte { return goAway(last, code) }
	}
	for _, test := range []struct {
		name      string
		answer    func(uint32) []byte
		get, post int32 // requests made
	}{
		{"REFUSED_STREAM", rst(7), 2, 2},
		{"INTERNAL_ERROR", rst(2), 2, 1},
		{"CANCEL", rst(8), 2, 1},
		{"HTTP_1_1_REQUIRED", rst(13), 1, 1},
		{"GOAWAY below ours", closing(0, 0), 2, 2},
		{"connection closed", func(uint32) []byte { return nil }, 2, 1},
		{"GOAWAY and close, ours included", func(stream uint32) []byte { return goAway(stream, 2) }, 2, 1},
	} {
		for method, want := range map[string]int32{"GET": test.get, "POST": test.post} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				t.Parallel()
				server, base := newFrames(t, test.answer, ok200)
				client := outcomeClient(t, base, soon, retry.IdempotentOnly())
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				resp, err := client.Do(newRequest(t, method, server.url, strings.NewReader("x")).WithContext(ctx))
				if err == nil {
					resp.Body.Close()
				}
				assert.Equal(t, want, server.streams.Load(), "%v", err)
				assert.Equal(t, want == 2, err == nil, "%v", err)
			})
		}
	}
}

// A stream that broke counts for a breaker, whatever it is joined with.
func TestHTTP2StreamErrorIsOneOfTheNetwork(t *testing.T) {
	server, base := newFrames(t, rst(2))
	_, err := base.Get(server.url)
	require.Error(t, err)
	var outer *url.Error
	require.ErrorAs(t, err, &outer)
	for _, err := range []error{outer.Err, err} {
		assert.False(t, retry.IsFailure(sql.ErrNoRows))
		assert.True(t, retry.IsFailure(errors.Join(sql.ErrNoRows, err)), "%T", err)
	}
}

// net/http repeats refused streams for a minute by itself. The attempt's timeout
// and the context end that too, and attempts of ours do not multiply it.
func TestHTTP2StreamsRefusedForever(t *testing.T) {
	server, base := newFrames(t, rst(7))
	cfg, tr := track(soon)
	cfg.MaxRetries = 1
	cfg.AttemptTimeout = 50 * time.Millisecond
	begin := time.Now()
	_, err := outcomeClient(t, base, cfg).Get(t.Context(), server.url)
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 2, tr.last().Attempt)
	assert.Less(t, time.Since(begin), 30*time.Second)
	assert.LessOrEqual(t, server.streams.Load(), int32(6))
}

// ENHANCE_YOUR_CALM is HTTP/2's 429.
func TestEnhanceYourCalm(t *testing.T) {
	server, base := newFrames(t, rst(11), ok200)
	waits, err := retrytest.Run(t, soon, getting(t, base, server.url))
	require.NoError(t, err)
	assert.Equal(t, "1s retry-after", waits.String())
}

// The error of a body that broke off names its URL once.
func TestURLIsNamedOnce(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(200, "x")}}
	cfg := soon
	cfg.MaxRetries = retry.NoRetries
	for name, broken := range map[string]error{"by the library": io.ErrUnexpectedEOF, "by the decoder": &url.Error{Op: "Get", URL: "http://gene.example/", Err: io.ErrUnexpectedEOF}} {
		_, err := retry.Fetch(outcomeClient(t, &http.Client{Transport: base}, cfg), newRequest(t, "GET", "http://gene.example/", nil), func(*http.Response) (int, error) { return 0, broken })
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, 1, strings.Count(err.Error(), "Get "), "%s: %v", name, err)
	}
}

// A long error page is read in part where it is the last word.
func TestLongBodyOfAnError(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(404, strings.Repeat("x", 100<<10))}}
	_, err := outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), "http://gene.example/")
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	assert.NotEmpty(t, status.Body)
}

// Names and methods may have every character of a token, from the first letter to the
// last digit; what has another one, or a value with a control character, also as its
// first one, is not tried again.
func TestMalformedRequests(t *testing.T) {
	for name, c := range map[string]struct {
		method, header, value string
		attempts              int
	}{
		"all good":                 {"azAZ09", "AZaz09!~", "x\ty~", 2},
		"a control, first":         {"GET", "X-Gene", "\x01x", 1},
		"a control, later":         {"GET", "X-Gene", "x\x7f", 1},
		"below the digits":         {"GET", "X/", "x", 1},
		"above the digits":         {"GET", "X:", "x", 1},
		"below the capitals":       {"GET", "X@", "x", 1},
		"above the capitals":       {"GET", "X[", "x", 1},
		"above the small letters":  {"GET", "X{", "x", 1},
		"no token, first":          {"GET", " X", "x", 1},
		"a method with a blank":    {"GE T", "X-Gene", "x", 1},
		"a method of nothing else": {"{", "X-Gene", "x", 1},
	} {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){func(*http.Request) (*http.Response, error) { return nil, errDown }, answerOf(200, "")}}
		req := newRequest(t, "GET", "http://gene.example/", nil)
		req.Method, req.Header = c.method, http.Header{c.header: {c.value}}
		resp, err := outcomeClient(t, &http.Client{Transport: base}, soon).Do(req.WithContext(retry.WithIdempotent(t.Context(), true)))
		assert.Equal(t, c.attempts == 2, err == nil, "%s: %v", name, err)
		assert.LessOrEqual(t, len(base.requests), c.attempts, name)
		if err == nil {
			resp.Body.Close()
		}
	}
}

// The body of an error that a retry follows is read as far as it costs nothing: 64 KiB. Of
// one that may be the last it is read anyway, and that one is the last is not assumed while
// the budget has a whole token, or where the wait is exactly the longest.
func TestBodyOfAnErrorBeforeARetry(t *testing.T) {
	for name, c := range map[string]struct {
		length int64
		change func(*retry.Config)
		asks   string
		read   bool
	}{
		"64 KiB":           {64 << 10, func(*retry.Config) {}, "", true},
		"longer":           {64<<10 + 1, func(*retry.Config) {}, "", false},
		"a whole token":    {64<<10 + 1, func(cfg *retry.Config) { cfg.Budget = budget(t, 0, 1) }, "", false},
		"the longest wait": {64<<10 + 1, func(cfg *retry.Config) { cfg.MaxRetryAfter = time.Minute }, "60", false},
	} {
		bubble(t, name, func(t *testing.T) {
			base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(503, strings.Repeat("x", int(c.length)), "Retry-After", c.asks), answerOf(200, "")}}
			cfg, tr := track(soon)
			c.change(&cfg)
			resp, err := outcomeClient(t, &http.Client{Transport: base}, cfg).Get(t.Context(), "http://gene.example/")
			read(t, resp, err)
			var given *retry.StatusError
			require.ErrorAs(t, tr.errs[0], &given)
			assert.Equal(t, c.read, len(given.Body) > 0)
		})
	}
}

// What was silent for too long over HTTP/2 may be the connection: the next attempt gets
// another one. Over HTTP/1 a connection ends with its response, and of an error of the
// decoder it is no fault.
func TestConnectionAfterASilentBody(t *testing.T) {
	for _, c := range []struct {
		proto  int
		silent bool
		closed int
	}{{2, true, 1}, {1, true, 0}, {2, false, 0}} {
		synctest.Test(t, func(t *testing.T) {
			base := &closing{}
			base.RoundTripper = roundTrip(func(req *http.Request) (*http.Response, error) {
				body := &slowBody{ctx: req.Context(), pauses: []time.Duration{time.Second}}
				if c.silent && retry.RetryCount(req.Context()) == 0 {
					body.pauses[0] = time.Hour
				}
				return &http.Response{StatusCode: 200, ProtoMajor: c.proto, ContentLength: -1, Header: http.Header{}, Body: body, Request: req}, nil
			})
			client := outcomeClient(t, &http.Client{Transport: base}, soon, retry.IdleTimeout(time.Minute))
			_, err := retry.Fetch(client, newRequest(t, "GET", "http://gene.example/", nil), func(resp *http.Response) (string, error) {
				text, err := io.ReadAll(resp.Body)
				if err == nil && !c.silent && retry.RetryCount(resp.Request.Context()) == 0 {
					err = errDown
				}
				return string(text), err
			})
			assert.NoError(t, err)
			assert.Equal(t, c.closed, base.closed, "HTTP/%d, silent: %v", c.proto, c.silent)
		})
	}
}

// Of two limits that end at the same time, the Config's own is named.
func TestTwoTimeoutsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		cfg := retry.Config{AttemptTimeout: time.Second, MaxRetries: retry.NoRetries}
		for limit, name := range map[time.Duration]string{time.Second: "AttemptTimeout", time.Second - 1: "Timeout of the http.Client", time.Second + 1: "AttemptTimeout"} {
			_, err := outcomeClient(t, &http.Client{Transport: base, Timeout: limit}, cfg).Get(t.Context(), "http://gene.example/")
			assert.ErrorContains(t, err, "("+name+")")
		}
	})
}
