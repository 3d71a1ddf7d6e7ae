package retry_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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

// What may have been carried out is repeated only where that does no harm.
func TestHTTP_014_018_020_WhichMethods(t *testing.T) {
	for _, test := range []struct {
		method string
		times  int
	}{
		{"GET", 4}, {"HEAD", 4}, {"OPTIONS", 4}, {"TRACE", 4}, {"QUERY", 4}, {"PUT", 4}, {"DELETE", 4}, {"", 4},
		{"POST", 1}, {"PATCH", 1}, {"LOCK", 1}, {"MKCOL", 1}, {"get", 1}, {"Put", 1},
	} {
		t.Run(test.method, func(t *testing.T) {
			for _, answer := range []http.HandlerFunc{reset, status(500)} {
				server := newStand(t, answer)
				req := newRequest(t, test.method, server.URL, nil)
				req.Method = test.method
				if resp, err := outcomeTransport(t, soon).Do(req); err == nil {
					resp.Body.Close()
				} else {
					assert.ErrorIs(t, err, syscall.ECONNRESET)
				}
				require.Equal(t, test.times, server.hits())
				want := test.method
				if want == "" {
					want = "GET"
				}
				assert.Equal(t, want, server.requests()[0].method, "sent verbatim")
			}
		})
	}
}

func TestHTTP_015_IdempotencyKey(t *testing.T) {
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
func TestHTTP_016_017_StaleConnection(t *testing.T) {
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

// refusing makes the first dials meet a port where nobody listens.
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

// Without a connection nothing was sent, whatever the method and the body: also
// a body that can be read only once is still there.
func TestHTTP_019_054_DialRefused(t *testing.T) {
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

// That a 404 comes from one's own first attempt can be guessed from their number.
func TestHTTP_021_SecondDelete(t *testing.T) {
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
func TestHTTP_022_RetryIf(t *testing.T) {
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
func TestHTTP_WithIdempotent(t *testing.T) {
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

// A proxy answers 503 too when the connection to its backend broke with the request
// already on it, and a POST that got such an answer was carried out twice. Only a 503
// with Retry-After is a refusal. Whatever the way to say that a request is not
// idempotent, it means the same.
func TestWhatAStatusProves(t *testing.T) {
	later := []string{"Retry-After", "0"}
	for _, test := range []struct {
		code    int
		header  []string
		refused bool
	}{
		{500, nil, false}, {500, later, false}, {502, nil, false}, {502, later, false}, {503, nil, false}, {504, nil, false}, {408, nil, false},
		{503, []string{"X-RateLimit-Remaining", "0"}, false}, {503, []string{"Retry-After", ""}, false},
		{503, later, true}, {503, []string{"Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"}, true},
		{429, nil, true}, {425, nil, true}, {421, nil, true},
	} {
		for _, method := range []string{"POST", "PATCH", "LOCK"} {
			for way, send := range notIdempotentWays {
				if way == "RetryableClient" && method != "LOCK" {
					continue // has a key
				}
				t.Run(fmt.Sprint(test.code, test.header, method, way), func(t *testing.T) {
					server := newStand(t, status(test.code, test.header...), status(200))
					cfg, tr := track(soon)
					resp, err := send(t, cfg, newRequest(t, method, server.URL, strings.NewReader("x")))
					if test.refused {
						read(t, resp, err)
						assert.Equal(t, 2, server.hits())
						return
					}
					assert.Equal(t, 1, server.hits())
					assert.ErrorIs(t, tr.last().Err, retry.ErrNotIdempotent)
					assert.Equal(t, "not_idempotent", retry.Outcome(tr.last().Err))
					if way == "Transport" {
						got, text := read(t, resp, err)
						assert.Equal(t, test.code, got)
						assert.Equal(t, strconv.Itoa(test.code), text, "unread")
						return
					}
					var found *retry.StatusError
					require.ErrorAs(t, err, &found)
					assert.Equal(t, test.code, found.StatusCode)
					assert.Equal(t, strconv.Itoa(test.code), string(found.Body))
				})
			}
		}
	}
}

// notIdempotentWays are all ways in which a POST is sent that must not be repeated.
var notIdempotentWays = map[string]func(*testing.T, retry.Config, *http.Request) (*http.Response, error){
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

// A POST that is not repeated came back as a bare EOF, with the outcome "permanent"
// and nothing in the log, although it may have been carried out.
func TestWhyAPostIsNotRepeated(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{"reset": reset, "500": status(500)} {
		for way, send := range notIdempotentWays {
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
