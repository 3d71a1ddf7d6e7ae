package retry_test

import (
	"context"
	"net/http"
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

// The headers themselves are tested in internal/retryafter; here it is what a client
// makes of them.

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestHTTP_071_077_088_089_090_Hints(t *testing.T) {
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
func TestHTTP_077_078_TooLongAWait(t *testing.T) {
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

func TestHTTP_079_WaitBeyondTheDeadline(t *testing.T) {
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

func TestHTTP_080_JitterOnlyLengthens(t *testing.T) {
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

func TestHTTP_081_TheLongerOfTheTwo(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "1"))
	cfg := retry.Config{MaxRetries: 4, InitialDelay: 600 * time.Millisecond, Jitter: retry.NoJitter}
	waits, err := retrytest.Run(t, cfg, getting(t, nil, server.URL))
	assert.Error(t, err)
	assert.Equal(t, "1s retry-after, 1.2s backoff, 2.4s backoff, 4.8s backoff", waits.String())
}

func TestHTTP_082_EveryRetriedStatus(t *testing.T) {
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
func TestHTTP_083_RedirectWithAWait(t *testing.T) {
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
func TestHTTP_087_117_NoWaitInVain(t *testing.T) {
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
func TestHTTP_091_NoHint(t *testing.T) {
	server := newStand(t, status(429), status(429), status(429), status(200))
	waits, err := retrytest.Run(t, retry.Config{}, getting(t, nil, server.URL))
	require.NoError(t, err)
	require.Len(t, waits, 3)
	assert.GreaterOrEqual(t, waits[0].Delay, 800*time.Millisecond)
}

// A success with an empty quota is a success, and no pause; but the next call is
// certain to be refused before the quota is restored, and waits for that.
func TestHTTP_092_SuccessWithAnEmptyQuota(t *testing.T) {
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
