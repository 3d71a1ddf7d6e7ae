package retry_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// After the first 429 nobody reaches the host before the pause ends, except who is
// on the way already. Then one by one.
func TestHTTP_134_137_SharedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 300 * time.Millisecond
		var mu sync.Mutex
		var first time.Time
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) < pause {
				status(429, "Retry-After-Ms", "300")(w, r)
			}
		})
		client := outcomeClient(t, base, soon)
		var all sync.WaitGroup
		request := func() {
			resp, err := client.Get(t.Context(), server.URL)
			if assert.NoError(t, err) {
				resp.Body.Close()
			}
		}
		all.Go(request)
		synctest.Wait() // the first is answered before the others begin: none of them is in flight
		for range 19 {
			all.Go(request)
		}
		all.Wait()

		seen := server.requests()
		require.Len(t, seen, 21, "one was refused")
		for _, r := range seen[1:] {
			assert.GreaterOrEqual(t, r.at.Sub(first), pause)
		}
		assert.GreaterOrEqual(t, seen[20].at.Sub(seen[1].at), 50*time.Millisecond, "staggered")
	})
}

func TestHTTP_135_OtherHostsAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var throttled atomic.Int32
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}
			if req.URL.Host == "throttled.example" && throttled.Add(1) == 1 {
				resp.StatusCode = 429
				resp.Header.Set("Retry-After", "60")
			}
			return resp, nil
		})
		client := outcomeClient(t, &http.Client{Transport: base}, retry.Config{Jitter: retry.NoJitter})
		get := func(host string) {
			resp, err := client.Get(t.Context(), "http://"+host)
			read(t, resp, err)
		}
		start := time.Now()
		var all sync.WaitGroup
		for range 2 { // a first attempt waits too
			all.Go(func() { get("throttled.example") })
			synctest.Wait()
		}
		get("free.example")
		assert.Zero(t, time.Since(start))
		assert.EqualValues(t, 1, throttled.Load())
		all.Wait()
		assert.EqualValues(t, 3, throttled.Load())
		assert.GreaterOrEqual(t, time.Since(start), time.Minute)
	})
}

func TestHTTP_136_WaiterWithTooLittleTime(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "60"))
	cfg, tr := track(soon)
	cfg.MaxRetries = retry.NoRetries
	client := outcomeClient(t, nil, cfg)
	_, err := client.Get(t.Context(), server.URL)
	assert.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	body := &countedClose{Reader: strings.NewReader("x")}
	_, err = client.Do(newRequest(t, "PUT", server.URL, body).WithContext(ctx))
	assert.ErrorIs(t, err, retry.ErrDeadline)
	assert.NoError(t, ctx.Err())
	var given *retry.Error
	require.ErrorAs(t, err, &given)
	assert.Zero(t, given.Attempts)
	assert.Zero(t, tr.last().Attempt)
	assert.Equal(t, 1, server.hits())
	assert.EqualValues(t, 1, body.closed.Load())
}

func TestHTTP_137_LongestPauseWins(t *testing.T) {
	clock := clockwork.NewFakeClockAt(noon)
	server := newStand(t, status(429, "Retry-After", "10"), status(429, "Retry-After", "2"), status(429, "Retry-After", "20"), status(200))
	gates := map[string]*retry.Gate{}
	cfg := retry.Config{Clock: clock, MaxRetries: retry.NoRetries}
	client := outcomeClient(t, nil, cfg, retry.PerHost(func(host string, cfg *retry.Config) error {
		gates[host] = retry.NewGate(clock)
		cfg.Gate = gates[host]
		return nil
	}))
	gate := func() *retry.Gate { return gates[server.URL] }
	// The second and third are in flight while the pause is on.
	for i, want := range []time.Duration{10 * time.Second, 10 * time.Second, 20 * time.Second} {
		open := client
		if i > 0 { // past the gate
			cfg := cfg
			cfg.Gate = nil
			open = outcomeClient(t, nil, cfg, retry.CheckResponse(func(resp *http.Response) error {
				d, _ := retry.ParseRetryAfter(resp.Header, clock.Now())
				gate().Pause(d)
				return nil
			}), retry.NoSharedPause())
		}
		_, err := open.Get(t.Context(), server.URL)
		require.Error(t, err)
		until, paused := gate().PausedUntil()
		assert.True(t, paused)
		assert.Equal(t, noon.Add(want), until.UTC())
	}
	assert.Len(t, gates, 1)
}

// Without the shared pause each waits for itself.
func TestHTTP_NoSharedPause(t *testing.T) {
	clock := clockwork.NewFakeClockAt(noon)
	server := newStand(t, status(429, "Retry-After", "60"), status(200))
	client := outcomeClient(t, nil, retry.Config{Clock: clock, MaxRetries: retry.NoRetries}, retry.NoSharedPause())
	_, err := client.Get(t.Context(), server.URL)
	assert.Error(t, err)
	resp, err := client.Get(t.Context(), server.URL)
	read(t, resp, err)
}

// In a total outage the budget keeps the load near that of the calls alone.
func TestHTTP_138_Budget(t *testing.T) {
	server := newStand(t, status(503))
	budget, err := retry.NewBudget(0.1, 10)
	require.NoError(t, err)
	cfg := soon
	cfg.Budget = budget
	client := outcomeClient(t, nil, cfg)
	exhausted := 0
	for range 200 {
		_, err := client.Get(t.Context(), server.URL)
		var given *retry.Error
		require.ErrorAs(t, err, &given)
		if given.Reason == retry.ErrBudgetExhausted {
			exhausted++
		}
	}
	assert.LessOrEqual(t, server.hits(), 231)
	assert.Greater(t, exhausted, 150)
}

// A Gate in the client's Config couples all its hosts, as its field says: one that
// asks for a rest gives it to all.
func TestHTTP_OneGateCouplesHosts(t *testing.T) {
	busy, free := newStand(t, status(429, "Retry-After", "60")), newStand(t, status(200))
	for _, coupled := range []bool{true, false} {
		cfg := soon
		cfg.MaxRetries = retry.NoRetries
		if coupled {
			cfg.Gate = retry.NewGate(nil)
		}
		client := outcomeClient(t, nil, cfg)
		_, err := client.Get(t.Context(), busy.URL)
		require.Error(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := client.Get(ctx, free.URL)
		if !coupled {
			read(t, resp, err)
			continue
		}
		var pause *retry.PauseError
		require.ErrorAs(t, err, &pause)
		assert.ErrorContains(t, pause.Err, busy.URL)
	}
	assert.Equal(t, 1, free.hits())
}

// Who cannot wait for a pause is told how long it lasts, and what the limit is.
func TestHTTP_PauseThatIsTooLong(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "1800"))
	log, logger := newLog()
	cfg := soon
	cfg.Logger, cfg.MaxRetryAfter = logger, 10*time.Minute
	client := outcomeClient(t, nil, cfg)
	for _, want := range []string{"a wait of 30m0s, and MaxRetryAfter is 10m0s", "MaxRetryAfter of 10m0s (" + server.URL + " paused for another 30m0s"} {
		_, err := client.Get(t.Context(), server.URL)
		gaveUp(t, err, retry.ErrRetryAfterTooLong)
		assert.ErrorContains(t, err, want)
		assert.Contains(t, log.String(), want)
	}
	assert.Equal(t, 1, server.hits())
}

// A failure is told once. It stood twice in the same line where a call's own failure
// opened the breaker, or was the same as the one that set a pause.
func TestHTTP_FailureToldOnce(t *testing.T) {
	server := newStand(t, status(503))
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "genes", FailureThreshold: 1})
	require.NoError(t, err)
	cfg := soon
	cfg.Name, cfg.Breaker = "", breaker
	_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
	e := gaveUp(t, err, retry.ErrCircuitOpen)
	assert.Equal(t, 1, strings.Count(err.Error(), "503 Service Unavailable"), err)
	assert.NotContains(t, err.Error(), "last failure")
	var open *retry.OpenError
	require.ErrorAs(t, e, &open)
	assert.ErrorContains(t, open, "last failure: GET "+server.URL, "who looks at it alone is told")

	_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL) // another's failure is told
	gaveUp(t, err, retry.ErrCircuitOpen)
	assert.ErrorContains(t, err, "last failure: GET "+server.URL+": 503 Service Unavailable")
}
