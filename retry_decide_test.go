package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestR08_CancelOfAnInnerContextIsRetried(t *testing.T) {
	fn, calls := script(context.Canceled, fmt.Errorf("inner: %w", context.DeadlineExceeded), nil)
	require.NoError(t, retry.Run(t.Context(), retry.Config{Backoff: retry.ConstantBackoff(0)}, fn))
	assert.Equal(t, 3, *calls)
}

func TestR09_NumberOfRetries(t *testing.T) {
	for retries, want := range map[int]int{0: 6, retry.NoRetries: 1, 1: 2, 10: 11} {
		fn, calls := script(errDown)
		e := gaveUp(t, retry.Run(t.Context(), retry.Config{MaxRetries: retries, Backoff: retry.ConstantBackoff(0)}, fn), retry.ErrMaxRetries)
		assert.Equal(t, want, *calls)
		assert.Equal(t, want, e.Attempts)
	}
	calls := 0
	err := retry.Run(t.Context(), retry.Config{MaxRetries: retry.Unlimited, Backoff: retry.ConstantBackoff(0)}, func(context.Context) error {
		if calls++; calls == 10_000 {
			return nil
		}
		return errDown
	})
	assert.NoError(t, err)
	fn, n := script(nil)
	assert.ErrorIs(t, retry.Run(t.Context(), retry.Config{MaxRetries: -2}, fn), retry.ErrInvalidConfig)
	assert.Zero(t, *n)
}

// A limit for one kind of error is a RetryIf that counts in its own closure.
func TestR10_LimitForOneKindOfError(t *testing.T) {
	left := 1
	cfg := retry.Config{MaxRetries: retry.Unlimited, Backoff: retry.ConstantBackoff(0), RetryIf: func(err error) bool {
		left--
		return left >= 0
	}}
	fn, calls := script(errDown)
	assert.Equal(t, errDown, retry.Run(t.Context(), cfg, fn))
	assert.Equal(t, 2, *calls)
}

func TestR11_PermanentStopsAtOnceInOneShape(t *testing.T) {
	for _, retries := range []int{retry.NoRetries, 1, retry.Unlimited} {
		cfg := retry.Config{MaxRetries: retries, Backoff: retry.ConstantBackoff(0)}
		fn, calls := script(retry.Permanent(errDown))
		assert.Equal(t, errDown, retry.Run(t.Context(), cfg, fn), "the very error, without the mark")
		assert.Equal(t, 1, *calls)

		wrapped := fmt.Errorf("outer: %w", retry.Permanent(errDown))
		fn, calls = script(wrapped)
		assert.Equal(t, wrapped, retry.Run(t.Context(), cfg, fn), "what wraps the mark is kept")
		assert.Equal(t, 1, *calls)

		fn, calls = script(errors.Join(errors.New("other"), retry.Permanent(errDown)))
		assert.ErrorIs(t, retry.Run(t.Context(), cfg, fn), errDown)
		assert.Equal(t, 1, *calls)
	}
	assert.NoError(t, retry.Permanent(nil))
	assert.NoError(t, retry.RetryAfter(nil, time.Second))
	assert.EqualError(t, retry.Permanent(errDown), "down")
}

func TestR12_MarksWinOverRetryIf(t *testing.T) {
	always := func(error) bool { return true }
	never := func(error) bool { return false }
	zero := retry.ConstantBackoff(0)
	for _, c := range []struct {
		err     error
		retryIf func(error) bool
		calls   int
	}{
		{retry.Permanent(errDown), always, 1},
		{retry.RetryAfter(errDown, 0), never, 2},
		{retry.RetryAfter(retry.Permanent(errDown), 0), always, 1},
		{retry.Permanent(retry.RetryAfter(errDown, 0)), always, 1},
		{&retry.StatusError{StatusCode: 404}, always, 2},
		{&retry.StatusError{StatusCode: 503}, never, 1},
		{errDown, never, 1},
	} {
		fn, calls := script(c.err)
		_ = retry.Run(t.Context(), retry.Config{MaxRetries: 1, Backoff: zero, RetryIf: c.retryIf}, fn)
		assert.Equal(t, c.calls, *calls, "%#v", c.err)
	}
}

func TestR30_RetryAfterIsOnlyLengthened(t *testing.T) {
	for _, c := range []struct {
		jitter retry.Jitter
		draw   float64
		want   time.Duration
	}{
		{retry.NoJitter, 0.5, time.Minute},
		{retry.Jitter{}, 0, time.Minute},
		{retry.Jitter{}, 0.5, 63 * time.Second},
		{retry.FullJitter, 0.5, 63 * time.Second},
		{retry.Jitter{Min: 1, Max: 1.02}, 0.5, 60600 * time.Millisecond},
	} {
		var delay time.Duration
		synctest.Test(t, func(t *testing.T) {
			cfg := retry.Config{Jitter: c.jitter, Rand: func() float64 { return c.draw },
				OnRetry: func(_ context.Context, e retry.Event) { delay = e.Delay }}
			fn, _ := script(retry.RetryAfter(errDown, time.Minute), nil)
			start := time.Now()
			require.NoError(t, retry.Run(t.Context(), cfg, fn))
			assert.Equal(t, delay, time.Since(start))
			assert.InDelta(t, c.want, delay, 10)
		})
	}
}

func TestR30_RetryAfterShorterThanTheBackoffChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fn, _ := script(retry.RetryAfter(errDown, time.Millisecond), retry.RetryAfter(errDown, -time.Hour), nil)
		require.NoError(t, retry.Run(t.Context(), exact, fn))
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestR31_RetryAfterBeyondTheTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		fn, calls := script(&retry.StatusError{StatusCode: 503, RetryAfter: time.Minute})
		start := time.Now()
		gaveUp(t, retry.Run(ctx, exact, fn), retry.ErrDeadline)
		assert.Equal(t, 1, *calls)
		assert.Zero(t, time.Since(start))
	})
}

func TestR32_AbsurdRetryAfter(t *testing.T) {
	fn, calls := script(retry.RetryAfter(errDown, 24*time.Hour))
	e := gaveUp(t, retry.Run(t.Context(), exact, fn), retry.ErrRetryAfterTooLong)
	assert.Equal(t, errDown.Error(), e.Err.Error())
	assert.Equal(t, 1, *calls)
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.MaxRetryAfter = 24 * time.Hour
		fn, _ := script(retry.RetryAfter(errDown, 24*time.Hour), nil)
		assert.NoError(t, retry.Run(t.Context(), cfg, fn), "exactly the limit is allowed")
	})
}

func TestR33_CauseOfARetryAfterIsReachable(t *testing.T) {
	err := retry.Run(t.Context(), retry.Config{MaxRetries: retry.NoRetries}, func(context.Context) error { return retry.RetryAfter(errDown, time.Second) })
	assert.ErrorIs(t, err, errDown)
}

// A hint keeps the place on the curve: the wait after it is what it would have
// been without.
func TestR34_HintKeepsTheBackoffsPosition(t *testing.T) {
	var delays []time.Duration
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.OnRetry = func(_ context.Context, e retry.Event) { delays = append(delays, e.Delay) }
		fn, _ := script(errDown, retry.RetryAfter(errDown, time.Minute), errDown, nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
	})
	assert.Equal(t, []time.Duration{time.Second, time.Minute, 4 * time.Second}, delays)
}
