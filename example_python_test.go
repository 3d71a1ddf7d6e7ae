package retry_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// The tests of the Python original, and that its mistakes were not taken over.

func TestPythonRetrySuccessOnSecondAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		result, err := retry.Do(t.Context(), retry.Config{MaxRetries: 3}, func(context.Context) (string, error) {
			if calls++; calls == 1 {
				return "", errors.New("Fail")
			}
			return "Success", nil
		})
		require.NoError(t, err)
		assert.Equal(t, "Success", result)
		assert.Equal(t, 2, calls)
	})
}

func TestPythonCircuitBreakerOpens(t *testing.T) {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 3})
	require.NoError(t, err)
	fail, calls := script(errors.New("Fail"))
	for range 3 {
		assert.EqualError(t, b.Do(t.Context(), fail), "Fail")
	}
	assert.Equal(t, retry.StateOpen, b.State())
	err = b.Do(t.Context(), fail)
	assert.ErrorIs(t, err, retry.ErrCircuitOpen)
	assert.ErrorContains(t, err, "circuit breaker open")
	assert.Equal(t, 3, *calls)
}

func TestPythonRateLimitHandling(t *testing.T) {
	clock := clockwork.NewFakeClock()
	limited := &retry.StatusError{StatusCode: 429, RetryAfter: 2500 * time.Millisecond}
	fn, calls := script(limited, nil)
	done := make(chan error)
	go func() {
		done <- retry.Run(context.Background(), retry.Config{Clock: clock, Jitter: retry.NoJitter}, fn)
	}()
	awaitTimer(t, clock)
	clock.Advance(2500*time.Millisecond - 1)
	assert.True(t, hasWaiters(clock), "not a moment before")
	clock.Advance(1)
	require.NoError(t, <-done)
	assert.Equal(t, 2, *calls)
}

func TestPythonDefaults(t *testing.T) {
	assert.Equal(t, seconds(1, 2, 4, 8, 16), schedule(retry.Config{}, 5))
	assert.Equal(t, time.Minute, retry.Config{Jitter: retry.NoJitter}.Delay(10))
	assert.Equal(t, 800*time.Millisecond, retry.Config{Rand: draw(0)}.Delay(1))
	assert.InDelta(t, 1200*time.Millisecond, retry.Config{Rand: draw(math.Nextafter(1, 0))}.Delay(1), 10)
	for _, code := range []int{429, 500, 502, 503, 504} {
		assert.True(t, retry.Retryable(&retry.StatusError{StatusCode: code}))
	}
	fn, calls := script(errDown)
	gaveUp(t, retry.Run(t.Context(), retry.Config{Backoff: retry.ConstantBackoff(0)}, fn), retry.ErrMaxRetries)
	assert.Equal(t, 6, *calls)
	b := new(retry.CircuitBreaker)
	report(t, b, 5, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

// Its jitter went past the longest delay, its Retry-After knew no limit, and
// its half-open state let all calls through.
func TestPythonMistakes(t *testing.T) {
	assert.LessOrEqual(t, retry.Config{Rand: draw(0.999)}.Delay(20), time.Minute)
	fn, calls := script(&retry.StatusError{StatusCode: 429, RetryAfter: 24 * time.Hour})
	gaveUp(t, retry.Run(t.Context(), retry.Config{}, fn), retry.ErrRetryAfterTooLong)
	assert.Equal(t, 1, *calls)
	b, clock := newBreaker(t, nil)
	b.Trip(time.Second)
	clock.Advance(time.Second)
	assert.Equal(t, 1, rush(50, func() bool { _, err := b.Allow(); return err == nil }))
}
