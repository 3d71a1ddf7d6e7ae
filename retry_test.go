package retry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
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

// exact waits 1s, 2s, 4s, … to the nanosecond.
var exact = retry.Config{Jitter: retry.NoJitter}

// script returns a function that returns the given errors, one per call, the
// last of them again and again, and counts its calls.
func script(errs ...error) (fn func(context.Context) error, calls *int) {
	calls = new(int)
	return func(context.Context) error {
		*calls++
		return errs[min(*calls, len(errs))-1]
	}, calls
}

// gaveUp checks that err is an *Error, and returns it.
func gaveUp(t testing.TB, err, reason error) *retry.Error {
	t.Helper()
	require.ErrorIs(t, err, reason)
	e, ok := err.(*retry.Error)
	require.True(t, ok, "%T", err)
	return e
}

// bubble runs the test on the fake time of package synctest.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestR01_DoneContextCallsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, cfg := range map[string]retry.Config{
		"zero": {}, "gate": {Gate: retry.NewGate(nil)}, "hooks": {OnDone: func(context.Context, retry.Event) {}},
	} {
		fn, calls := script(nil)
		e := gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
		assert.Zero(t, *calls, name)
		assert.Zero(t, e.Attempts)
		assert.Nil(t, e.Err)
		_, err := retry.Do(ctx, cfg, func(context.Context) (int, error) { t.Error("called"); return 0, nil })
		assert.ErrorIs(t, err, context.Canceled)
	}
}

func TestR02_CauseAndCancelAreBothFound(t *testing.T) {
	cause := errors.New("deploy")
	ctx, cancel := context.WithCancelCause(context.Background())
	err := retry.Run(ctx, exact, func(context.Context) error { cancel(cause); return errDown })
	e := gaveUp(t, err, cause)
	assert.Equal(t, cause, e.Reason)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, errDown)
	assert.False(t, e.Timeout())
	assert.EqualError(t, &retry.Error{Attempts: 1, Reason: cause, Err: errDown}, "retry: deploy after 1 attempt: down")
}

func TestR03_NoSleepThatCannotPay(t *testing.T) {
	for _, c := range []struct {
		deadline time.Duration
		calls    int
		took     time.Duration
	}{
		{time.Second, 1, 0}, // the wait would end exactly at the deadline
		{time.Second + 1, 2, time.Second},
		{3 * time.Second, 2, time.Second},
	} {
		bubble(t, c.deadline.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
			defer cancel()
			fn, calls := script(errDown)
			start := time.Now()
			e := gaveUp(t, retry.Run(ctx, exact, fn), retry.ErrDeadline)
			assert.Equal(t, c.calls, *calls)
			assert.Equal(t, c.took, time.Since(start))
			assert.ErrorIs(t, e, context.DeadlineExceeded)
			assert.ErrorIs(t, e, errDown)
			assert.True(t, e.Timeout())
		})
	}
}

// The deadline of a context on the fake clock counts on that clock.
func TestR03_DeadlineOnAFakeClock(t *testing.T) {
	clock := clockwork.NewFakeClock()
	ctx, cancel := clockwork.WithTimeout(context.Background(), clock, time.Second)
	defer cancel()
	cfg := exact
	cfg.Clock = clock
	fn, calls := script(errDown)
	gaveUp(t, retry.Run(ctx, cfg, fn), retry.ErrDeadline)
	assert.Equal(t, 1, *calls)
}

// Contexts are asked in the way that suits their kind: those of clockwork, and
// what is made of them, block when they are asked for Err too early.
func TestR02_ContextsOfAllKinds(t *testing.T) {
	type key struct{}
	fake := func(parent context.Context) (context.Context, context.CancelFunc) {
		return clockwork.WithTimeout(parent, clockwork.NewFakeClock(), time.Hour)
	}
	timed := func(parent context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(parent, time.Hour)
	}
	plain := func(parent context.Context) (context.Context, context.CancelFunc) {
		return context.WithValue(parent, key{}, 1), func() {}
	}
	kinds := map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancel": context.WithCancel, "timeout": timed, "fake": fake, "value": plain,
	}
	for outer, wrap := range kinds {
		for inner, make := range kinds {
			bubble(t, outer+" of "+inner, func(t *testing.T) {
				parent, end := make(t.Context())
				ctx, cancel := wrap(parent)
				breaker := new(retry.CircuitBreaker)
				for _, done := range []bool{false, inner != "value" || outer != "value"} {
					calls := 0
					fn := func(context.Context) error { calls++; return nil }
					first, second := retry.Run(ctx, exact, fn), breaker.Do(ctx, fn)
					if done {
						assert.ErrorIs(t, first, context.Canceled)
						assert.ErrorIs(t, second, context.Canceled)
						assert.Zero(t, calls)
					} else {
						assert.NoError(t, errors.Join(first, second))
						assert.Equal(t, 2, calls)
					}
					end()
					cancel()
					synctest.Wait()
				}
			})
		}
	}
}

func TestR04_CancelDuringTheWaitKeepsTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		fn, calls := script(errDown)
		start := time.Now()
		e := gaveUp(t, retry.Run(ctx, exact, fn), context.Canceled)
		assert.Equal(t, 500*time.Millisecond, time.Since(start))
		assert.Equal(t, 1, *calls)
		assert.Equal(t, errDown, e.Err)
	})
}

func TestR05_RealErrorOfACancelledAttemptIsKept(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	e := gaveUp(t, retry.Run(ctx, exact, func(context.Context) error { cancel(); return errDown }), context.Canceled)
	assert.Equal(t, errDown, e.Err)
	assert.Equal(t, 1, e.Attempts)
	// The context is the reason, also where no retry was left.
	ctx, cancel = context.WithCancel(context.Background())
	cfg := retry.Config{MaxRetries: retry.NoRetries}
	gaveUp(t, retry.Run(ctx, cfg, func(context.Context) error { cancel(); return errDown }), context.Canceled)
}

func TestR07_NeverACallAfterACancel(t *testing.T) {
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), MaxRetries: retry.Unlimited}
	for range 500 {
		ctx, cancel := context.WithCancel(context.Background())
		cancelled := false
		_ = retry.Run(ctx, cfg, func(context.Context) error {
			require.False(t, cancelled)
			cancel()
			cancelled = true
			return errDown
		})
	}
}

// suddenClock has each wait end at once, and at the same instant the context.
type suddenClock struct {
	*clockwork.FakeClock
	cancel func()
}

func (c suddenClock) NewTimer(d time.Duration) clockwork.Timer {
	c.Advance(d)
	c.cancel()
	return c.FakeClock.NewTimer(0)
}

// When both are ready, select picks at random; there must be no call either way.
func TestR07_CancelAtTheSameInstantAsTheTimer(t *testing.T) {
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		clock := suddenClock{clockwork.NewFakeClock(), cancel}
		fn, calls := script(errDown)
		e := gaveUp(t, retry.Run(ctx, retry.Config{Clock: clock}, fn), context.Canceled)
		assert.Equal(t, 1, *calls)
		assert.Equal(t, errDown, e.Err)
	}
}

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

func TestR13_FinalErrorTellsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Name, cfg.MaxRetries, cfg.OnDone = "hgnc", 2, func(context.Context, retry.Event) {}
		status := &retry.StatusError{StatusCode: 503, Method: "GET", URL: "http://x/"}
		fn, _ := script(errDown, errDown, fmt.Errorf("fetch: %w", status))
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
		assert.Equal(t, 3, e.Attempts)
		assert.Equal(t, 3*time.Second, e.Elapsed)
		var found *retry.StatusError
		assert.ErrorAs(t, e, &found)
		assert.False(t, errors.Is(e, errDown), "earlier failures are not kept")
		assert.EqualError(t, e, "retry: hgnc: no retries left after 3 attempts in 3s: fetch: GET http://x/: 503 Service Unavailable")
	})
}

func TestR15_LastValueComesWithTheError(t *testing.T) {
	n := 0
	value, err := retry.Do(t.Context(), retry.Config{MaxRetries: 2, Backoff: retry.ConstantBackoff(0)},
		func(context.Context) (int, error) { n++; return n, errDown })
	gaveUp(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 3, value)
	value, err = retry.Do(t.Context(), retry.Config{}, func(context.Context) (int, error) { return 7, retry.Permanent(errDown) })
	assert.Equal(t, errDown, err)
	assert.Equal(t, 7, value)
}

// Do knows nothing of what its values hold: a function that opens something
// closes it when it fails. It never touches the value that it returns.
type closer struct{ closed bool }

func (c *closer) Close() error { c.closed = true; return nil }

func TestR16_TheReturnedValueIsUntouched(t *testing.T) {
	value, err := retry.Do(t.Context(), retry.Config{MaxRetries: retry.NoRetries},
		func(context.Context) (*closer, error) { return new(closer), errDown })
	assert.Error(t, err)
	assert.False(t, value.closed)
}

func TestR17_AttemptTimeoutInsideADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		cfg := retry.Config{AttemptTimeout: 2 * time.Second, Backoff: retry.ConstantBackoff(0)}
		start, attempt := time.Now(), 0
		e := gaveUp(t, retry.Run(ctx, cfg, func(ctx context.Context) error {
			attempt++
			deadline, ok := ctx.Deadline()
			assert.True(t, ok)
			assert.Equal(t, start.Add([]time.Duration{2 * time.Second, 3 * time.Second}[attempt-1]), deadline)
			assert.NoError(t, ctx.Err())
			<-ctx.Done()
			assert.Equal(t, context.DeadlineExceeded, ctx.Err())
			assert.Equal(t, context.DeadlineExceeded, context.Cause(ctx))
			return fmt.Errorf("attempt %d: %w", attempt, ctx.Err())
		}), context.DeadlineExceeded)
		assert.Equal(t, 2, e.Attempts, "its own timeout is retried, the caller's deadline not")
		assert.EqualError(t, e.Err, "attempt 2: context deadline exceeded")
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.True(t, e.Timeout())
	})
}

func TestR17_AttemptTimeoutOnAFakeClock(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cfg := retry.Config{AttemptTimeout: 2 * time.Second, MaxRetries: retry.NoRetries, Clock: clock}
	e := gaveUp(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error {
		clock.Advance(2*time.Second - 1)
		assert.NoError(t, ctx.Err())
		clock.Advance(1)
		<-ctx.Done()
		return ctx.Err()
	}), retry.ErrMaxRetries)
	assert.ErrorIs(t, e, context.DeadlineExceeded)
	assert.True(t, e.Timeout())
	assert.False(t, hasWaiters(clock))
}

// A context derived from an attempt's ends with it, with the caller's cause.
func TestAttemptContextIsAnHonestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		cause := errors.New("cause")
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
		time.AfterFunc(time.Second, func() { cancel(cause) })
		var kept, derived context.Context
		err := retry.Run(ctx, retry.Config{AttemptTimeout: time.Minute}, func(ctx context.Context) error {
			assert.Equal(t, "v", ctx.Value(key{}))
			kept = ctx
			var stop context.CancelFunc
			derived, stop = context.WithCancel(ctx)
			defer stop()
			<-derived.Done()
			return context.Cause(ctx)
		})
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, kept.Err(), context.Canceled)
		assert.ErrorIs(t, derived.Err(), context.Canceled)

		require.NoError(t, retry.Run(t.Context(), retry.Config{AttemptTimeout: time.Minute}, func(ctx context.Context) error { kept = ctx; return nil }))
		assert.ErrorIs(t, kept.Err(), context.Canceled, "over with the attempt")
	})
}

// There is no goroutine to leave fn behind in: Do waits for it.
func TestR18_DoWaitsForFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		assert.NoError(t, retry.Run(t.Context(), retry.Config{AttemptTimeout: time.Second}, func(context.Context) error {
			time.Sleep(10 * time.Second) // deaf to its context
			return nil
		}), "a success is a success")
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestR27_HugeDelaysDoNotOverflow(t *testing.T) {
	for cfg, err := range map[*retry.Config]error{
		{MaxElapsed: time.Second, Backoff: retry.ConstantBackoff(math.MaxInt64), MaxDelay: math.MaxInt64}: errDown,
		{MaxElapsed: time.Second, MaxRetryAfter: math.MaxInt64}:                                           retry.RetryAfter(errDown, math.MaxInt64),
	} {
		fn, calls := script(err)
		gaveUp(t, retry.Run(t.Context(), *cfg, fn), retry.ErrMaxElapsed)
		assert.Equal(t, 1, *calls)
	}
}

func TestR28_MaxElapsedCutsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.MaxElapsed = 5 * time.Second
		err := retry.Run(t.Context(), cfg, func(ctx context.Context) error {
			time.Sleep(20 * time.Second)
			assert.NoError(t, ctx.Err())
			return errDown
		})
		e := gaveUp(t, err, retry.ErrMaxElapsed)
		assert.Equal(t, 1, e.Attempts)
		assert.Equal(t, 20*time.Second, e.Elapsed)
		assert.False(t, e.Timeout())
		assert.NoError(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error { time.Sleep(20 * time.Second); return nil }))
	})
}

func TestMaxElapsedIsNotReachedByAWait(t *testing.T) {
	for limit, want := range map[time.Duration]int{time.Second: 1, time.Second + 1: 2, 3 * time.Second: 2, 3*time.Second + 1: 3} {
		bubble(t, limit.String(), func(t *testing.T) {
			cfg := exact
			cfg.MaxElapsed = limit
			fn, calls := script(errDown)
			gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
			assert.Equal(t, want, *calls)
		})
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

func TestR35_NoTimerIsLeft(t *testing.T) {
	clock := clockwork.NewFakeClock()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := retry.Config{Clock: clock, AttemptTimeout: time.Hour}
	done := make(chan error)
	go func() { done <- retry.Run(ctx, cfg, func(context.Context) error { return errDown }) }()
	awaitTimer(t, clock)
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)
	assert.False(t, hasWaiters(clock))
}

func budget(t testing.TB, ratio float64, burst int) *retry.Budget {
	t.Helper()
	b, err := retry.NewBudget(ratio, burst)
	require.NoError(t, err)
	return b
}

func TestR36_BudgetIsAskedBeforeTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Budget = budget(t, 0, 1)
		fn, calls := script(errDown)
		start := time.Now()
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrBudgetExhausted)
		assert.ErrorIs(t, e, errDown)
		assert.Equal(t, 2, *calls)
		assert.Equal(t, time.Second, time.Since(start), "no wait after the one that was paid for")
	})
}

func TestR40_PanicReachesTheCallerAndLeavesNothing(t *testing.T) {
	clock := clockwork.NewFakeClock()
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
	cfg := retry.Config{Clock: clock, Backoff: retry.ConstantBackoff(0), Breaker: b, Budget: budget(t, 0, 2), AttemptTimeout: time.Hour}
	n := 0
	assert.PanicsWithValue(t, errDown, func() {
		_ = retry.Run(t.Context(), cfg, func(context.Context) error {
			if n++; n == 2 {
				panic(errDown)
			}
			return errDown
		})
	})
	assert.False(t, hasWaiters(clock))
	s := b.Snapshot()
	assert.Equal(t, 2, s.Requests)
	assert.Equal(t, 2, s.Failures)
}

func TestR41_BreakerOutsideSeesOneOutcome(t *testing.T) {
	b, _ := newBreaker(t, nil)
	fn, calls := script(errDown)
	_ = b.Do(t.Context(), func(ctx context.Context) error {
		return retry.Run(ctx, retry.Config{Backoff: retry.ConstantBackoff(0)}, fn)
	})
	assert.Equal(t, 6, *calls)
	assert.Equal(t, 1, b.Snapshot().Failures)
}

func TestR42_BreakerOpensInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 2})
		require.NoError(t, err)
		cfg := exact
		cfg.Breaker = b
		fn, calls := script(errDown)
		start := time.Now()
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrCircuitOpen)
		var open *retry.OpenError
		require.ErrorAs(t, e, &open)
		assert.Equal(t, time.Minute, open.RetryAfter)
		assert.Equal(t, errDown, e.Err)
		assert.Equal(t, 2, *calls)
		assert.Equal(t, 2, e.Attempts)
		assert.Equal(t, time.Second, time.Since(start), "and no wait for a rejection that is certain")
		assert.Contains(t, e.Error(), "circuit breaker open for another 1m0s")

		e = gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrCircuitOpen)
		assert.Zero(t, e.Attempts)
		assert.NoError(t, e.Err)
		assert.NotErrorIs(t, e, errDown, "it was another call's")
		assert.Contains(t, e.Error(), "last failure: down")
	})
}

// A breaker that opens during the wait ends the call without another attempt,
// and without its retry being charged to the budget.
func TestR42_BreakerOpensDuringTheWait(t *testing.T) {
	b, _ := newBreaker(t, nil)
	cfg := retry.Config{Breaker: b, Budget: budget(t, 0, 1), Backoff: retry.ConstantBackoff(0)}
	cfg.OnRetry = func(context.Context, retry.Event) { b.Trip(time.Hour) }
	fn, calls := script(errDown)
	for range 2 {
		b.Reset()
		*calls = 0
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrCircuitOpen)
		assert.Equal(t, 1, *calls)
	}
}

func TestR43_WaitWhenOpenSleepsExactlyUntilHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: 10 * time.Second})
		require.NoError(t, err)
		cfg := exact
		cfg.Breaker, cfg.WaitWhenOpen, cfg.Budget, cfg.MaxRetries = b, true, budget(t, 0, 1), 1
		fn, calls := script(errDown, nil)
		start := time.Now()
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, 2, *calls)
		assert.Equal(t, 10*time.Second, time.Since(start), "the wait of 1s is part of it, and one retry was enough")

		b.Trip(5 * time.Second)
		start = time.Now()
		fn, _ = script(nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, 5*time.Second, time.Since(start), "a first attempt waits as well")
	})
}

// The time that the breaker stays open counts before the wait begins: it used
// to sleep for the backoff first, and find out then.
func TestR43_WaitWhenOpenGivesUpAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		limit  func(context.Context, *retry.Config) (context.Context, context.CancelFunc)
		reason error
	}{
		"deadline": {func(ctx context.Context, _ *retry.Config) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Second)
		}, retry.ErrDeadline},
		"elapsed": {func(ctx context.Context, cfg *retry.Config) (context.Context, context.CancelFunc) {
			cfg.MaxElapsed = 10 * time.Second
			return context.WithCancel(ctx)
		}, retry.ErrMaxElapsed},
	} {
		bubble(t, name, func(t *testing.T) {
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: 10 * time.Second})
			require.NoError(t, err)
			cfg := exact
			cfg.Breaker, cfg.WaitWhenOpen = b, true
			ctx, cancel := c.limit(t.Context(), &cfg)
			defer cancel()
			fn, calls := script(errDown)
			start := time.Now()
			for want := range 2 { // after a failure, and before a first attempt
				e := gaveUp(t, retry.Run(ctx, cfg, fn), c.reason)
				assert.ErrorIs(t, e, retry.ErrCircuitOpen)
				assert.Equal(t, want == 0, errors.Is(e, errDown), "what another call met is shown only")
				assert.Equal(t, 1-want, e.Attempts)
				assert.Contains(t, e.Error(), "circuit breaker open for another 10s")
			}
			assert.Equal(t, 1, *calls)
			assert.Zero(t, time.Since(start))
		})
	}
}

func TestR43_WaitersOfAForcedBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(retry.CircuitBreaker)
		b.ForceOpen()
		cfg := retry.Config{Breaker: b, WaitWhenOpen: true}
		fn, _ := script(nil)
		start := time.Now()
		time.AfterFunc(time.Hour, b.Reset)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, time.Hour, time.Since(start))

		b.ForceOpen()
		cfg.MaxElapsed = time.Minute
		start = time.Now()
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
		assert.Equal(t, time.Minute, time.Since(start), "nobody could know better")

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)

		fn, calls := script(errDown) // forced in the middle: the backoff is waited, then Reset is
		b.Reset()
		cfg.MaxElapsed = 0
		cfg.OnRetry = func(context.Context, retry.Event) { b.ForceOpen() }
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := retry.Run(ctx, cfg, fn)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, errDown)
		assert.Equal(t, 1, *calls)
	})
}

// A pause of the gate that is longer than the time left ends the call before
// the wait: the attempt after it could never be made.
func TestNoWaitForAGateThatStaysClosedTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cfg := exact
		cfg.Gate = retry.NewGate(nil)
		start := time.Now()
		e := gaveUp(t, retry.Run(ctx, cfg, func(context.Context) error {
			cfg.Gate.Pause(time.Minute) // somebody else was told so
			return errDown
		}), retry.ErrDeadline)
		assert.Equal(t, 1, e.Attempts)
		assert.Zero(t, time.Since(start))
	})
}

// Two probes wait for the one place, in wait mode: nobody loses, and all go on
// one by one when the breaker has closed.
func TestR43_WaitersOfAHalfOpenBreakerFollowOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(retry.CircuitBreaker)
		b.Trip(time.Second)
		var mu sync.Mutex
		var begun []time.Duration
		start := time.Now()
		for range 5 {
			go func() {
				assert.NoError(t, retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, func(context.Context) error {
					mu.Lock()
					begun = append(begun, time.Since(start))
					mu.Unlock()
					time.Sleep(time.Second)
					return nil
				}))
			}()
		}
		time.Sleep(time.Minute)
		mu.Lock() // only the race detector needs it
		defer mu.Unlock()
		ms := time.Millisecond
		assert.Equal(t, []time.Duration{1000 * ms, 2000 * ms, 2005 * ms, 2010 * ms, 2015 * ms}, begun)
	})
}

// When the probe comes back cancelled, or never, the next waiter probes.
func TestR43_NextWaiterProbesWhenThePlaceIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(retry.CircuitBreaker)
		b.Trip(time.Second)
		time.Sleep(time.Second)
		probe := permit(t, b)
		time.AfterFunc(time.Second, func() { probe.Done(context.Canceled) })
		cfg := retry.Config{Breaker: b, WaitWhenOpen: true}
		start := time.Now()
		fn, _ := script(nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, time.Second, time.Since(start))

		b.Trip(time.Second)
		time.Sleep(time.Second)
		permit(t, b) // never comes back
		start = time.Now()
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, time.Minute, time.Since(start))
	})
}

// tickingClock moves on a little each time somebody looks.
type tickingClock struct{ *clockwork.FakeClock }

func (c tickingClock) Now() time.Time {
	c.Advance(time.Millisecond)
	return c.FakeClock.Now()
}

// A breaker that let calls through again just after it had rejected one, before
// anybody had ever waited for it, used to crash the waiter.
func TestR43_OpenTimeEndsBetweenTwoLooks(t *testing.T) {
	for d := time.Duration(1); d < 40; d++ {
		clock := tickingClock{clockwork.NewFakeClock()}
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
		b.Trip(d * time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // a timer that was set needs somebody to move the clock
			for ctx.Err() == nil {
				clock.Now()
			}
		}()
		fn, _ := script(nil)
		assert.NoError(t, retry.Run(ctx, retry.Config{Breaker: b, WaitWhenOpen: true, Clock: clock}, fn))
		cancel()
	}
}

// The context's end at the very moment at which the breaker half-opens wins.
func TestR43_CancelAtTheMomentOfHalfOpen(t *testing.T) {
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		clock := suddenClock{clockwork.NewFakeClock(), cancel}
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
		b.Trip(time.Second)
		fn, calls := script(nil)
		gaveUp(t, retry.Run(ctx, retry.Config{Breaker: b, WaitWhenOpen: true, Clock: clock}, fn), context.Canceled)
		assert.Zero(t, *calls)
		assert.Equal(t, retry.StateHalfOpen, b.State())
		permit(t, b) // and the place is free
	}
}

func TestR44_NestedAttemptsAdd(t *testing.T) {
	cfg := retry.Config{MaxRetries: 2, Backoff: retry.ConstantBackoff(0)}
	for name, err := range map[string]error{
		"plain": errDown,
		// The mark on the inner failure made the outer loop retry what the inner
		// one had given up.
		"marked": retry.RetryAfter(errDown, 1),
		"status": &retry.StatusError{StatusCode: 503, RetryAfter: 1},
	} {
		fn, calls := script(err)
		outer := retry.Run(t.Context(), cfg, func(ctx context.Context) error {
			return fmt.Errorf("outer: %w", retry.Run(ctx, cfg, fn))
		})
		assert.Equal(t, 3, *calls, name)
		var e *retry.Error
		require.ErrorAs(t, outer, &e)
		assert.Equal(t, 3, e.Attempts)
		assert.False(t, retry.Retryable(outer))
	}
	fn, calls := script(errDown) // who marks the inner result asks for it
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.RetryAfter(retry.Run(ctx, cfg, fn), 0) })
	assert.Equal(t, 9, *calls)
	fn, calls = script(retry.RetryAfter(errDown, 1)) // and RetryIf is asked
	cfg.RetryIf = func(err error) bool { var e *retry.Error; return !errors.As(err, &e) }
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.Run(ctx, cfg, fn) })
	assert.Equal(t, 3, *calls)
	fn, calls = script(retry.RetryAfter(errDown, 1))
	cfg.RetryIf = func(error) bool { return true }
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.Run(ctx, cfg, fn) })
	assert.Equal(t, 9, *calls)
}

func TestRetryCount(t *testing.T) {
	assert.Zero(t, retry.RetryCount(noContext))
	var counts []int
	var kept []context.Context
	cfg := retry.Config{MaxRetries: 5, Backoff: retry.ConstantBackoff(0)}
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error {
		counts = append(counts, retry.RetryCount(ctx))
		kept = append(kept, ctx)
		return retry.Run(ctx, retry.Config{}, func(ctx context.Context) error {
			assert.Zero(t, retry.RetryCount(ctx), "of this Do")
			return retry.Permanent(fmt.Errorf("again: %w", errDown))
		})
	})
	assert.Equal(t, []int{0, 1, 2, 3, 4, 5}, counts)
	for i, ctx := range kept {
		assert.Equal(t, i, retry.RetryCount(ctx), "a context that was kept is not used again")
	}
}

func TestR45_SharedConfigCarriesNoState(t *testing.T) {
	cfg := retry.Config{MaxRetries: 3, Backoff: retry.DecorrelatedBackoff(1), Jitter: retry.FullJitter}
	before := cfg
	var calls atomic.Int64
	rush(100, func() bool {
		return retry.Run(t.Context(), cfg, func(context.Context) error { calls.Add(1); return errDown }) == nil
	})
	assert.EqualValues(t, 400, calls.Load())
	before.Backoff, cfg.Backoff = nil, nil
	assert.Equal(t, before, cfg)
}

func TestR46_HooksTellWhatFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events, ends []retry.Event
		cfg := exact
		cfg.Name, cfg.MaxRetries = "x", 2
		cfg.OnRetry = func(_ context.Context, e retry.Event) { events = append(events, e) }
		cfg.OnDone = func(_ context.Context, e retry.Event) { ends = append(ends, e) }
		fn, _ := script(errDown)
		err := retry.Run(t.Context(), cfg, fn)
		assert.Equal(t, []retry.Event{
			{Name: "x", Attempt: 1, Delay: time.Second, Why: retry.WaitBackoff, Err: errDown},
			{Name: "x", Attempt: 2, Delay: 2 * time.Second, Elapsed: time.Second, Why: retry.WaitBackoff, Err: errDown},
		}, events)
		assert.Equal(t, []retry.Event{{Name: "x", Attempt: 3, Elapsed: 3 * time.Second, Err: err}}, ends)

		ends = nil
		require.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error { return nil }))
		assert.Equal(t, []retry.Event{{Name: "x", Attempt: 1}}, ends)
	})
}

func TestR48_HookCancelsOrPanics(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Budget: budget(t, 0, 1)}
	cfg.OnRetry = func(context.Context, retry.Event) { cancel() }
	fn, calls := script(errDown)
	gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
	assert.Equal(t, 1, *calls)

	cfg.OnRetry = func(context.Context, retry.Event) { panic("hook") }
	assert.PanicsWithValue(t, "hook", func() { _ = retry.Run(t.Context(), cfg, fn) })
	cfg.OnRetry = nil // both gave their retry back
	fn, calls = script(errDown)
	gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrBudgetExhausted)
	assert.Equal(t, 2, *calls)
}

func TestR49_NothingPanicsOnNil(t *testing.T) {
	ctx := t.Context()
	assert.ErrorIs(t, retry.Run(ctx, retry.Config{}, nil), retry.ErrInvalidConfig)
	_, err := retry.Do[int](ctx, retry.Config{}, nil)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	_, err = retry.Wrap[int, int](retry.Config{}, nil)(ctx, 1)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	fn, calls := script(nil)
	assert.ErrorIs(t, retry.Run(noContext, retry.Config{}, fn), retry.ErrInvalidConfig)
	assert.ErrorIs(t, retry.NewGate(nil).Wait(noContext), retry.ErrInvalidConfig)
	retry.NewGate(nil).OnPause(nil)
	assert.Zero(t, *calls)
	assert.False(t, retry.Retryable(nil))
}

func TestWrap(t *testing.T) {
	calls := 0
	double := retry.Wrap(retry.Config{Backoff: retry.ConstantBackoff(0)}, func(_ context.Context, n int) (int, error) {
		if calls++; calls == 1 {
			return 0, errDown
		}
		return 2 * n, nil
	})
	got, err := double(t.Context(), 21)
	assert.NoError(t, err)
	assert.Equal(t, 42, got)
	assert.Equal(t, 2, calls)
}

// slowLimiter lets an attempt through after a second.
type slowLimiter struct{ err error }

func (l slowLimiter) Wait(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestLimiterIsWaitedForByEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Limiter: slowLimiter{}, Backoff: retry.ConstantBackoff(0), MaxRetries: 2}
		fn, calls := script(errDown)
		start := time.Now()
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
		assert.Equal(t, 3, *calls)
		assert.Equal(t, 3*time.Second, time.Since(start))

		cfg.MaxElapsed = 1500 * time.Millisecond
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)

		refusal := errors.New("limiter says no")
		e := gaveUp(t, retry.Run(t.Context(), retry.Config{Limiter: slowLimiter{refusal}}, fn), refusal)
		assert.Zero(t, e.Attempts)

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		gaveUp(t, retry.Run(ctx, retry.Config{Limiter: slowLimiter{}}, fn), context.DeadlineExceeded)
	})
}

// Who waits for the limiter while the gate closes does not slip through.
func TestGateThatClosesDuringTheLimitersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Limiter: slowLimiter{}, Gate: retry.NewGate(nil)}
		time.AfterFunc(500*time.Millisecond, func() { cfg.Gate.Pause(time.Minute) })
		start := time.Now()
		fn, _ := script(nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		// Half a second until the pause, the pause, and then the limiter anew.
		assert.Equal(t, 500*time.Millisecond+time.Minute+time.Second, time.Since(start))
	})
}

// Nor does who waits for the breaker.
func TestGateThatClosesDuringTheBreakersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Breaker: new(retry.CircuitBreaker), WaitWhenOpen: true, Gate: retry.NewGate(nil)}
		cfg.Breaker.Trip(time.Second)
		time.AfterFunc(500*time.Millisecond, func() { cfg.Gate.Pause(time.Minute) })
		start := time.Now()
		fn, _ := script(nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, time.Minute+500*time.Millisecond, time.Since(start))

		cfg.Breaker.Trip(time.Second)
		cfg.MaxElapsed = 10 * time.Second
		time.AfterFunc(500*time.Millisecond, func() { cfg.Gate.Pause(time.Minute) })
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
	})
}

func TestSuccessIsASuccess(t *testing.T) {
	for _, cfg := range []retry.Config{{}, {AttemptTimeout: time.Hour}, {Breaker: new(retry.CircuitBreaker)}} {
		ctx, cancel := context.WithCancel(context.Background())
		assert.NoError(t, retry.Run(ctx, cfg, func(context.Context) error { cancel(); return nil }))
		ctx, cancel = context.WithCancel(context.Background())
		value, err := retry.Do(ctx, cfg, func(context.Context) (int, error) { cancel(); return 7, nil })
		assert.NoError(t, err)
		assert.Equal(t, 7, value)
	}
}

func TestLoggerTellsOfRetriesAndTheEnd(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b", FailureThreshold: 2})
		require.NoError(t, err)
		cfg := exact
		cfg.Name, cfg.Logger, cfg.Breaker, cfg.Gate = "hgnc", log, b, retry.NewGate(nil)
		fn, _ := script(errDown, &retry.StatusError{StatusCode: 503, RetryAfter: 4 * time.Second})
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrCircuitOpen)
	})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	assert.Equal(t, `level=WARN msg=retrying attempt=1 name=hgnc delay=1s why=backoff error=down`, lines[0])
	assert.Equal(t, `level=WARN msg="circuit breaker changed state" name=b from=closed to=open error="503 Service Unavailable"`, lines[1])
	assert.Contains(t, lines[2], `level=INFO msg=pausing attempt=2 name=hgnc delay=4s`)
	assert.Equal(t, `level=ERROR msg="giving up" attempt=2 name=hgnc reason="circuit breaker open" elapsed=1s error="503 Service Unavailable"`, lines[3])
}

func TestLoggerTellsOfARetryAfter(t *testing.T) {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
		fn, _ := script(retry.RetryAfter(errDown, 4*time.Second), nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
	})
	assert.Contains(t, out.String(), "delay=4s why=retry-after")
}

// An open time that is over before the wait is does not end the call.
func TestR42_ShortOpenTimeIsNoReasonToStop(t *testing.T) {
	for _, wait := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: time.Second})
			require.NoError(t, err)
			cfg := exact
			cfg.Breaker, cfg.WaitWhenOpen = b, wait
			fn, calls := script(errDown, nil)
			start := time.Now()
			require.NoError(t, retry.Run(t.Context(), cfg, fn))
			assert.Equal(t, 2, *calls)
			assert.Equal(t, time.Second, time.Since(start))
		})
	}
}

// Nobody knows how long a forced breaker stays open: the call waits as long as
// it may.
func TestR43_BreakerForcedDuringTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Breaker, cfg.WaitWhenOpen, cfg.MaxElapsed = new(retry.CircuitBreaker), true, time.Minute
		calls := 0
		start := time.Now()
		time.AfterFunc(30*time.Second, cfg.Breaker.Reset)
		require.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error {
			if calls++; calls == 1 {
				cfg.Breaker.ForceOpen()
				return errDown
			}
			return nil
		}))
		assert.Equal(t, 30*time.Second, time.Since(start))
	})
}

func TestGateThatClosesForTooLongDuringTheLimitersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Limiter: slowLimiter{}, Gate: retry.NewGate(nil), MaxElapsed: 10 * time.Second}
		time.AfterFunc(500*time.Millisecond, func() { cfg.Gate.Pause(time.Minute) })
		fn, calls := script(nil)
		start := time.Now()
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
		assert.Zero(t, *calls)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

// Do and Run have a short way for calls that need nothing watched; it must
// deposit, retry and give up like the long one.
func TestShortWayIsLikeTheLongOne(t *testing.T) {
	for _, clock := range []clockwork.Clock{nil, clockwork.NewRealClock()} {
		cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Budget: budget(t, 1, 0), MaxRetries: 1, Clock: clock}
		n := 0
		value, err := retry.Do(t.Context(), cfg, func(ctx context.Context) (int, error) {
			n++
			assert.Equal(t, n-1, retry.RetryCount(ctx))
			return n, errDown
		})
		assert.Equal(t, 2, value, "the first call's deposit paid for it")
		assert.Equal(t, 2, gaveUp(t, err, retry.ErrMaxRetries).Attempts)
		fn, calls := script(errDown)
		assert.Equal(t, 2, gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries).Attempts)
		assert.Equal(t, 2, *calls)
		value, err = retry.Do(t.Context(), cfg, func(context.Context) (int, error) { return 9, retry.Permanent(errDown) })
		assert.Equal(t, errDown, err)
		assert.Equal(t, 9, value)
	}
}
