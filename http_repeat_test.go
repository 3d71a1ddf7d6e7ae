package retry_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

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

// A POST that is not repeated gave a bare error and not one line in the log: those
// who wonder why find it there now.
func TestHTTP_WhyAPostIsNotRepeated(t *testing.T) {
	server := newStand(t, status(500))
	var out strings.Builder
	cfg := soon
	cfg.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client := outcomeClient(t, nil, cfg, retry.IdempotentOnly())
	_, err := client.Post(t.Context(), server.URL+"/?key=secret", "text/plain", strings.NewReader("x"))
	assert.Error(t, err)
	assert.Equal(t, 1, server.hits())
	assert.Contains(t, out.String(), "level=DEBUG")
	assert.Contains(t, out.String(), "not repeated")
	assert.Contains(t, out.String(), "not idempotent")
	assert.NotContains(t, out.String(), "secret")
}
