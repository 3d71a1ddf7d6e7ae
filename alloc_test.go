package retry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A call that succeeds at once, and a breaker in its way, allocate nothing.
func TestSuccessAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	budget, err := retry.NewBudget(0.1, 2)
	require.NoError(t, err)
	counting, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	rating, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureRate: 0.5})
	require.NoError(t, err)
	open, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	open.Trip(time.Hour)
	filled := retry.Config{
		Name: "x", MaxRetries: 3, InitialDelay: time.Millisecond, MaxDelay: time.Second,
		Jitter: retry.FullJitter, RetryIf: retry.Retryable, Budget: budget,
	}
	bounded := filled // judged field by field, before it runs
	bounded.MaxElapsed, bounded.MaxRetryAfter, bounded.Multiplier = time.Hour, time.Hour, 1.5
	value := func(context.Context) (int, error) { return 1, nil }
	none := func(context.Context) error { return nil }

	for name, call := range map[string]func(){
		"Do, zero Config":   func() { retry.Do(ctx, retry.Config{}, value) },
		"Do, filled Config": func() { retry.Do(ctx, filled, value) },
		"Do, MaxElapsed":    func() { retry.Do(ctx, bounded, value) },
		"Do with a breaker": func() { retry.Do(ctx, retry.Config{Breaker: counting}, value) },
		"Run":               func() { retry.Run(ctx, retry.Config{}, none) },
		"breaker by count":  func() { counting.Do(ctx, none) },
		"breaker by rate":   func() { rating.Do(ctx, none) },
		"permit": func() {
			permit, _ := counting.Allow()
			permit.Done(nil)
		},
		"rejection": func() { open.Allow() },
	} {
		assert.Zero(t, testing.AllocsPerRun(200, call), name)
	}
}

// What the clients add to a request that succeeds at once: its copy, with the
// context and the URL in it, and a header; a body in memory adds nothing, the
// Idempotency-Key itself and its place in the header. A RetryableClient saves four
// allocations that http.Client makes in case there is a redirect, three with Go 1.25. A POST without a key
// is watched besides: whether it was sent decides whether it may be repeated.
func TestRequestAllocatesLittle(t *testing.T) {
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			io.Copy(io.Discard, req.Body)
			req.Body.Close()
		}
		return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})
	plain := &http.Client{Transport: base}
	client, err := retry.NewRetryableClient(plain, retry.Config{})
	require.NoError(t, err)
	transport, err := retry.NewTransport(base, retry.Config{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	payload := bytes.Repeat([]byte("x"), 1024)

	allocs := func(do func(*http.Request) (*http.Response, error), method string, payload []byte) float64 {
		return testing.AllocsPerRun(200, func() {
			var body io.Reader
			if payload != nil {
				body = bytes.NewReader(payload)
			}
			req, _ := http.NewRequestWithContext(ctx, method, "http://gene.example/?page=2", body)
			resp, err := do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		})
	}
	get, post := allocs(plain.Do, "GET", nil), allocs(plain.Do, "POST", payload)
	over := (&http.Client{Transport: transport}).Do
	assert.LessOrEqual(t, allocs(client.Do, "GET", nil)-get, -1.0, "GET, client")
	assert.LessOrEqual(t, allocs(over, "GET", nil)-get, 2.0, "GET, transport")
	assert.LessOrEqual(t, allocs(client.Do, "POST", payload)-post, 2.0, "POST, client")
	assert.LessOrEqual(t, allocs(over, "POST", payload)-post, 8.0, "POST, transport")
}

// What a request adds that is refused twice, over a loop around http.Client that drops the
// refusals and does not wait: two errors with what was read, the URL without its secrets,
// the contexts of the attempts and the timer, seven allocations in all, ten with Go 1.25.
// Nothing is added for an error's header, or to look for a wait or for the error of a stream
// where there is none.
func TestRefusalsAllocateLittle(t *testing.T) {
	requests := 0
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: 503, ProtoMajor: 1, Header: http.Header{}, ContentLength: 4}
		resp.Body = &closeCounter{Reader: strings.NewReader("busy")}
		if requests++; requests%3 == 0 {
			resp.StatusCode = 200
		}
		return resp, nil
	})
	plain := &http.Client{Transport: base}
	client, err := retry.NewRetryableClient(plain, retry.Config{InitialDelay: 1}, retry.NoSharedPause())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	allocs := func(do func(*http.Request) (*http.Response, error)) float64 {
		return testing.AllocsPerRun(200, func() {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://gene.example/?page=2", nil)
			for status := 0; status != 200; {
				resp, err := do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				status = resp.StatusCode
			}
		})
	}
	assert.LessOrEqual(t, allocs(client.Do)-allocs(plain.Do), 10.0)
}
