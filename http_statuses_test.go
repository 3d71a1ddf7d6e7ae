package retry_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// The tests of the cases are named by their numbers. This file holds what they
// share, and the cases about statuses.

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

// track makes cfg tell what its calls did.
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

// doubling waits 1ms, 2ms, 4ms.
var doubling = retry.Config{InitialDelay: time.Millisecond, MaxRetries: 3, Jitter: retry.NoJitter}

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

func TestHTTP_001_RetriedStatuses(t *testing.T) {
	for _, code := range []int{500, 502, 503, 504} {
		server := newStand(t, status(code), status(code), status(200))
		cfg, tr := track(doubling)
		resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
		got, _ := read(t, resp, err)
		assert.Equal(t, 200, got)
		assert.Equal(t, 3, server.hits())
		assert.Equal(t, []time.Duration{time.Millisecond, 2 * time.Millisecond}, tr.delays)
		assert.Equal(t, 1, server.connections(), "both bodies were drained")
	}
}

// Statuses of which no repetition would make another: whatever the client, there
// is one request.
func TestHTTP_002_003_011_StatusesLeftAlone(t *testing.T) {
	for _, code := range []int{
		501, 505, 506, 510, 507, 508, 511,
		400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 414, 415, 416, 417, 422, 426, 428, 431, 451,
		300, 304,
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			server := newStand(t, status(code))
			resp, err := outcomeTransport(t, soon).Get(server.URL)
			got, _ := read(t, resp, err)
			assert.Equal(t, code, got)
			assert.Equal(t, 1, server.hits())

			resp, err = outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
			assert.Equal(t, 2, server.hits())
			if code < 400 {
				read(t, resp, err)
				return
			}
			bare, ok := err.(*retry.StatusError)
			require.True(t, ok, "%T", err)
			assert.Nil(t, resp)
			assert.Equal(t, code, bare.StatusCode)
			assert.Equal(t, strconv.Itoa(code), string(bare.Body))
		})
	}
}

// A status that is not registered is what the first of its class is (RFC 9110,
// section 15): those of Cloudflare, of Anthropic and of gateways, from 509 to 599, are
// retried where 500 is. Codes out of any range do no harm.
func TestHTTP_004_VendorCodes(t *testing.T) {
	with := func(codes ...int) retry.Config {
		cfg := soon
		cfg.RetryStatusCodes = codes
		return cfg
	}
	for _, test := range []struct {
		cfg   retry.Config
		codes []int
		hits  int
	}{
		{soon, []int{509, 512, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 561, 598, 599}, 2},
		{soon, []int{501, 505, 506, 507, 508, 510, 511, 419, 420, 430, 440, 498, 499, 600, 999}, 1},
		{with(append(retry.DefaultRetryStatusCodes(), 404)...), []int{404, 500, 503, 520, 529, 599}, 2},
		{with(500), []int{500, 520, 529, 599}, 2},
		{with(502, 503), []int{500, 520, 529, 599}, 1},
		{with(529), []int{529}, 2},
		{with(529), []int{520, 500}, 1},
		{with(420, 999), []int{420, 999}, 2},
		{with([]int{}...), []int{500, 529}, 1},
	} {
		for _, code := range test.codes {
			server := newStand(t, status(code), status(200))
			resp, err := outcomeTransport(t, test.cfg).Get(server.URL)
			got, _ := read(t, resp, err)
			assert.Equal(t, test.hits == 2, got == 200, "%d with %v", code, test.cfg.RetryStatusCodes)
			assert.Equal(t, test.hits, server.hits(), "%d with %v", code, test.cfg.RetryStatusCodes)
		}
	}
	defaults := retry.DefaultRetryStatusCodes()
	assert.Equal(t, []int{408, 425, 429, 500, 502, 503, 504}, defaults)
	defaults[0] = 400
	assert.Equal(t, 408, retry.DefaultRetryStatusCodes()[0], "a new slice each time")
	resp, err := outcomeClient(t, nil, soon).Get(t.Context(), rawServer(t, "HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n"))
	got, _ := read(t, resp, err)
	assert.Zero(t, got)
}

// The server says that it refused: any method may be sent again, and the host is
// not ill.
func TestHTTP_005_007_RefusedByTheServer(t *testing.T) {
	for _, code := range []int{429, 425} {
		server := newStand(t, status(code), status(200))
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
		require.NoError(t, err)
		cfg := soon
		cfg.Breaker = breaker
		resp, err := outcomeTransport(t, cfg).Post(server.URL, "text/plain", strings.NewReader("body"))
		got, _ := read(t, resp, err)
		assert.Equal(t, 200, got)
		require.Equal(t, 2, server.hits())
		for _, r := range server.requests() {
			assert.Equal(t, "body", r.body)
			assert.Empty(t, r.header.Values("Idempotency-Key"))
		}
		assert.Zero(t, breaker.Snapshot().Failures)
	}
}

func TestHTTP_006_RequestTimeout(t *testing.T) {
	t.Run("on a new connection", func(t *testing.T) {
		server := newStand(t, status(408, "Connection", "close"), status(200))
		resp, err := outcomeTransport(t, soon).Get(server.URL)
		got, _ := read(t, resp, err)
		assert.Equal(t, 200, got)
		assert.Equal(t, 2, server.connections())
	})
	t.Run("POST without a key", func(t *testing.T) {
		server := newStand(t, status(408), status(200))
		resp, err := outcomeTransport(t, soon).Post(server.URL, "", strings.NewReader("x"))
		got, _ := read(t, resp, err)
		assert.Equal(t, 408, got)
		assert.Equal(t, 1, server.hits())
	})
	t.Run("unasked for, on an idle connection", func(t *testing.T) {
		address := conversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"+
			"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		client := outcomeTransport(t, soon)
		for range 3 {
			resp, err := client.Get(address)
			got, body := read(t, resp, err)
			assert.Equal(t, 200, got)
			assert.Equal(t, "ok", body)
		}
	})
}

// A 421 is answered by sending the request over another connection, once.
func TestHTTP_008_Misdirected(t *testing.T) {
	for name, start := range map[string]func(*stand){
		"HTTP/1": func(s *stand) { s.StartTLS() },
		"HTTP/2": func(s *stand) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			server := unstarted(t, status(200), status(421), status(200))
			start(server)
			client := outcomeClient(t, server.Client(), soon, retry.IdempotentOnly())
			resp, err := client.Get(t.Context(), server.URL)
			read(t, resp, err)
			resp, err = client.Post(t.Context(), server.URL, "", strings.NewReader("x"))
			read(t, resp, err)
			seen := server.requests()
			require.Len(t, seen, 3)
			assert.Equal(t, seen[0].remote, seen[1].remote)
			assert.NotEqual(t, seen[1].remote, seen[2].remote)
			assert.Equal(t, "x", seen[2].body)

			twice := unstarted(t, status(421))
			start(twice)
			_, err = outcomeClient(t, twice.Client(), soon).Get(t.Context(), twice.URL)
			_, bare := err.(*retry.StatusError)
			assert.True(t, bare, "%v", err)
			assert.Equal(t, 2, twice.hits())
		})
	}
}

// 409, 413 and 423 are no passing faults, unless a 413 says when to come back
// (RFC 9110, section 15.5.14): they are retried for those who list them, where the
// method allows.
func TestHTTP_009_128_Conflicts(t *testing.T) {
	for _, code := range []int{409, 413, 423} {
		hint := []string{"Retry-After-Ms", "1"}
		if code == 413 {
			hint = nil
		}
		server := newStand(t, status(code, hint...), status(200))
		_, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
		assert.Error(t, err)
		assert.Equal(t, 1, server.hits())

		listed := soon
		listed.RetryStatusCodes = []int{code}
		server = newStand(t, status(code, "Retry-After-Ms", "1"), status(200))
		resp, err := outcomeClient(t, nil, listed).Post(t.Context(), server.URL, "", strings.NewReader("x"))
		read(t, resp, err)
		seen := server.requests()
		require.Len(t, seen, 2)
		assert.Equal(t, seen[0].header["Idempotency-Key"], seen[1].header["Idempotency-Key"])

		server = newStand(t, status(code), status(200))
		resp, err = outcomeTransport(t, listed).Post(server.URL, "", strings.NewReader("x"))
		read(t, resp, err)
		assert.Equal(t, 1, server.hits(), "no key, no second POST")
	}

	// 409 says that the first request with this key still runs, 422 that the key
	// was used for another.
	listed := soon
	listed.RetryStatusCodes = []int{409}
	server := newStand(t, status(409), status(422))
	_, err := outcomeClient(t, nil, listed).Post(t.Context(), server.URL, "", strings.NewReader("x"))
	var found *retry.StatusError
	require.ErrorAs(t, err, &found)
	assert.Equal(t, 422, found.StatusCode)
	assert.Equal(t, 2, server.hits())
}

// A 403 is a rate limit if it says how long to wait.
func TestHTTP_010_ForbiddenForAWhile(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers []string
		delay   time.Duration
	}{
		{"Retry-After", []string{"Retry-After", "30"}, 30 * time.Second},
		{"empty quota", []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "40"}, 40 * time.Second},
		{"quota left", []string{"X-RateLimit-Remaining", "7", "X-RateLimit-Reset", "40"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newStand(t, status(403, test.headers...), status(200))
			waits, err := retrytest.Run(t, soon, func(cfg retry.Config) error {
				resp, err := outcomeTransport(t, cfg).Get(server.URL)
				got, _ := read(t, resp, err)
				assert.Equal(t, test.delay == 0, got == 403)
				return err
			})
			require.NoError(t, err)
			assert.Equal(t, test.delay, waits.Total())
		})
	}
}

func TestHTTP_012_SuccessWithAHint(t *testing.T) {
	for _, code := range []int{200, 202} {
		server := newStand(t, status(code, "Retry-After", "3"))
		resp, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
		got, _ := read(t, resp, err)
		assert.Equal(t, code, got)
		assert.Equal(t, "3", resp.Header.Get("Retry-After"))
		assert.Equal(t, 1, server.hits())
	}
}

// X-Should-Retry and Stripe-Should-Retry are the server's own word on a status of 400
// or above. They were for a CheckResponse to look at. A RetryIf still has the last one.
func TestHTTP_013_ShouldRetry(t *testing.T) {
	const yes, no = "true", "false"
	with := func(change func(*retry.Config)) retry.Config {
		cfg := soon
		change(&cfg)
		return cfg
	}
	never := with(func(c *retry.Config) { c.RetryIf = func(error) bool { return false } })
	always := with(func(c *retry.Config) { c.RetryIf = func(error) bool { return true } })
	for _, test := range []struct {
		name     string
		cfg      retry.Config
		code     int
		field    string
		word     string
		requests int
	}{
		{"final 400", soon, 400, "X-Should-Retry", yes, 2},
		{"final 409", soon, 409, "Stripe-Should-Retry", yes, 2},
		{"final 501", soon, 501, "X-Should-Retry", yes, 2},
		{"plain 403", soon, 403, "X-Should-Retry", yes, 2},
		{"retried 500", soon, 500, "X-Should-Retry", no, 1},
		{"retried 429", soon, 429, "Stripe-Should-Retry", no, 1},
		{"retried 529", soon, 529, "X-Should-Retry", no, 1},
		{"misdirected", soon, 421, "X-Should-Retry", no, 1},
		{"no word", soon, 500, "X-Should-Retry", "perhaps", 2},
		{"not listed", with(func(c *retry.Config) { c.RetryStatusCodes = []int{503} }), 400, "X-Should-Retry", yes, 2},
		{"listed", with(func(c *retry.Config) { c.RetryStatusCodes = []int{400} }), 400, "X-Should-Retry", no, 1},
		{"a status below 400", with(func(c *retry.Config) { c.RetryStatusCodes = []int{202} }), 202, "X-Should-Retry", no, 2},
		{"RetryIf says no", never, 500, "X-Should-Retry", yes, 1},
		{"RetryIf says yes", always, 500, "X-Should-Retry", no, 2},
		{"no retries left", with(func(c *retry.Config) { c.MaxRetries = retry.NoRetries }), 500, "X-Should-Retry", yes, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newStand(t, status(test.code, test.field, test.word), status(200))
			resp, err := outcomeClient(t, nil, test.cfg).Get(t.Context(), server.URL)
			assert.Equal(t, test.requests == 2, err == nil, "%v", err)
			if err == nil {
				read(t, resp, err)
			}
			assert.Equal(t, test.requests, server.hits())

			server = newStand(t, status(test.code, test.field, test.word), status(200))
			_, err = retry.Do(t.Context(), test.cfg, func(ctx context.Context) (int, error) {
				resp, err := http.DefaultClient.Do(newRequest(t, "GET", server.URL, nil).WithContext(ctx))
				if err != nil {
					return 0, err
				}
				defer resp.Body.Close()
				return resp.StatusCode, retry.CheckStatus(resp)
			})
			if test.code >= 400 && test.code != 421 {
				assert.Equal(t, test.requests, server.hits(), "by CheckStatus, %v", err)
			}
		})
	}

	// Within the limits: what may be repeated, the budget, MaxRetries.
	server := newStand(t, status(500, "X-Should-Retry", yes), status(200))
	resp, err := outcomeTransport(t, soon).Post(server.URL, "", strings.NewReader("x"))
	got, _ := read(t, resp, err)
	assert.Equal(t, 500, got)
	assert.Equal(t, 1, server.hits(), "a POST without a key")

	empty := soon
	empty.Budget, err = retry.NewBudget(0, 0)
	require.NoError(t, err)
	_, err = outcomeClient(t, nil, empty).Get(t.Context(), newStand(t, status(400, "X-Should-Retry", yes)).URL)
	assert.ErrorIs(t, err, retry.ErrBudgetExhausted)

	server = newStand(t, status(400, "X-Should-Retry", yes))
	resp, err = outcomeTransport(t, soon).Get(server.URL)
	got, _ = read(t, resp, err)
	assert.Equal(t, 400, got)
	assert.Equal(t, 4, server.hits())

	server = newStand(t, status(400, "X-Should-Retry", yes, "Retry-After", "30"), status(200))
	waits, err := retrytest.Run(t, soon, getting(t, nil, server.URL))
	require.NoError(t, err)
	assert.Equal(t, "30s retry-after", waits.String())
}

// What only a body or a header of one vendor says is a matter of CheckResponse, which
// runs before the status is judged.
func TestHTTP_013_CheckResponse(t *testing.T) {
	check := func(resp *http.Response) error {
		switch resp.Header.Get("X-Acme-Verdict") {
		case "again":
			return retry.RetryAfter(retry.CheckStatus(resp), 0)
		case "final":
			return retry.Permanent(retry.CheckStatus(resp))
		}
		return nil
	}
	server := newStand(t, status(500, "X-Acme-Verdict", "final"))
	_, err := outcomeClient(t, nil, soon, retry.CheckResponse(check)).Get(t.Context(), server.URL)
	var found *retry.StatusError
	require.ErrorAs(t, err, &found)
	assert.Equal(t, "500", string(found.Body))
	assert.Equal(t, 1, server.hits())

	server = newStand(t, status(400, "X-Acme-Verdict", "again"), status(200))
	resp, err := outcomeClient(t, nil, soon, retry.CheckResponse(check)).Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Equal(t, 2, server.hits())

	server = newStand(t, status(400, "X-Acme-Verdict", "again"))
	resp, err = outcomeTransport(t, soon, retry.CheckResponse(check)).Get(server.URL)
	got, body := read(t, resp, err)
	assert.Equal(t, 400, got)
	assert.Equal(t, "400", body, "what the check read is put back")
	assert.Equal(t, 4, server.hits())

	server = newStand(t, status(200))
	_, err = outcomeClient(t, nil, soon, retry.CheckResponse(func(*http.Response) error { return errors.New("quota in the body") })).Get(t.Context(), server.URL)
	assert.ErrorContains(t, err, "quota in the body")
	assert.Equal(t, 4, server.hits())
}
