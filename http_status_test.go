package retry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
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
}

// %+v adds the beginning of the body, which often says what is wrong; %v, which
// gets into logs, does not.
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
