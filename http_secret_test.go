package retry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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

// Secrets of a URL or a header get into no error, log line or event, whatever
// befalls the request.
func TestHTTP_106_Secrets(t *testing.T) {
	refused := strings.TrimPrefix(newClosed(t), "http://")
	for name, answer := range map[string]http.HandlerFunc{
		"reset":             reset,
		"503":               status(503),
		"404":               status(404),
		"throttled":         status(429, "Retry-After-Ms", "2"),
		"redirect":          status(302, "Location", "http://user:SECRET@"+refused+"/?token=SECRET"),
		"malformed":         status(302, "Location", "http://[::1?token=SECRET"),
		"not followed":      status(302, "Location", "gopher://user:SECRET@gene.example/?token=SECRET"),
		"too long a wait":   status(429, "Retry-After", "3600"),
		"open breaker next": status(500),
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, answer)
			seen, logger := newLog()
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 3})
			require.NoError(t, err)
			cfg := soon
			cfg.Logger = logger
			cfg.Breaker = breaker
			var events strings.Builder
			event := func(_ context.Context, e retry.Event) { fmt.Fprintf(&events, "%+v %v\n", e, e.Err) }
			cfg.OnRetry, cfg.OnDone = event, event
			client := outcomeClient(t, nil, cfg)
			address := strings.Replace(server.URL, "http://", "http://user:SECRET@", 1) + "/gene?sig=SECRET&api_key=SECRET#SECRET"
			req := newRequest(t, "GET", address, nil)
			req.Header.Set("Authorization", "Bearer SECRET")
			_, err = client.Do(req)
			require.Error(t, err)
			texts := events.String() + seen.String() + fmt.Sprintf("%v %+v %s %q", err, err, err, err)
			assert.NotContains(t, texts, "SECRET")
			assert.NotEmpty(t, events.String())

			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			resp, err := client.StandardClient().Do(req.WithContext(ctx))
			if err == nil {
				resp.Body.Close()
			}
			assert.NotContains(t, events.String()+seen.String(), "SECRET")
		})
	}
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), "http://user:SECRET@[::1/?sig=SECRET")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "SECRET")
}

// newClosed is an address where nobody listens.
func newClosed(t testing.TB) string {
	server := newStand(t, status(200))
	server.Close()
	return server.URL
}

// A URL whose address and query somebody put into Opaque hides its secrets as
// well, though its fields have none.
func TestHTTP_106_SecretsInOpaque(t *testing.T) {
	server := newStand(t, status(404))
	req := newRequest(t, "GET", server.URL, nil)
	req.URL.Opaque = "//user:SECRET@" + req.URL.Host + "/gene?token=SECRET"
	_, err := outcomeClient(t, nil, soon).Do(req)
	var failure *retry.StatusError
	require.ErrorAs(t, err, &failure)
	assert.Contains(t, failure.URL, "token=")
	assert.NotContains(t, failure.URL+err.Error(), "SECRET")
}

// Every attempt starts from the caller's request: what a transport inside does to
// one is not there in the next, nor in the caller's.
func TestHTTP_105_111_PristineAttempts(t *testing.T) {
	server := newStand(t, status(503), status(503), status(200))
	spoiling := roundTrip(func(req *http.Request) (*http.Response, error) {
		req.Header.Add("X-Attempt", fmt.Sprint(retry.RetryCount(req.Context())))
		req.Header["Accept"] = append(req.Header["Accept"], "spoiled")
		req.URL.Path += "/spoiled"
		return http.DefaultTransport.RoundTrip(req)
	})
	req := newRequest(t, "GET", server.URL+"/gene", nil)
	req.Header["Accept"] = append(make([]string, 0, 8), "x")
	resp, err := outcomeClient(t, &http.Client{Transport: spoiling}, soon).Do(req)
	read(t, resp, err)
	for i, r := range server.requests() {
		assert.Equal(t, []string{fmt.Sprint(i)}, r.header["X-Attempt"])
		assert.Equal(t, []string{"x", "spoiled"}, r.header["Accept"])
		assert.Equal(t, "/gene/spoiled", r.path)
	}
	assert.Equal(t, http.Header{"Accept": {"x"}}, req.Header)
	assert.Empty(t, req.Header["Accept"][:2][1], "not even behind its end")
	assert.Equal(t, "/gene", req.URL.Path)
}

// A header without values says that net/http shall send none: it must not get lost
// on the way, as it once did if there was no other.
func TestHTTP_059_HeaderWithoutValues(t *testing.T) {
	server := newStand(t, status(503), status(200))
	req := newRequest(t, "GET", server.URL, nil)
	req.Header["User-Agent"] = nil
	resp, err := outcomeClient(t, nil, soon).Do(req)
	read(t, resp, err)
	for _, r := range server.requests() {
		assert.NotContains(t, r.header, "User-Agent")
	}
}

// One request is good for many attempts, many times, at once.
func TestHTTP_109_139_ManyAtOnce(t *testing.T) {
	flaky := func() *stand {
		return newStand(t, status(503), status(200), status(500), status(200))
	}
	hosts := []*stand{flaky(), flaky(), flaky()}
	client := outcomeClient(t, nil, soon)
	shared := newRequest(t, "GET", hosts[0].URL, nil)
	shared.Header.Set("Accept", "x")
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 3 {
				req := shared
				if i%2 == 1 {
					req = newRequest(t, "POST", hosts[i%3].URL, strings.NewReader("body"))
				}
				resp, err := client.Do(req)
				if assert.NoError(t, err) {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	assert.Equal(t, http.Header{"Accept": {"x"}}, shared.Header)
}

// The first attempt over net/http's own transport is the caller's own request,
// which spares a copy that nobody would change. All others are copies: retries,
// to which their number belongs, what gets a time limit, and what goes to any
// other transport.
func TestHTTP_111_CopiesOnlyForOthers(t *testing.T) {
	seen := func(cfg retry.Config, wrap func(*http.Transport) http.RoundTripper) (own []bool, counts []int) {
		s := newStand(t, status(200), status(503), status(200))
		req := newRequest(t, "GET", s.URL, nil)
		std := &http.Transport{Proxy: func(sent *http.Request) (*url.URL, error) { // asked for each request
			own, counts = append(own, sent == req), append(counts, retry.RetryCount(sent.Context()))
			return nil, nil
		}}
		t.Cleanup(std.CloseIdleConnections)
		transport, err := retry.NewTransport(wrap(std), cfg)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", s.URL, nil)) // the host is known then
		require.NoError(t, err)
		resp.Body.Close()
		own, counts = nil, nil
		resp, err = transport.RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, 200, resp.StatusCode)
		resp.Body.Close()
		return own, counts
	}
	plain := func(std *http.Transport) http.RoundTripper { return std }
	own, counts := seen(soon, plain)
	assert.Equal(t, []bool{true, false}, own)
	assert.Equal(t, []int{0, 1}, counts)

	limited := soon
	limited.AttemptTimeout = time.Minute
	own, _ = seen(limited, plain)
	assert.Equal(t, []bool{false, false}, own)
	own, _ = seen(soon, func(std *http.Transport) http.RoundTripper { return struct{ http.RoundTripper }{std} })
	assert.Equal(t, []bool{false, false}, own)
}

// A transport error in a log line names the URL, without its secrets, as a status
// does; also that of a bare Transport, and of a base that net/http did not write.
func TestHTTP_LogLinesNameTheURL(t *testing.T) {
	server := newStand(t, reset)
	address := strings.Replace(server.URL, "http://", "http://user:SECRET@", 1) + "/gene?key=SECRET#SECRET"
	std := &http.Transport{}
	t.Cleanup(std.CloseIdleConnections)
	for _, base := range []http.RoundTripper{std, roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })} {
		log, logger := newLog()
		cfg := soon
		cfg.Logger = logger
		transport, err := retry.NewTransport(base, cfg)
		require.NoError(t, err)
		for _, do := range []func(*http.Request) (*http.Response, error){outcomeClient(t, &http.Client{Transport: base}, cfg).Do, transport.RoundTrip} {
			_, err := do(newRequest(t, "GET", address, nil))
			require.Error(t, err)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		assert.Len(t, lines, 8)
		for _, line := range lines {
			assert.Contains(t, line, "/gene?key=xxxxx")
			assert.NotContains(t, line, "SECRET")
		}
	}
}
