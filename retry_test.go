package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
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

// calling is a call for package retrytest, of a function that fails as script says.
func calling(t testing.TB, errs ...error) func(retry.Config) error {
	fn, _ := script(errs...)
	return func(cfg retry.Config) error { return retry.Run(t.Context(), cfg, fn) }
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
			e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
			assert.Equal(t, want, *calls)
			assert.Contains(t, e.Error(), fmt.Sprintf("MaxElapsed of %v would pass first", limit), "it did not say which")
		})
	}
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

// tickingClock moves on a little each time somebody looks.
type tickingClock struct{ *clockwork.FakeClock }

func (c tickingClock) Now() time.Time {
	c.Advance(time.Millisecond)
	return c.FakeClock.Now()
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
