package retry_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// What may have been carried out is repeated only where that does no harm: by the
// method, by a key, or because the server says that it refused the request. A proxy
// answers 503 too when the connection to its backend broke with the request already on
// it, and a POST that got such an answer was carried out twice: only a 503 with
// Retry-After is a refusal. Whatever the way to say that a request is not idempotent, it
// means the same.
func TestWhichRequestsAreRepeated(t *testing.T) {
	later := []string{"Retry-After", "0"}
	few := []string{"GET", "POST", "PATCH", "LOCK"}
	all := append([]string{"HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE", "", "MKCOL", "get", "Put"}, few...)
	for _, answer := range []struct {
		code    int // 0: a reset
		header  []string
		methods []string
		refused bool // it is a proof that the server did not act
	}{
		{0, nil, all, false}, {500, nil, all, false}, {429, nil, all, true},
		{500, later, few, false}, {502, nil, few, false}, {502, later, few, false}, {503, nil, few, false}, {504, nil, few, false}, {408, nil, few, false},
		{503, []string{"X-RateLimit-Remaining", "0"}, few, false}, {503, []string{"Retry-After", ""}, few, false},
		{503, later, few, true}, {503, []string{"Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"}, few, true},
		{425, nil, few, true}, {421, nil, few, true},
	} {
		for _, method := range answer.methods {
			for way, send := range ways {
				t.Run(fmt.Sprint(answer.code, answer.header, method, way), func(t *testing.T) {
					handler := http.HandlerFunc(reset)
					if answer.code > 0 {
						handler = status(answer.code, answer.header...)
					}
					server := newStand(t, handler, status(200))
					cfg, tr := track(soon)
					breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 100})
					require.NoError(t, err)
					cfg.Breaker = breaker
					req := newRequest(t, method, server.URL, nil)
					if slices.Contains([]string{"POST", "PATCH", "LOCK", "MKCOL", "PUT", "Put"}, method) {
						req = newRequest(t, method, server.URL, strings.NewReader("x"))
					}
					req.Method = method
					keyed := way == "RetryableClient" && (method == "POST" || method == "PATCH")
					idempotent := way != "WithIdempotent" && slices.Contains([]string{"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE", ""}, method)

					resp, err := send(t, cfg, req)
					assert.Equal(t, answer.code == 0 || answer.code >= 500, breaker.Snapshot().Failures > 0, "a refusal is no failure")
					for _, r := range server.requests() {
						assert.Equal(t, cmp.Or(method, "GET"), r.method, "sent verbatim")
						assert.Equal(t, server.requests()[0].body, r.body)
						assert.Equal(t, server.requests()[0].header["Idempotency-Key"], r.header["Idempotency-Key"])
						assert.Equal(t, keyed, len(r.header["Idempotency-Key"]) > 0)
					}
					if answer.refused || keyed || idempotent {
						got, _ := read(t, resp, err)
						assert.Equal(t, 200, got)
						assert.Equal(t, 2, server.hits())
						return
					}
					assert.Equal(t, 1, server.hits())
					assert.ErrorIs(t, tr.last().Err, retry.ErrNotIdempotent)
					assert.Equal(t, "not_idempotent", retry.Outcome(tr.last().Err))
					switch {
					case answer.code == 0:
						assert.ErrorIs(t, err, syscall.ECONNRESET)
					case way == "Transport":
						got, text := read(t, resp, err)
						assert.Equal(t, answer.code, got)
						assert.Equal(t, strconv.Itoa(answer.code), text, "unread")
					default:
						var found *retry.StatusError
						require.ErrorAs(t, err, &found)
						assert.Equal(t, answer.code, found.StatusCode)
						if method != "HEAD" {
							assert.Equal(t, strconv.Itoa(answer.code), string(found.Body))
						}
					}
				})
			}
		}
	}
}

// ways are those in which a request is sent. In all but the last, a POST must not be
// repeated.
var ways = map[string]func(*testing.T, retry.Config, *http.Request) (*http.Response, error){
	"Transport": func(t *testing.T, cfg retry.Config, req *http.Request) (*http.Response, error) {
		return outcomeTransport(t, cfg).Do(req)
	},
	"IdempotentOnly": func(t *testing.T, cfg retry.Config, req *http.Request) (*http.Response, error) {
		return outcomeClient(t, nil, cfg, retry.IdempotentOnly()).Do(req)
	},
	"WithIdempotent": func(t *testing.T, cfg retry.Config, req *http.Request) (*http.Response, error) {
		return outcomeClient(t, nil, cfg).Do(req.WithContext(retry.WithIdempotent(req.Context(), false)))
	},
	"RetryableClient": func(t *testing.T, cfg retry.Config, req *http.Request) (*http.Response, error) {
		return outcomeClient(t, nil, cfg).Do(req)
	},
}

func TestIdempotencyKey(t *testing.T) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		for _, values := range [][]string{{"k"}, nil, {}} {
			server := newStand(t, reset, status(200))
			req := newRequest(t, "POST", server.URL, strings.NewReader("x"))
			req.Header[name] = values
			resp, err := outcomeTransport(t, soon).Do(req)
			read(t, resp, err)
			seen := server.requests()
			require.Len(t, seen, 2)
			for _, r := range seen {
				assert.Equal(t, len(values), len(r.header[name]))
				assert.Equal(t, "x", r.body)
			}
		}
	}
}

// A connection that the server closes just when it is used again fails no
// request that may be repeated, and costs it no wait. Requests without any header
// once had to wait.
func TestStaleConnection(t *testing.T) {
	for _, method := range []string{"GET", "PUT", "DELETE", "QUERY"} {
		address, requests := countedConversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "")
		cfg, tr := track(soon)
		client := outcomeTransport(t, cfg)
		for range 2 {
			resp, err := client.Do(newRequest(t, method, address, strings.NewReader("x")))
			got, _ := read(t, resp, err)
			assert.Equal(t, 200, got)
		}
		assert.Empty(t, tr.delays, "net/http did it, without a wait")
		assert.EqualValues(t, 3, requests.Load(), method)
	}

	server := newStand(t, status(503), status(200))
	resp, err := outcomeTransport(t, soon).Do(newRequest(t, "QUERY", server.URL, strings.NewReader("q")))
	read(t, resp, err)
	assert.Equal(t, "q", server.requests()[1].body)
}

// Without a connection nothing was sent, whatever the method and the body: also
// a body that can be read only once is still there.
func TestDialRefused(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"string":   strings.NewReader("body"),
		"one-shot": io.LimitReader(strings.NewReader("body"), 4),
		"none":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, status(200))
			transport, err := retry.NewTransport(refusing(t, 2), soon, retry.ReplayBuffer(0))
			require.NoError(t, err)
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Post(server.URL, "", body)
			got, _ := read(t, resp, err)
			assert.Equal(t, 200, got)
			require.Equal(t, 1, server.hits())
			if body != nil {
				assert.Equal(t, "body", server.requests()[0].body)
			}
		})
	}
}

// That a 404 comes from the own first attempt can be inferred from their number.
func TestSecondDelete(t *testing.T) {
	for _, code := range []int{404, 412} {
		server := newStand(t, reset, status(code))
		cfg, tr := track(soon)
		_, err := outcomeClient(t, nil, cfg).Do(newRequest(t, "DELETE", server.URL, nil))
		found, ok := err.(*retry.StatusError)
		require.True(t, ok, "%v", err)
		assert.Equal(t, code, found.StatusCode)
		assert.Equal(t, 2, tr.last().Attempt)
	}
}

// RetryIf judges errors, and those of a response know their request.
func TestHTTPRetryIf(t *testing.T) {
	server := newStand(t, status(404), status(404, "X-Stop", "1"))
	cfg := soon
	cfg.RetryIf = func(err error) bool {
		found, ok := err.(*retry.StatusError)
		return ok && found.Method == "GET" && strings.HasSuffix(found.URL, "/gene") && found.Header.Get("X-Stop") == ""
	}
	_, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL+"/gene")
	assert.Error(t, err)
	assert.Equal(t, 2, server.hits())
	_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL+"/other")
	assert.Error(t, err)
	assert.Equal(t, 3, server.hits())
}

// The caller knows better than the method.
func TestWithIdempotent(t *testing.T) {
	for _, idempotent := range []bool{true, false} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(method+strconv.FormatBool(idempotent), func(t *testing.T) {
				server := newStand(t, reset, status(200))
				req := newRequest(t, method, server.URL, strings.NewReader("x"))
				resp, err := outcomeClient(t, nil, soon).Do(req.WithContext(retry.WithIdempotent(t.Context(), idempotent)))
				if idempotent {
					read(t, resp, err)
					assert.Equal(t, 2, server.hits())
				} else {
					assert.ErrorIs(t, err, syscall.ECONNRESET)
					assert.Equal(t, 1, server.hits())
				}
				assert.Empty(t, server.requests()[0].header["Idempotency-Key"])
			})
		}
	}
}

// A POST that is not repeated came back as a bare EOF, with the outcome "permanent"
// and nothing in the log, although it may have been carried out.
func TestWhyAPostIsNotRepeated(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{"reset": reset, "500": status(500)} {
		for way, send := range ways {
			if way == "RetryableClient" {
				continue
			}
			t.Run(name+way, func(t *testing.T) {
				server := newStand(t, answer)
				breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
				require.NoError(t, err)
				cfg, tr := track(soon)
				text, logger := newLog()
				cfg.Logger, cfg.Breaker = logger, breaker
				resp, err := send(t, cfg, newRequest(t, "POST", server.URL+"/?key=SECRET", strings.NewReader("x")))
				if resp != nil {
					resp.Body.Close()
				}
				assert.Equal(t, 1, server.hits())
				if way != "Transport" || name == "reset" {
					var found *retry.Error
					require.ErrorAs(t, err, &found)
					assert.Equal(t, retry.ErrNotIdempotent, found.Reason)
					assert.Equal(t, 1, found.Attempts)
					assert.ErrorContains(t, err, "may have been carried out")
				}
				if name == "reset" {
					assert.ErrorIs(t, err, syscall.ECONNRESET)
				}
				assert.Equal(t, "not_idempotent", retry.Outcome(tr.last().Err))
				assert.Equal(t, 1, strings.Count(text.String(), "\n"), text)
				assert.Contains(t, text.String(), "level=WARN")
				assert.Contains(t, text.String(), "may have been carried out")
				assert.NotContains(t, text.String(), "SECRET")
				assert.Equal(t, 1, breaker.Snapshot().Failures, "it is the server's failure all the same")
			})
		}
	}
}

// What is not repeated for another reason says that other reason.
func TestNotRepeatedForAnotherReason(t *testing.T) {
	with := func(change func(*retry.Config)) retry.Config { cfg := soon; change(&cfg); return cfg }
	for name, test := range map[string]struct {
		cfg     retry.Config
		answer  http.HandlerFunc
		outcome string
	}{
		"no retries":   {with(func(c *retry.Config) { c.MaxRetries = retry.NoRetries }), status(500), "max_retries"},
		"not worth it": {soon, status(404), "permanent"},
		"RetryIf":      {with(func(c *retry.Config) { c.RetryIf = func(error) bool { return false } }), status(500), "permanent"},
		"too long":     {soon, status(503, "Retry-After", "3600"), "retry_after_too_long"},
	} {
		server := newStand(t, test.answer)
		cfg, tr := track(test.cfg)
		resp, err := outcomeTransport(t, cfg).Post(server.URL, "", strings.NewReader("x"))
		read(t, resp, err)
		assert.Equal(t, test.outcome, retry.Outcome(tr.last().Err), name)
	}

	// A body that is gone besides is said too.
	server := newStand(t, reset)
	cfg, tr := track(soon)
	client := outcomeClient(t, nil, cfg, retry.IdempotentOnly(), retry.ReplayBuffer(0))
	_, err := client.Post(t.Context(), server.URL, "", io.LimitReader(strings.NewReader("x"), 1))
	assert.ErrorIs(t, err, retry.ErrNotIdempotent)
	assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	assert.Equal(t, "not_idempotent", retry.Outcome(tr.last().Err))
}

// A wait that the server asked for holds for all callers, although the request that
// got it is not sent again: its body was gone, and the pause was forgotten with it.
func TestPauseByARequestThatIsNotRepeated(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "60"))
	gate := retry.NewGate(nil)
	cfg := soon
	cfg.Gate = gate
	client := outcomeClient(t, nil, cfg, retry.ReplayBuffer(0))
	_, err := client.Post(t.Context(), server.URL, "", io.LimitReader(strings.NewReader("x"), 1))
	assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	_, paused := gate.PausedUntil()
	assert.True(t, paused)
}

// A charge lost its answer, its retry got 409 because the first attempt was still
// being processed, and the caller got that 409 while the charge was made. The key says
// that both are one: the server is asked again until it answers.
func TestConflictWithOwnAttempt(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.(http.Flusher).Flush()
		resetConnection(w)
	}
	busy, done := status(409), sending(200, "application/json", `"charged"`)
	for _, test := range []struct {
		name    string
		method  string
		key     string // the caller's own
		answers []http.HandlerFunc
		want    int // status; 0: 200
		hits    int
	}{
		{"reset", "POST", "", []http.HandlerFunc{reset, busy, busy, done}, 0, 4},
		{"timeout", "POST", "", []http.HandlerFunc{hang, busy, done}, 0, 3},
		{"cut off", "POST", "", []http.HandlerFunc{cut, busy, done}, 0, 3},
		{"gateway", "PATCH", "", []http.HandlerFunc{status(504), busy, done}, 0, 3},
		{"bad gateway", "POST", "", []http.HandlerFunc{status(502), busy, done}, 0, 3},
		{"a proxy's 503", "POST", "", []http.HandlerFunc{status(503), busy, done}, 0, 3},
		{"a CDN's timeout", "POST", "k", []http.HandlerFunc{status(524), busy, done}, 0, 3},
		{"a 503 that refuses", "POST", "", []http.HandlerFunc{status(503, "Retry-After", "0"), busy, done}, 409, 2},
		{"with a refusal between", "POST", "", []http.HandlerFunc{reset, status(429), busy, done}, 0, 4},
		{"caller's key", "POST", "k", []http.HandlerFunc{reset, busy, done}, 0, 3},
		{"caller's key on a PUT", "PUT", "k", []http.HandlerFunc{reset, busy, done}, 0, 3},
		{"first attempt", "POST", "", []http.HandlerFunc{busy, done}, 409, 1},
		{"after a refusal", "POST", "", []http.HandlerFunc{status(429), busy, done}, 409, 2},
		{"after the server's own failure", "POST", "", []http.HandlerFunc{status(500), busy, done}, 409, 2},
		{"no key", "PUT", "", []http.HandlerFunc{reset, busy, done}, 409, 2},
		{"another conflict", "POST", "", []http.HandlerFunc{reset, status(422), done}, 422, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, codes := range [][]int{nil, {429, 500, 502, 503, 504}} {
				server := newStand(t, test.answers...)
				cfg := soon
				cfg.AttemptTimeout, cfg.RetryStatusCodes = 200*time.Millisecond, codes
				req := newRequest(t, test.method, server.URL, strings.NewReader("x"))
				if test.key != "" {
					req.Header.Set("Idempotency-Key", test.key)
				}
				got, err := retry.Fetch(outcomeClient(t, nil, cfg), req, retry.DecodeJSON[string])
				if test.want == 0 {
					assert.NoError(t, err)
					assert.Equal(t, "charged", got)
				} else {
					found, ok := err.(*retry.StatusError)
					require.True(t, ok, "%v", err)
					assert.Equal(t, test.want, found.StatusCode)
				}
				seen := server.requests()
				require.Len(t, seen, test.hits)
				for _, r := range seen {
					assert.Equal(t, seen[0].header["Idempotency-Key"], r.header["Idempotency-Key"])
				}
			}
		})
	}

	// A Transport does so for the caller's key; what was never sent is not at work;
	// and one that goes on for long ends like any other status.
	post := func(client *http.Client, url string) (*http.Response, error) {
		req := newRequest(t, "POST", url, strings.NewReader("x"))
		req.Header.Set("X-Idempotency-Key", "k")
		return client.Do(req)
	}
	server := newStand(t, reset, busy, done)
	resp, err := post(outcomeTransport(t, soon), server.URL)
	got, _ := read(t, resp, err)
	assert.Equal(t, 200, got)

	server = newStand(t, busy, done)
	transport, err := retry.NewTransport(refusing(t, 2), soon)
	require.NoError(t, err)
	defer transport.CloseIdleConnections()
	resp, err = post(&http.Client{Transport: transport}, server.URL)
	got, _ = read(t, resp, err)
	assert.Equal(t, 409, got)

	server = newStand(t, reset, busy)
	_, err = outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "", strings.NewReader("x"))
	var found *retry.StatusError
	require.ErrorAs(t, err, &found)
	assert.Equal(t, 409, found.StatusCode)
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 4, server.hits())

	server = newStand(t, reset, busy, done)
	cfg := soon
	cfg.RetryIf = func(err error) bool { return !errors.As(err, &found) } // the user's word counts
	_, err = outcomeClient(t, nil, cfg).Post(t.Context(), server.URL, "", strings.NewReader("x"))
	assert.ErrorAs(t, err, &found)
	assert.Equal(t, 2, server.hits())
}

// Some servers validate the key as a UUID. No two are alike.
func TestKeyIsAUUID(t *testing.T) {
	server := newStand(t, reset, status(200))
	client := outcomeClient(t, nil, soon)
	seen := map[string]bool{}
	for range 20 {
		resp, err := client.Post(t.Context(), server.URL, "", nil)
		read(t, resp, err)
	}
	for i, r := range server.requests() {
		key := r.header.Get("Idempotency-Key")
		assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, key)
		assert.Equal(t, i == 1, seen[key], "the second request is the retry of the first")
		seen[key] = true
	}
}

// A timeout of HTTP/2 has no type that distinguishes it from one of the handshake. The
// handler acted all the same, and did so six times.
func TestHTTP2HeaderTimeout(t *testing.T) {
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
func TestErrorsOfAnOwnDialer(t *testing.T) {
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
func TestLastConnectionCounts(t *testing.T) {
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

// A custom transport makes other requests during an attempt, with the same context,
// and their connections are no evidence about the request itself: here it was sent, and
// what could not be dialled was where to report that, or to get another token.
func TestOtherRequestsOnTheWay(t *testing.T) {
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

// A base that does not report its connections: the error's type is all there is.
func TestBaseThatDoesNotTrace(t *testing.T) {
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

// With Expect: 100-continue the header is out before the body is touched: a
// body that was not read proves nothing.
func TestEvidenceWithExpectContinue(t *testing.T) {
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
func TestDecodeThatDials(t *testing.T) {
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
func TestPlainHTTP2GoAway(t *testing.T) {
	f, base := newPlainFrames(t, func(stream uint32) []byte { return goAway(stream, 2) }, ok200)
	resp, err := outcomeClient(t, base, soon).Get(t.Context(), f.url)
	read(t, resp, err)
	assert.EqualValues(t, 2, f.streams.Load())
}

// The first answer of a host, cut off anywhere in its status line or header, is a
// cut connection; and by the rule of the method not repeated.
func TestCutInTheFirstAnswer(t *testing.T) {
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
// transport error.
func TestAlertAfterAnAnswer(t *testing.T) {
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
// proves that the scheme is supported. An unsupported one costs one attempt,
// whatever is around the base.
func TestUnsupportedSchemes(t *testing.T) {
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
// no outage: the breaker has neither a success nor a failure.
func TestRequestsThatNetHTTPRefuses(t *testing.T) {
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
					continue // it is not known what the peer allows, until it has said so
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
func TestDeadHTTP2Connection(t *testing.T) {
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
func TestHostKeyIsShownNowhere(t *testing.T) {
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
// error that matches, and are tried again.
func TestHostSettings(t *testing.T) {
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

	down := newStand(t, status(500))
	client = outcomeClient(t, nil, soon, retry.PerHost(func(_ string, cfg *retry.Config) error {
		cfg.MaxRetries = retry.NoRetries
		return nil
	}))
	_, err = client.Get(t.Context(), down.URL)
	assert.Error(t, err)
	assert.Len(t, down.requests(), 1, "its own number of retries")
}

// A 409 after a lost answer means that the first request is at work only where a key was
// sent: other headers are none, nor is the name of a key without a value.
func TestConflictWithoutAKey(t *testing.T) {
	for name, header := range map[string]http.Header{"another header": {"Accept": {"*/*"}}, "a key that is not sent": {"Idempotency-Key": nil}} {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){
			func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, answerOf(409, ""), answerOf(200, ""),
		}}
		transport, err := retry.NewTransport(base, soon)
		require.NoError(t, err)
		req := newRequest(t, "PUT", "http://gene.example/", nil)
		req.Header = header
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err, name)
		resp.Body.Close()
		assert.Equal(t, 409, resp.StatusCode, name)
	}
}

// A key whose name is not in its canonical form is sent as well: it makes a request
// idempotent, and so its 409 after a lost answer says that the first one is at work.
func TestConflictWithAKeyInLowerCase(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(502, ""), answerOf(409, ""), answerOf(200, "")}}
	req := newRequest(t, "POST", "http://gene.example/", strings.NewReader("x"))
	req.Header["idempotency-key"] = []string{"k"}
	resp, err := outcomeClient(t, &http.Client{Transport: base}, soon).Do(req)
	code, _ := read(t, resp, err)
	assert.Equal(t, 200, code)
}

// A service that reports a payment as not made must be certain. Whatever way a call ends,
// MayHaveActed is false only if the server cannot have acted on any attempt, and the
// same whether the request has a key or must not be repeated.
func TestMayHaveActed(t *testing.T) {
	later := []string{"Retry-After", "0"}
	answers := func(answers ...http.HandlerFunc) func(*testing.T) (string, *http.Transport) {
		return func(t *testing.T) (string, *http.Transport) { return newStand(t, answers...).URL, new(http.Transport) }
	}
	raw := func(answer string) func(*testing.T) (string, *http.Transport) {
		return func(t *testing.T) (string, *http.Transport) { return rawServer(t, answer), new(http.Transport) }
	}
	dialing := func(dial func(context.Context) (net.Conn, error)) func(*testing.T) (string, *http.Transport) {
		return func(*testing.T) (string, *http.Transport) {
			return "http://payments.example", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
		}
	}
	var leave atomic.Value // ends the caller's context
	hang := func(then func()) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) { then(); <-r.Context().Done() }
	}
	clock := clockwork.NewFakeClock()
	redirectTo := func(code int, then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/there", code)
				return
			}
			then(w, r)
		}
	}
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	breaker.ForceOpen()
	gate := retry.NewGate(nil)
	gate.Pause(time.Hour)
	budget, err := retry.NewBudget(0, 0)
	require.NoError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	soon := retry.Config{MaxRetries: 2, InitialDelay: time.Nanosecond, MaxRetryAfter: time.Minute}
	with := func(change func(*retry.Config)) retry.Config { cfg := soon; change(&cfg); return cfg }

	for name, c := range map[string]struct {
		server func(*testing.T) (string, *http.Transport)
		want   bool
		cfg    retry.Config
		ctx    context.Context
		limit  time.Duration // of the call
	}{
		"breaker open":          {server: answers(status(200)), cfg: with(func(c *retry.Config) { c.Breaker = breaker })},
		"gate paused":           {server: answers(status(200)), cfg: with(func(c *retry.Config) { c.Gate = gate })},
		"cancelled before":      {server: answers(status(200)), ctx: over},
		"dial refused":          {server: func(t *testing.T) (string, *http.Transport) { return "http://payments.example", refusing(t, 9) }},
		"dial refused, no rest": {server: func(t *testing.T) (string, *http.Transport) { return "http://payments.example", refusing(t, 9) }, cfg: with(func(c *retry.Config) { c.Budget = budget })},
		"dial takes too long": {server: dialing(func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }),
			limit: 20 * time.Millisecond},
		"no such host": {server: dialing(func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}
		})},
		"certificate": {server: func(t *testing.T) (string, *http.Transport) {
			server := httptest.NewUnstartedServer(status(200))
			server.Config.ErrorLog = quiet
			server.StartTLS()
			t.Cleanup(server.Close)
			return server.URL, new(http.Transport)
		}},
		"429":                     {server: answers(status(429, later...))},
		"429 that is not retried": {server: answers(status(429, later...)), cfg: with(func(c *retry.Config) { c.RetryStatusCodes = []int{} })},
		"425":                     {server: answers(status(425))},
		"421":                     {server: answers(status(421))},
		"503 that names a wait":   {server: answers(status(503, later...))},
		"503 for too long":        {server: answers(status(503, "Retry-After", "3600"))},
		"429 over HTTP/2": {server: func(t *testing.T) (string, *http.Transport) {
			server, base := newH2(t, status(429, later...))
			return server.URL, base
		}},

		"503":       {server: answers(status(503)), want: true},
		"500":       {server: answers(status(500)), want: true},
		"502":       {server: answers(status(502, later...)), want: true},
		"504":       {server: answers(status(504)), want: true},
		"408":       {server: answers(status(408)), want: true},
		"400":       {server: answers(status(400)), want: true},
		"402":       {server: answers(status(402)), want: true},
		"409":       {server: answers(status(409)), want: true},
		"no answer": {server: answers(hang(func() { leave.Load().(context.CancelFunc)() })), want: true},
		"no answer in time": {server: answers(hang(func() { clock.Advance(time.Minute) })), want: true, cfg: with(func(c *retry.Config) {
			c.AttemptTimeout, c.Clock, c.MaxRetries = time.Second, clock, retry.NoRetries
		})},
		"reset":                  {server: answers(reset), want: true},
		"cut in the status line": {server: raw("HTTP/1.1 2"), want: true},
		"cut in the body":        {server: raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), want: true},
		"no JSON":                {server: answers(status(200), status(200)), want: true},
		"303, then 429":          {server: answers(redirectTo(303, status(429, later...))), want: true},
		"307, then 429":          {server: answers(redirectTo(307, status(429, later...))), want: true},
		"reset over HTTP/2": {server: func(t *testing.T) (string, *http.Transport) {
			f, client := newPlainFrames(t, rst(8))
			return f.url, client.Transport.(*http.Transport)
		}, want: true},
	} {
		for way, option := range map[string]retry.Option{"keyed": nil, "not idempotent": retry.IdempotentOnly()} {
			t.Run(name+"/"+way, func(t *testing.T) {
				url, base := c.server(t)
				if c.cfg.MaxRetries == 0 {
					c.cfg = soon
				}
				ctx := c.ctx
				if ctx == nil {
					ctx = t.Context()
				}
				client := outcomeClient(t, &http.Client{Transport: base}, c.cfg, option)
				for range 2 { // nothing is known of the host, then perhaps something
					ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.limit, time.Minute))
					defer cancel()
					leave.Store(cancel)
					_, err := retry.PostJSON[Gene](ctx, client, url, 1)
					require.Error(t, err)
					assert.Equal(t, c.want, retry.MayHaveActed(err), "%v", err)
					assert.Equal(t, c.want, retry.MayHaveActed(fmt.Errorf("%w: %w", errDown, err)), "wrapped with an error of one's own")
				}
			})
		}
	}
}

// A caller who does not believe that a 503 with a Retry-After comes before the server acts
// makes a plain 503 of it: it is not repeated, and counts as perhaps carried out.
func TestMayHaveActed_WaitIsNoProof(t *testing.T) {
	for name, c := range map[string]struct {
		options []retry.Option
		acted   bool
		reason  error
	}{
		"a proof": {nil, false, retry.ErrMaxRetries},
		"none": {[]retry.Option{retry.CheckResponse(func(resp *http.Response) error {
			if resp.StatusCode == http.StatusServiceUnavailable {
				resp.Header.Del("Retry-After")
			}
			return nil
		})}, true, retry.ErrNotIdempotent},
	} {
		busy := retrytest.Status(503, "").With("Retry-After", "1")
		_, err := retrytest.Bubble(t, retry.Config{MaxRetries: 1}, func(t *testing.T, cfg retry.Config) error {
			script := retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer { return busy })
			client, err := retry.NewRetryableClient(script.Client(), cfg, c.options...)
			require.NoError(t, err)
			_, err = retry.PostJSON[string](retry.WithIdempotent(t.Context(), false), client, "https://payments.example/", 1)
			return err
		})
		assert.ErrorIs(t, err, c.reason, name)
		assert.Equal(t, c.acted, retry.MayHaveActed(err), name)
	}
}

// One attempt that may have been carried out is enough, whatever those after it met.
func TestMayHaveActed_EarlierAttempt(t *testing.T) {
	refuse := status(429, "Retry-After", "0")
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		want    bool
	}{
		"lost, refused":         {[]http.HandlerFunc{reset, refuse}, true},
		"lost, final":           {[]http.HandlerFunc{reset, status(402)}, true},
		"500, refused":          {[]http.HandlerFunc{status(500), refuse}, true},
		"refused, lost":         {[]http.HandlerFunc{refuse, reset}, true},
		"refused, lost, refuse": {[]http.HandlerFunc{refuse, reset, refuse}, true},
		"refused":               {[]http.HandlerFunc{refuse}, false},
	} {
		cfg := soon
		cfg.MaxRetries = 3
		_, err := outcomeClient(t, nil, cfg).Post(t.Context(), newStand(t, c.answers...).URL, "", strings.NewReader("x"))
		assert.Equal(t, c.want, retry.MayHaveActed(err), "%s: %v", name, err)
	}

	// A body that cannot be read again ends the call before the next attempt.
	client := outcomeClient(t, nil, soon, retry.ReplayBuffer(0))
	_, err := client.Post(t.Context(), newStand(t, refuse).URL, "", io.LimitReader(strings.NewReader("x"), 1))
	assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	assert.False(t, retry.MayHaveActed(err))
	req := newRequest(t, "POST", newStand(t, refuse).URL, strings.NewReader("x"))
	req.GetBody = func() (io.ReadCloser, error) { return nil, errDown }
	_, err = outcomeClient(t, nil, soon).Do(req)
	assert.ErrorIs(t, err, errDown)
	assert.False(t, retry.MayHaveActed(err))
}

// What was not carried out is still asked whether time ran out: the answer is that of the
// cause, false for one that cannot say.
func TestMayHaveActed_Timeout(t *testing.T) {
	server := httptest.NewUnstartedServer(status(200))
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	silent := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	for name, c := range map[string]struct {
		url  string
		dial error // nil: the real one
		want bool
	}{
		"certificate":         {server.URL, nil, false},
		"dial refused":        {"http://payments.example", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		"dial without an end": {"http://payments.example", silent, true},
	} {
		base := new(http.Transport)
		if c.dial != nil {
			base.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, c.dial }
		}
		_, err := outcomeClient(t, &http.Client{Transport: base}, retry.Config{MaxRetries: retry.NoRetries}).Post(t.Context(), c.url, "", nil)
		require.False(t, retry.MayHaveActed(err), "%s: %v", name, err)
		var failed *url.Error
		require.ErrorAs(t, err, &failed, name)
		assert.Equal(t, c.want, failed.Timeout(), "%s: %v", name, err)
		assert.Equal(t, c.want, failed.Temporary(), "%s: %v", name, err)
	}
}

// A payment reached the server over a connection that others had used, and the server
// went down with it. net/http sent the request again by itself, since it has a key, and
// what came back was the refusal of that: it says nothing of the first one.
func TestMayHaveActed_SentAgainByNetHTTP(t *testing.T) {
	for name, second := range map[string]string{
		"dial refused": "",
		"429":          "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
	} {
		for way, header := range map[string]string{"own key": "Idempotency-Key", "key of the client": "X-Other"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				first, requests := countedConversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", "")
				after := "127.0.0.1:1"
				if second != "" {
					after = strings.TrimPrefix(rawServer(t, second), "http://")
				}
				var dials atomic.Int32
				base := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					if dials.Add(1) > 1 {
						address = after
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}}}
				once := soon // which has retries, or there would be no key
				once.RetryIf = func(error) bool { return false }
				client := outcomeClient(t, base, once)
				_, err := retry.PostJSON[int](t.Context(), client, first, 1)
				require.NoError(t, err)
				req, err := retry.NewJSONRequest(t.Context(), "POST", first, 1)
				require.NoError(t, err)
				req.Header.Set(header, "payment-7")
				_, err = client.Do(req)
				require.Error(t, err)
				assert.EqualValues(t, 2, requests.Load())
				assert.True(t, retry.MayHaveActed(err), "%v", err)
			})
		}
	}
}

// A host with NoRetries gets each payment once. The key that a client adds for its retries
// once made net/http send it again by itself, when a used connection broke.
func TestNoRetriesSendsAPostOnce(t *testing.T) {
	for name, opt := range map[string]retry.Option{
		"of the client": nil,
		"of the host":   retry.PerHost(func(_ string, cfg *retry.Config) error { cfg.MaxRetries = retry.NoRetries; return nil }),
	} {
		for _, method := range []string{"POST", "PATCH"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				url, requests := countedConversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", "")
				cfg := soon
				if opt == nil {
					cfg.MaxRetries = retry.NoRetries
				}
				client := outcomeClient(t, nil, cfg, opt)
				_, err := retry.PostJSON[int](t.Context(), client, url, 1)
				require.NoError(t, err)
				req, err := retry.NewJSONRequest(t.Context(), method, url, 1)
				require.NoError(t, err)
				_, err = client.Do(req)
				require.Error(t, err)
				assert.EqualValues(t, 2, requests.Load(), "one of them is the payment before")
				assert.True(t, retry.MayHaveActed(err), "%v", err)
			})
		}
	}
}

// What is not known counts as carried out.
func TestMayHaveActed_Unknown(t *testing.T) {
	refuse := newStand(t, status(429, "Retry-After", "0")).URL
	_, harmless := outcomeClient(t, nil, soon).Get(t.Context(), refuse)
	require.False(t, retry.MayHaveActed(harmless))
	_, acted := outcomeClient(t, nil, soon).Get(t.Context(), newStand(t, status(500)).URL)

	for _, err := range []error{nil, errDown, (*retry.Error)(nil), (*retry.StatusError)(nil), (*nilError)(nil), (*nilErrors)(nil),
		&retry.Error{Err: errDown}, &retry.StatusError{StatusCode: 429}, acted, errors.Join(harmless, acted), errors.Join(errDown, io.EOF)} {
		assert.True(t, retry.MayHaveActed(err), "%v", err)
	}
	assert.False(t, retry.MayHaveActed(errors.Join(errDown, harmless)), "the others say nothing")

	failing := func(context.Context) error { return errDown }
	assert.True(t, retry.MayHaveActed(retry.Run(t.Context(), soon, failing)), "a function")
	open, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	open.ForceOpen()
	rejected := func(ctx context.Context) error { return retry.Run(ctx, retry.Config{Breaker: open}, failing) }
	assert.False(t, retry.MayHaveActed(rejected(t.Context())), "a function that was not called")

	// The last of several requests in a Do knows nothing of those before it.
	for name, last := range map[string]func(context.Context) error{
		"a request":  func(ctx context.Context) error { _, err := outcomeClient(t, nil, soon).Get(ctx, refuse); return err },
		"a function": rejected,
	} {
		err := retry.Run(t.Context(), soon, func(ctx context.Context) error {
			if retry.RetryCount(ctx) == 0 {
				return errDown
			}
			return last(ctx)
		})
		assert.True(t, retry.MayHaveActed(err), "%s: %v", name, err)
	}

	// A base that is not net/http's own may send a request with a key again by itself.
	refusing := roundTrip(func(req *http.Request) (*http.Response, error) {
		req.Body.Close()
		return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"0"}}, Body: http.NoBody, Request: req}, nil
	})
	for option, want := range map[*retry.Option]bool{new(retry.Option): true, ptr(retry.IdempotentOnly()): false} {
		_, err := outcomeClient(t, &http.Client{Transport: refusing}, soon, *option).Post(t.Context(), refuse, "", strings.NewReader("x"))
		assert.Equal(t, want, retry.MayHaveActed(err), "%v", err)
	}
	wrapped := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper { return roundTrip(base.RoundTrip) })
	_, err = outcomeClient(t, nil, soon, wrapped).Post(t.Context(), refuse, "", strings.NewReader("x"))
	assert.False(t, retry.MayHaveActed(err), "%v", err)

	// One that sends twice, as a hedge does, is known to have: the first answer was lost.
	twice := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			first := req.Clone(req.Context())
			first.Body, _ = req.GetBody()
			if resp, err := base.RoundTrip(first); err == nil {
				return resp, nil
			}
			return base.RoundTrip(req)
		})
	})
	lost := newStand(t, reset, status(429, "Retry-After", "0"))
	once := soon
	once.MaxRetries = retry.NoRetries
	_, err = outcomeClient(t, nil, once, twice).Post(t.Context(), lost.URL, "", strings.NewReader("x"))
	assert.Equal(t, 2, lost.hits())
	assert.True(t, retry.MayHaveActed(err), "%v", err)
}

func ptr[T any](v T) *T { return &v }

type nilError struct{ err error }

func (e *nilError) Error() string { return "nil" }
func (e *nilError) Unwrap() error { return e.err }

type nilErrors struct{ errs []error }

func (e *nilErrors) Error() string   { return "nil" }
func (e *nilErrors) Unwrap() []error { return e.errs }

// A request that net/http does not send over a connection that others had used may be fit
// for the next one: that may just have been closed. Only one with a header longer than a peer
// need accept, 2 KiB, is taken for what HTTP/2 refuses.
func TestRequestRefusedOnAConnectionInUse(t *testing.T) {
	server, base := newH2(t, func(http.ResponseWriter, *http.Request) {})
	for size, attempts := range map[int]int{0: 4, 2 << 10: 4, 2<<10 + 1: 1} {
		cfg, tr := track(soon)
		transport, err := retry.NewTransport(base, cfg)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", server.URL, nil))
		read(t, resp, err)
		req := newRequest(t, "GET", server.URL, nil)
		req.Host = "a b"
		if size > 0 {
			req.Header.Set("A", strings.Repeat("x", size-len("A")))
		}
		_, err = transport.RoundTrip(req)
		require.Error(t, err)
		assert.Equal(t, attempts, tr.last().Attempt, "%d: %v", size, err)
	}
}
