package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// A 403 or 413 that says "now" was taken for one that says nothing, because the
// hint was its length: 0.
func TestStatusThatSaysNow(t *testing.T) {
	past := fmt.Sprint(time.Now().Add(-time.Minute).Unix())
	for _, test := range []struct {
		name    string
		code    int
		headers []string
		hits    int
	}{
		{"403, Retry-After: 0", 403, []string{"Retry-After", "0"}, 2},
		{"403, a date just past", 403, []string{"Retry-After", time.Now().Add(-time.Second).UTC().Format(http.TimeFormat)}, 2},
		{"403, reset just past", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", past}, 2},
		{"403, Reset-After: 0", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset-After", "0"}, 2},
		{"403, old enough in a cache", 403, []string{"Retry-After", "30", "Age", "30"}, 2},
		{"403, no hint", 403, nil, 1},
		{"403, quota left", 403, []string{"X-RateLimit-Remaining", "4", "X-RateLimit-Reset-After", "3600"}, 1},
		{"403, quota left, both resets", 403, []string{"X-RateLimit-Remaining", "4", "X-RateLimit-Reset-After", "3600", "X-RateLimit-Reset", "3600"}, 1},
		{"403, quota left in the bucket", 403, []string{"X-RateLimit-Remaining-Tokens", "4", "X-RateLimit-Reset-After-Tokens", "3600", "X-RateLimit-Reset-Tokens", "9"}, 1},
		{"413, Retry-After: 0", 413, []string{"Retry-After", "0"}, 2},
		{"413, Retry-After-Ms", 413, []string{"Retry-After-Ms", "1"}, 2},
		{"413, no hint", 413, nil, 1},
		{"413, garbage", 413, []string{"Retry-After", "later"}, 1},
		{"404, Retry-After: 0", 404, []string{"Retry-After", "0"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newStand(t, status(test.code, test.headers...), status(200))
			_, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
			assert.Equal(t, test.hits == 1, err != nil, "%v", err)
			assert.Equal(t, test.hits, server.hits())

			recorder := httptest.NewRecorder()
			status(test.code, test.headers...)(recorder, nil)
			assert.Equal(t, test.hits == 2, retry.Retryable(retry.CheckStatus(recorder.Result())))
		})
	}
}

// A plain 403 whose headers name a limit with something left was taken for one of
// that limit: six requests in 82 s, and the host paused. A 500 with such headers
// waited for the reset.
func TestStatusBesideALimitThatIsNotExhausted(t *testing.T) {
	soonest := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	for name, headers := range map[string][]string{
		"GitLab":      {"RateLimit-Limit", "2000", "RateLimit-Remaining", "1980", "RateLimit-Reset", soonest, "RateLimit-ResetTime", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)},
		"Data Center": {"X-RateLimit-Limit", "100", "X-RateLimit-Remaining", "99", "Retry-After", "0"},
		"unknown":     {"X-Rate-Limit-Limit", "100", "X-Rate-Limit-Reset", soonest},
		"IETF":        {"RateLimit", `"default";r=12;t=3600`},
		"buckets":     {"Anthropic-Ratelimit-Tokens-Remaining", "7", "Anthropic-Ratelimit-Tokens-Reset", "2099-01-01T00:00:00Z"},
		"windows":     {"X-RateLimit-Remaining", "1, 14999", "X-RateLimit-Reset", "1, 1419704"},
	} {
		for _, code := range []int{403, 500, 413} {
			t.Run(fmt.Sprint(code, " ", name), func(t *testing.T) {
				server := newStand(t, status(code, headers...), status(200))
				cfg, tr := track(soon)
				cfg.Gate = retry.NewGate(nil)
				resp, err := outcomeTransport(t, cfg).Get(server.URL)
				read(t, resp, err)
				_, paused := cfg.Gate.PausedUntil()
				assert.False(t, paused)
				if code == 500 {
					assert.Equal(t, []time.Duration{time.Millisecond}, tr.delays, "the backoff alone")
				} else {
					assert.Equal(t, 1, server.hits())
				}
			})
		}
	}
}

// A 403 or 413 that says when to come back follows 429. It did so with a nil list only,
// so that appending to the defaults lost it, and a 421 its second connection.
func TestRetryStatusCodesThatAreAppendedTo(t *testing.T) {
	for _, test := range []struct {
		codes []int
		hits  int
	}{
		{nil, 2},
		{append(retry.DefaultRetryStatusCodes(), 404), 2},
		{[]int{429}, 2},
		{[]int{503}, 1},
	} {
		cfg := soon
		cfg.RetryStatusCodes = test.codes
		for _, code := range []int{403, 413} {
			server := newStand(t, status(code, "Retry-After-Ms", "1"), status(200))
			resp, err := outcomeTransport(t, cfg).Get(server.URL)
			read(t, resp, err)
			assert.Equal(t, test.hits, server.hits(), "%d with %v", code, test.codes)
		}
		server := newStand(t, status(421), status(200))
		resp, err := outcomeTransport(t, cfg).Get(server.URL)
		got, _ := read(t, resp, err)
		assert.Equal(t, 200, got, "421 with %v", test.codes)
	}
}

// ParseRetryAfter has no status to go by, so that a reset alone counts; a StatusError
// has one.
func TestParseRetryAfter(t *testing.T) {
	h := http.Header{"X-Ratelimit-Reset": {"40"}}
	d, ok := retry.ParseRetryAfter(h, noon)
	assert.True(t, ok)
	assert.Equal(t, 40*time.Second, d)
	for code, want := range map[int]time.Duration{429: 40 * time.Second, 403: 0, 500: 0, 503: 0} {
		var found *retry.StatusError
		require.ErrorAs(t, retry.CheckStatus(&http.Response{StatusCode: code, Header: h}), &found)
		assert.Equal(t, want, found.RetryAfter, "%d", code)
	}
	d, ok = retry.ParseRetryAfter(nil, noon)
	assert.False(t, ok)
	assert.Zero(t, d)
}

// A bubble of testing/synctest begins in the year 2000, where a reset 40 s ahead was
// read as 262,968 hours.
func TestResetInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reset := fmt.Sprint(time.Now().Add(40 * time.Second).Unix())
		server, base := newPiped(t, status(429, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", reset), status(200))
		begin := time.Now()
		resp, err := outcomeClient(t, base, soon).Get(t.Context(), server.URL)
		read(t, resp, err)
		assert.InDelta(t, 41, time.Since(begin).Seconds(), 0.01)
	})
}

// A status below 400 in RetryStatusCodes was valid, and did nothing.
func TestListedStatusBelow400(t *testing.T) {
	for _, code := range []int{200, 202, 204, 206, 300, 304} {
		cfg := soon
		cfg.RetryStatusCodes = []int{code}
		server := newStand(t, status(code), status(code), status(203))
		resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
		got, _ := read(t, resp, err)
		assert.Equal(t, 203, got)
		assert.Equal(t, 3, server.hits())

		server = newStand(t, status(code))
		_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
		var found *retry.StatusError
		require.ErrorAs(t, err, &found)
		assert.Equal(t, code, found.StatusCode)
		resp, err = outcomeTransport(t, cfg).Get(server.URL)
		got, _ = read(t, resp, err)
		assert.Equal(t, code, got, "a Transport returns the last response")
		assert.Equal(t, 8, server.hits())
	}
	cfg := soon
	cfg.RetryStatusCodes = []int{302}
	server := newStand(t, status(302, "Location", "/there"), status(200))
	resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
	got, _ := read(t, resp, err)
	assert.Equal(t, 200, got)
	assert.Equal(t, "/there", server.requests()[1].path, "a redirect is followed")
}

// A StatusError shared its header with the response: one goroutine's edit was
// another's "concurrent map read and map write".
func TestStatusErrorsHeaderIsItsOwn(t *testing.T) {
	resp := &http.Response{StatusCode: 503, Header: http.Header{"A": {"b"}}, Body: io.NopCloser(strings.NewReader("busy"))}
	var found *retry.StatusError
	require.ErrorAs(t, retry.CheckStatus(resp), &found)
	resp.Header.Set("A", "c")
	resp.Header["B"] = nil
	assert.Equal(t, http.Header{"A": {"b"}}, found.Header)
	assert.Equal(t, "busy", string(found.Body))

	// The response of a Transport is its caller's, and the error that OnDone got is not.
	cfg := retry.Config{MaxRetries: retry.NoRetries, OnDone: func(_ context.Context, e retry.Event) { errors.As(e.Err, &found) }}
	base := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503, Header: http.Header{"A": {"b"}}, Body: http.NoBody}, nil
	})
	transport, err := retry.NewTransport(base, cfg)
	require.NoError(t, err)
	req, err := http.NewRequest("GET", "http://gene.example/", nil)
	require.NoError(t, err)
	resp, err = transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Header.Set("A", "c")
	assert.Equal(t, http.Header{"A": {"b"}}, found.Header)
}

// %+v adds the beginning of the body, which often says what is wrong; %v, which
// gets into logs, does not.
// The caller of CheckStatus can read the whole body as if it had not been read, also
// where it is longer than what the error has of it, and has to close it.
func TestCheckStatus(t *testing.T) {
	for _, length := range []int{0, 100, 100 << 10} {
		text := strings.Repeat("x", length)
		body := &closeCounter{Reader: strings.NewReader(text)}
		resp := &http.Response{StatusCode: 503, Body: body}
		var status *retry.StatusError
		require.ErrorAs(t, retry.CheckStatus(resp), &status)
		assert.Equal(t, text[:min(length, 64<<10)], string(status.Body))
		assert.Zero(t, body.closed)
		all, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, text, string(all))
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, 1, body.closed)
	}
	assert.NoError(t, retry.CheckStatus(&http.Response{StatusCode: 399}))
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

func TestStatusErrorFormat(t *testing.T) {
	const text = "GET https://h.example/: 503 Service Unavailable"
	err := func(body string) *retry.StatusError {
		return &retry.StatusError{StatusCode: 503, Method: "GET", URL: "https://h.example/?", Header: http.Header{"X": {"SECRET"}}, Body: []byte(body)}
	}
	e := err("quota\r\n\texceeded\x1b[31m  for é\xff")
	e.URL = "https://h.example/"
	for format, want := range map[string]string{
		"%v": text, "%s": text, "%q": fmt.Sprintf("%q", text), "%x": fmt.Sprintf("%x", text), "%60s|": fmt.Sprintf("%60s|", text), "%-60v|": fmt.Sprintf("%-60v|", text),
		"%.3s": "GET", "%d": "%!d(string=" + text + ")", "%+s": text, "%+q": fmt.Sprintf("%+q", text),
		"%+v": text + ": quota exceeded [31m for é",
	} {
		assert.Equal(t, want, fmt.Sprintf(format, e), "%s", format)
	}
	assert.NotContains(t, fmt.Sprintf("%#v", e), "SECRET")
	assert.Contains(t, fmt.Sprintf("%#v", e), "StatusCode:503")
	assert.Equal(t, text, fmt.Sprintf("%+v", &retry.StatusError{StatusCode: 503, Method: "GET", URL: "https://h.example/", Body: []byte(" \n")}))
	assert.Equal(t, "<nil> <nil>", fmt.Sprintf("%v %+v", (*retry.StatusError)(nil), (*retry.StatusError)(nil)))
	assert.Equal(t, "599", (&retry.StatusError{StatusCode: 599}).Error())
	assert.NotContains(t, (&retry.StatusError{StatusCode: 503, URL: "https://u:SECRET@h.example/?k=SECRET"}).Error(), "SECRET")

	for _, test := range []struct{ body, want string }{
		{strings.Repeat("x", 200) + "y", strings.Repeat("x", 200)},
		{strings.Repeat("x", 199) + "é", strings.Repeat("x", 199)},
		{strings.Repeat("x", 198) + "é", strings.Repeat("x", 198) + "é"},
		{strings.Repeat("x", 197) + "😀", strings.Repeat("x", 197)},
	} {
		e.Body = []byte(test.body)
		assert.Equal(t, text+": "+test.want, fmt.Sprintf("%+v", e))
	}
	wrapped := fmt.Errorf("wrapped: %w", e)
	assert.Equal(t, "wrapped: "+text, fmt.Sprintf("%+v", wrapped))
	assert.True(t, errors.Is(wrapped, e))
}

// doubling waits 1ms, 2ms, 4ms.
var doubling = retry.Config{InitialDelay: time.Millisecond, MaxRetries: 3, Jitter: retry.NoJitter}

func TestRetriedStatuses(t *testing.T) {
	for _, code := range []int{500, 502, 503, 504} {
		bubble(t, strconv.Itoa(code), func(t *testing.T) {
			server, base := newPiped(t, status(code), status(code), status(200))
			cfg, tr := track(doubling)
			resp, err := outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
			got, _ := read(t, resp, err)
			assert.Equal(t, 200, got)
			assert.Equal(t, 3, server.hits())
			assert.Equal(t, []time.Duration{time.Millisecond, 2 * time.Millisecond}, tr.delays)
			assert.Equal(t, 1, server.connections(), "both bodies were drained")
		})
	}
}

// Statuses of which no repetition would make another: whatever the client, there
// is one request.
func TestStatusesLeftAlone(t *testing.T) {
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
func TestVendorCodes(t *testing.T) {
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

func TestRequestTimeout(t *testing.T) {
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
func TestMisdirected(t *testing.T) {
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
// (RFC 9110, section 15.5.14): they are retried where they are listed, where the
// method allows.
func TestConflicts(t *testing.T) {
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
func TestForbiddenForAWhile(t *testing.T) {
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

func TestSuccessWithAHint(t *testing.T) {
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
func TestShouldRetry(t *testing.T) {
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
func TestCheckResponse(t *testing.T) {
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

// The headers themselves are tested in internal/retryafter; here it is what a client
// makes of them.

func TestRetryAfterHints(t *testing.T) {
	in := func(d time.Duration, layout string) string { return noon.Add(d).UTC().Format(layout) }
	const own = time.Millisecond
	date := in(0, http.TimeFormat)
	for _, test := range []struct {
		name    string
		headers []string
		want    time.Duration
	}{
		{"071 seconds", []string{"Retry-After", "1"}, time.Second},
		{"072 decimals", []string{"Retry-After", "2.5"}, 2500 * time.Millisecond},
		{"073 date", []string{"Retry-After", in(90*time.Second, http.TimeFormat)}, 90 * time.Second},
		{"073 zone unknown", []string{"Retry-After", "Mon, 23 Nov 2026 12:01:30 PST"}, own},
		{"074 RFC 850", []string{"Retry-After", in(90*time.Second, "Monday, 02-Jan-06 15:04:05 GMT")}, 90 * time.Second},
		{"074 asctime", []string{"Retry-After", in(90*time.Second, time.ANSIC)}, 90 * time.Second},
		{"075 skewed", []string{"Retry-After", in(time.Hour+time.Minute, http.TimeFormat), "Date", in(time.Hour, http.TimeFormat)}, time.Minute},
		{"076 past", []string{"Retry-After", in(-time.Hour, http.TimeFormat)}, own},
		{"076 zero", []string{"Retry-After", "0"}, own},
		{"076 negative", []string{"Retry-After", "-5"}, own},
		{"076 garbage", []string{"Retry-After", "abc"}, own},
		{"076 duration", []string{"Retry-After", "1m0s"}, time.Minute},
		{"076 NaN", []string{"Retry-After", "NaN"}, own},
		{"085 blank and value", []string{"Retry-After", "", "Retry-After", "5"}, 5 * time.Second},
		{"085 two", []string{"Retry-After", "5", "Retry-After", "7"}, 7 * time.Second},
		{"086 milliseconds", []string{"Retry-After-Ms", "1500", "Retry-After", "2"}, 1500 * time.Millisecond},
		{"088 reset", []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1795435260"}, 61 * time.Second},
		{"088 quota left", []string{"X-RateLimit-Remaining", "1", "X-RateLimit-Reset", "1795435260"}, own},
		{"089 delta", []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "40"}, 40 * time.Second},
		{"089 units", []string{"X-RateLimit-Reset-Tokens", "6m0s", "X-RateLimit-Remaining-Tokens", "0"}, 6 * time.Minute},
		{"090 IETF", []string{"RateLimit", `"a";r=0;t=50, "b";r=9;t=900`}, 50 * time.Second},
		{"090 IETF and Retry-After", []string{"RateLimit", `"a";r=0;t=50`, "Retry-After", "3"}, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			headers := test.headers
			if !strings.Contains(strings.Join(headers, " "), "Date") {
				headers = append(headers, "Date", date)
			}
			server := newStand(t, status(429, headers...), status(200))
			cfg := soon
			cfg.Clock = &retrytest.Clock{FakeClock: clockwork.NewFakeClockAt(noon)}
			cfg.MaxRetryAfter = 10 * time.Minute
			waits, err := retrytest.Run(t, cfg, func(cfg retry.Config) error {
				resp, err := outcomeTransport(t, cfg).Get(server.URL)
				got, _ := read(t, resp, err)
				assert.Equal(t, 200, got)
				return err
			})
			require.NoError(t, err)
			assert.Equal(t, test.want, waits.Total())
		})
	}
}

// Too long a wait ends the call at once, however long; there is neither a clamp
// nor an overflow.
func TestTooLongAWait(t *testing.T) {
	for _, value := range []string{"3600", "99999999999", "9223372037", "1234567890123456789012345"} {
		t.Run(value, func(t *testing.T) {
			server := newStand(t, status(429, "Retry-After", value), status(200))
			cfg, tr := track(soon)
			cfg.MaxRetryAfter = time.Minute
			resp, err := outcomeTransport(t, cfg, retry.NoSharedPause()).Get(server.URL)
			got, body := read(t, resp, err)
			assert.Equal(t, 429, got)
			assert.Equal(t, "429", body)
			assert.Equal(t, value, resp.Header.Get("Retry-After"))
			assert.ErrorIs(t, tr.last().Err, retry.ErrRetryAfterTooLong)

			server = newStand(t, status(429, "Retry-After", value))
			_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
			var found *retry.StatusError
			require.ErrorAs(t, err, &found)
			assert.GreaterOrEqual(t, found.RetryAfter, time.Hour)
			assert.Equal(t, 1, server.hits())
		})
	}
}

func TestWaitBeyondTheDeadline(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{"hint": status(429, "Retry-After", "60"), "backoff": status(503)} {
		bubble(t, name, func(t *testing.T) {
			server, base := newPiped(t, answer)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			cfg := retry.Config{InitialDelay: 8 * time.Second}
			_, err := outcomeClient(t, base, cfg).Get(ctx, server.URL)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorIs(t, err, retry.ErrDeadline)
			var found *retry.StatusError
			assert.ErrorAs(t, err, &found)
			assert.Equal(t, 1, server.hits())

			transport, err := retry.NewTransport(base.Transport, cfg)
			require.NoError(t, err)
			resp, err := transport.RoundTrip(newRequest(t, "GET", server.URL, nil).WithContext(ctx))
			got, _ := read(t, resp, err)
			assert.GreaterOrEqual(t, got, 429)
			assert.NoError(t, ctx.Err(), "at once")
			assert.Equal(t, 2, server.hits())
		})
	}
}

func TestJitterOnlyLengthens(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "10"))
	seen := map[time.Duration]bool{}
	cfg := retry.Config{MaxRetries: 30, InitialDelay: time.Millisecond, MaxDelay: time.Millisecond}
	waits, err := retrytest.Run(t, cfg, getting(t, nil, server.URL))
	assert.Error(t, err)
	for _, wait := range waits {
		seen[wait.Delay] = true
		assert.GreaterOrEqual(t, wait.Delay, 10*time.Second)
		assert.LessOrEqual(t, wait.Delay, 13*time.Second)
	}
	assert.Greater(t, len(seen), 20, "spread")
}

func TestWaitIsTheLongerOfBackoffAndRetryAfter(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "1"))
	cfg := retry.Config{MaxRetries: 4, InitialDelay: 600 * time.Millisecond, Jitter: retry.NoJitter}
	waits, err := retrytest.Run(t, cfg, getting(t, nil, server.URL))
	assert.Error(t, err)
	assert.Equal(t, "1s retry-after, 1.2s backoff, 2.4s backoff, 4.8s backoff", waits.String())
}

func TestRetryAfterOfEveryRetriedStatus(t *testing.T) {
	for _, code := range []int{503, 500, 502, 504, 408, 425, 429, 403, 413, 409} {
		server := newStand(t, status(code, "Retry-After", "30"), status(200))
		cfg := soon
		if code == 413 || code == 409 { // retried where they are listed
			cfg.RetryStatusCodes = []int{413, 409}
		}
		waits, err := retrytest.Run(t, cfg, getting(t, nil, server.URL))
		require.NoError(t, err)
		assert.Equal(t, "30s retry-after", waits.String(), "%d", code)
	}
}

// A redirect may ask for a wait as well; the same limits hold for it.
func TestRedirectWithAWait(t *testing.T) {
	for _, code := range []int{301, 302, 307, 308} {
		synctest.Test(t, func(t *testing.T) {
			server, base := newPiped(t, status(code, "Location", "/there", "Retry-After", "2"), status(200))
			start := time.Now()
			resp, err := outcomeClient(t, base, retry.Config{}).Get(t.Context(), server.URL)
			read(t, resp, err)
			seen := server.requests()
			require.Len(t, seen, 2)
			assert.Equal(t, 2*time.Second, seen[1].at.Sub(start))
		})
	}
	server := newStand(t, status(302, "Location", "/there", "Retry-After", "3600"))
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
	assert.ErrorIs(t, err, retry.ErrRetryAfterTooLong)
	assert.Equal(t, 1, server.hits())

	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, status(302, "Location", "/there", "Retry-After", "60"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := outcomeClient(t, base, soon).Get(ctx, server.URL)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NoError(t, ctx.Err(), "at once")
	})
}

// There is no wait behind the last attempt, and a cancel leaves no timer.
func TestNoWaitThatCannotPay(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "30"))
	clock := clockwork.NewFakeClockAt(noon)
	cfg := soon
	cfg.Clock, cfg.MaxRetries = clock, retry.NoRetries
	_, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL) // would hang if it waited
	assert.ErrorIs(t, err, retry.ErrMaxRetries)

	for name, legacy := range map[string]bool{"context": false, "Cancel channel": true} {
		bubble(t, name, func(t *testing.T) {
			server, base := newPiped(t, status(503))
			clock := clockwork.NewFakeClockAt(noon)
			client := outcomeClient(t, base, retry.Config{Clock: clock})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req := newRequest(t, "GET", server.URL, nil)
			if legacy {
				ch := make(chan struct{})
				//lint:ignore SA1019 callers may still use it
				req.Cancel = ch
				cancel = func() { close(ch) }
			} else {
				req = req.WithContext(ctx)
			}
			failed := make(chan error)
			go func() {
				_, err := client.Do(req)
				failed <- err
			}()
			synctest.Wait()
			assert.True(t, hasWaiters(clock), "it waits")
			cancel()
			err := <-failed
			assert.ErrorIs(t, err, context.Canceled)
			var found *retry.StatusError
			assert.ErrorAs(t, err, &found, "the last failure is still there")
			assert.Equal(t, 1, server.hits())
			assert.False(t, hasWaiters(clock), "a timer is left")
		})
	}
}

// A service that throttles without a word of how long (NCBI): with the default
// backoff of a second all get their turn.
func TestStatusWithoutAHint(t *testing.T) {
	server := newStand(t, status(429), status(429), status(429), status(200))
	waits, err := retrytest.Run(t, retry.Config{}, getting(t, nil, server.URL))
	require.NoError(t, err)
	require.Len(t, waits, 3)
	assert.GreaterOrEqual(t, waits[0].Delay, 800*time.Millisecond)
}

// A success with an empty quota is a success, and no pause; but the next call is
// certain to be refused before the quota is restored, and waits for that.
func TestSuccessWithAnEmptyQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, status(200, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "0.1"))
		gate := retry.NewGate(nil)
		cfg := soon
		cfg.Gate = gate
		client := outcomeClient(t, base, cfg)
		for range 2 {
			resp, err := client.Get(t.Context(), server.URL)
			read(t, resp, err)
		}
		_, paused := gate.PausedUntil()
		assert.False(t, paused)
	})
}

// A 403 says nothing of other calls unless it names a wait: it is no refusal for now.
func TestForbiddenPausesNothing(t *testing.T) {
	for wait, want := range map[string]bool{"": false, "60": true} {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(403, "", "Retry-After", wait)}}
		gate := retry.NewGate(nil)
		cfg := retry.Config{Gate: gate, MaxRetries: 1, MaxElapsed: time.Minute, RetryStatusCodes: []int{403, 429}}
		cfg.OnRetry = func(context.Context, retry.Event) {
			_, paused := gate.PausedUntil()
			assert.False(t, paused)
		}
		cfg.Backoff = retry.ConstantBackoff(time.Millisecond)
		_, err := outcomeClient(t, &http.Client{Transport: base}, cfg).Get(t.Context(), "http://gene.example/")
		assert.Error(t, err)
		_, paused := gate.PausedUntil()
		assert.Equal(t, want, paused)
	}
}

// The wait that a redirect asks for begins with its answer: what the caller's CheckRedirect
// takes is part of it. One of exactly MaxRetryAfter is waited for, and one that is over then
// is none.
func TestWaitOfARedirectBeginsWithIt(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{4 * time.Second: 10 * time.Second, 12 * time.Second: 12 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			server, base := newPiped(t, status(302, "Location", "/there", "Retry-After", "10"), status(200))
			base.CheckRedirect = func(*http.Request, []*http.Request) error { time.Sleep(took); return nil }
			start := time.Now()
			resp, err := outcomeClient(t, base, retry.Config{MaxRetryAfter: 10 * time.Second}).Get(t.Context(), server.URL)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, want, time.Since(start))
		})
	}
}

// Beside a RetryIf, which decides alone, the list says which statuses below 400 are
// errors, and no more.
func TestRetryStatusCodesBesideRetryIf(t *testing.T) {
	for retryIf, hits := range map[bool]int{true: 2, false: 1} {
		for _, code := range []int{202, 404, 503} {
			cfg := soon
			cfg.RetryStatusCodes, cfg.RetryIf = []int{202, 404}, func(error) bool { return retryIf }
			server := newStand(t, status(code), status(200))
			resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
			if retryIf {
				read(t, resp, err)
			} else {
				assert.Error(t, err, code)
			}
			assert.Equal(t, hits, server.hits(), code)
		}
	}
	cfg := soon // the default inside knows no list
	cfg.RetryStatusCodes, cfg.RetryIf = []int{404}, retry.Retryable
	server := newStand(t, status(404), status(200))
	_, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
	assert.Error(t, err)
	assert.Equal(t, 1, server.hits())
}

// A connection that was handed over is no answer to send a request again for, whatever list
// its status is in.
func TestListedSwitchingProtocols(t *testing.T) {
	hits := 0
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		hits++
		return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: http.NoBody, Request: req}, nil
	})
	cfg := soon
	cfg.RetryStatusCodes = []int{http.StatusSwitchingProtocols}
	resp, err := outcomeClient(t, &http.Client{Transport: base}, cfg).Get(t.Context(), "http://feed.example/")
	require.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	assert.Equal(t, 1, hits)
}
