package retry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func TestCancelOfAnInnerContextIsRetried(t *testing.T) {
	fn, calls := script(context.Canceled, fmt.Errorf("inner: %w", context.DeadlineExceeded), nil)
	require.NoError(t, retry.Run(t.Context(), retry.Config{Backoff: retry.ConstantBackoff(0)}, fn))
	assert.Equal(t, 3, *calls)
}

func TestNumberOfRetries(t *testing.T) {
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
func TestLimitForOneKindOfError(t *testing.T) {
	left := 1
	cfg := retry.Config{MaxRetries: retry.Unlimited, Backoff: retry.ConstantBackoff(0), RetryIf: func(err error) bool {
		left--
		return left >= 0
	}}
	fn, calls := script(errDown)
	assert.Equal(t, errDown, retry.Run(t.Context(), cfg, fn))
	assert.Equal(t, 2, *calls)
}

func TestPermanentStopsAtOnceInOneShape(t *testing.T) {
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

func TestMarksWinOverRetryIf(t *testing.T) {
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

func TestRetryAfterIsOnlyLengthened(t *testing.T) {
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
		clock := retrytest.NewClock(t)
		start := clock.Now()
		cfg := retry.Config{Jitter: c.jitter, Rand: draw(c.draw), Clock: clock}
		waits, err := retrytest.Run(t, cfg, calling(t, retry.RetryAfter(errDown, time.Minute), nil))
		require.NoError(t, err)
		assert.Equal(t, waits.Total(), clock.Since(start))
		assert.InDelta(t, c.want, waits.Total(), 10)
	}
}

func TestRetryAfterShorterThanTheBackoffChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fn, _ := script(retry.RetryAfter(errDown, time.Millisecond), retry.RetryAfter(errDown, -time.Hour), nil)
		require.NoError(t, retry.Run(t.Context(), exact, fn))
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestRetryAfterBeyondTheTimeLeft(t *testing.T) {
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

func TestAbsurdRetryAfter(t *testing.T) {
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

func TestCauseOfARetryAfterIsReachable(t *testing.T) {
	err := retry.Run(t.Context(), retry.Config{MaxRetries: retry.NoRetries}, func(context.Context) error { return retry.RetryAfter(errDown, time.Second) })
	assert.ErrorIs(t, err, errDown)
}

// A hint keeps the place on the curve: the wait after it is what it would have
// been without.
func TestHintKeepsTheBackoffsPosition(t *testing.T) {
	waits, err := retrytest.Run(t, exact, calling(t, errDown, retry.RetryAfter(errDown, time.Minute), errDown, nil))
	require.NoError(t, err)
	assert.Equal(t, "1s backoff, 1m0s retry-after, 4s backoff", waits.String())
}

// After a 429 with Retry-After: 3600 the call that met it ended at once, and the
// next one hung for five minutes without a word: the pause had been cut to
// MaxRetryAfter, and was waited for whatever it was.
func TestNobodyWaitsForAPauseThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Name: "hgnc", Gate: retry.NewGate(nil)}
		fn, calls := script(askFor(time.Hour))
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrRetryAfterTooLong)
		assert.Equal(t, 1, e.Attempts)
		assert.ErrorContains(t, e, "1h0m0s")
		assert.ErrorContains(t, e, "5m0s")

		start := time.Now()
		time.Sleep(10 * time.Minute)
		err := retry.Run(t.Context(), cfg, fn)
		e = gaveUp(t, err, retry.ErrRetryAfterTooLong)
		assert.Zero(t, e.Attempts)
		assert.Equal(t, 1, *calls)
		assert.Equal(t, 10*time.Minute, time.Since(start))
		var pause *retry.PauseError
		require.ErrorAs(t, err, &pause)
		assert.Equal(t, 50*time.Minute, pause.RetryAfter)
		assert.Equal(t, "hgnc", pause.Name)
		assert.ErrorContains(t, pause.Err, "429")
		var status *retry.StatusError
		assert.False(t, errors.As(err, &status), "the 429 was another call's")
		assert.ErrorContains(t, err, "hgnc paused for another 50m0s")
		assert.ErrorContains(t, err, "429 Too Many Requests")

		until, _ := cfg.Gate.PausedUntil()
		time.Sleep(time.Until(until) - 5*time.Minute) // short enough now
		fn, _ = script(nil)
		assert.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, time.Hour, time.Since(start))
	})
}

// Ten calls behind a limiter of one a second used to take nine seconds, and ten
// tokens, to learn that the breaker is open; behind a pause of five minutes, five
// minutes.
func TestOpenBreakerRefusesBeforeAnyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
		require.NoError(t, err)
		b.Trip(time.Hour)
		limiter := &countingLimiter{wait: time.Second}
		for _, cfg := range []retry.Config{
			{Breaker: b, Limiter: limiter},
			{Breaker: b, Gate: pausedFor(5 * time.Minute)},
			{Breaker: b, Limiter: limiter, Gate: pausedFor(time.Minute)},
			{Breaker: b, Limiter: limiter, WaitWhenOpen: true, MaxElapsed: time.Minute},
		} {
			start := time.Now()
			for range 10 {
				fn, calls := script(nil)
				err := retry.Run(t.Context(), cfg, fn)
				assert.ErrorIs(t, err, retry.ErrCircuitOpen)
				assert.Zero(t, *calls)
			}
			assert.Zero(t, time.Since(start))
		}
		assert.Zero(t, limiter.calls, "no token is spent")
	})
}

// The open time is over before the pause is: then the pause is waited for.
func TestBreakerThatIsReadyWhenThePauseEndsIsNoReasonToRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(retry.CircuitBreaker)
		b.Trip(30 * time.Second)
		fn, _ := script(nil)
		start := time.Now()
		require.NoError(t, retry.Run(t.Context(), retry.Config{Breaker: b, Gate: pausedFor(time.Minute)}, fn))
		assert.Equal(t, time.Minute, time.Since(start))
	})
}

// A hook that takes 10s let a retry begin at 11s, with a MaxElapsed of 5s.
func TestMaxElapsedIsLookedAtBeforeEveryAttempt(t *testing.T) {
	slow := func(context.Context, retry.Event) { time.Sleep(10 * time.Second) }
	for name, change := range map[string]func(*retry.Config){
		"OnRetry":          func(c *retry.Config) { c.OnRetry = slow },
		"OnWait":           func(c *retry.Config) { c.OnWait = slow },
		"OnRetry, no wait": func(c *retry.Config) { c.OnRetry, c.Backoff = slow, retry.ConstantBackoff(0) },
		"OnWait of a gate": func(c *retry.Config) { c.OnWait, c.Gate = slow, pausedFor(time.Second) },
		"RetryIf":          func(c *retry.Config) { c.RetryIf = func(error) bool { time.Sleep(10 * time.Second); return true } },
		"a pause's hook":   func(c *retry.Config) { c.Gate = pausedFor(time.Second); c.OnWait = slow },
		"a backoff's curve": func(c *retry.Config) {
			c.Backoff = func(int, time.Duration, func() float64) time.Duration { time.Sleep(10 * time.Second); return 0 }
		},
	} {
		bubble(t, name, func(t *testing.T) {
			cfg := exact
			cfg.MaxElapsed = 5 * time.Second
			change(&cfg)
			start := time.Now()
			err := retry.Run(t.Context(), cfg, func(context.Context) error {
				assert.Less(t, time.Since(start), 5*time.Second)
				return errDown
			})
			gaveUp(t, err, retry.ErrMaxElapsed)
			assert.LessOrEqual(t, time.Since(start), 10*time.Second, "nor is a wait begun")
		})
	}
}

// An attempt that took all the time there was is the last one, also where no wait would
// follow: no retry is announced, and none is taken from the budget.
func TestNoRetryIsBegunWithoutTime(t *testing.T) {
	for name, breaker := range map[string]*retry.CircuitBreaker{"": nil, "with a breaker": new(retry.CircuitBreaker)} {
		bubble(t, name, func(t *testing.T) {
			cfg := retry.Config{MaxElapsed: time.Second, Backoff: retry.ConstantBackoff(0), Breaker: breaker, Budget: budget(t, 0, 1)}
			cfg.OnRetry = func(context.Context, retry.Event) { t.Error("announced") }
			calls := 0
			e := gaveUp(t, retry.Run(t.Context(), cfg, func(context.Context) error {
				calls++
				time.Sleep(time.Second)
				return errDown
			}), retry.ErrMaxElapsed)
			assert.Equal(t, 1, calls)
			assert.Equal(t, 1, e.Attempts)
			assert.Equal(t, 1.0, cfg.Budget.Balance())
		})
	}
}

func TestBudgetIsAskedBeforeTheWait(t *testing.T) {
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
			cfg.Gate.Pause(time.Minute) // another call was asked to
			return errDown
		}), retry.ErrDeadline)
		assert.Equal(t, 1, e.Attempts)
		assert.Zero(t, time.Since(start))
	})
}

// An open time that is over before the wait is does not end the call.
func TestShortOpenTimeIsNoReasonToStop(t *testing.T) {
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

// A MaxElapsed of next to nothing is no reason not to try: the first attempt comes
// at once, whatever the time is that a look at the clock takes.
func TestFirstAttemptComesAtOnceWhateverMaxElapsed(t *testing.T) {
	for _, cfg := range []retry.Config{{}, {Breaker: new(retry.CircuitBreaker)}, {Gate: retry.NewGate(nil)}, {AttemptTimeout: time.Hour}} {
		cfg.MaxElapsed = 1
		fn, calls := script(nil)
		assert.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, 1, *calls)
		fn, calls = script(errDown)
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
		assert.Equal(t, 1, *calls)
	}
}

// A first attempt heeds MaxElapsed where something came before it: a hook, or a
// wait, whose hook may have taken all that was left.
func TestFirstAttemptHeedsMaxElapsedAfterAWaitOrAHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Gate: retry.NewGate(nil), MaxElapsed: 5 * time.Second}
		cfg.OnWait = func(context.Context, retry.Event) { time.Sleep(10 * time.Second) }
		cfg.Gate.Pause(2 * time.Second)
		fn, calls := script(nil)
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
		assert.Zero(t, *calls)
		cfg = retry.Config{MaxElapsed: 5 * time.Second}
		cfg.OnStart = func(ctx context.Context, _ retry.Event) context.Context { time.Sleep(10 * time.Second); return ctx }
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
		assert.Zero(t, *calls)
	})
}

// A wait that was refused for lack of time says how long it was to be, and what was
// left, whatever it was for.
func TestTooLateGivesTheNumbers(t *testing.T) {
	paused := func() *retry.Gate { g := retry.NewGate(nil); g.Pause(time.Minute); return g }
	open := func() *retry.CircuitBreaker {
		b, _ := retry.NewCircuitBreaker(retry.BreakerConfig{})
		b.Trip(time.Minute)
		return b
	}
	slow := func(context.Context) error { time.Sleep(4 * time.Second); return errDown }
	for name, c := range map[string]struct {
		cfg  func() retry.Config
		fn   func(context.Context) error
		want string
	}{
		"backoff":            {func() retry.Config { return retry.Config{Backoff: retry.ConstantBackoff(30 * time.Second)} }, slow, "a wait of 30s, and 6s is left"},
		"retry-after":        {func() retry.Config { return retry.Config{} }, func(context.Context) error { return retry.RetryAfter(errDown, 20*time.Second) }, "a wait of 20s, and 10s is left"},
		"gate":               {func() retry.Config { return retry.Config{Gate: paused()} }, slow, "a wait of 1m0s, and 10s is left (paused for another 1m0s"},
		"breaker":            {func() retry.Config { return retry.Config{Breaker: open(), WaitWhenOpen: true} }, slow, "a wait of 1m0s, and 10s is left (circuit breaker"},
		"limiter":            {func() retry.Config { return retry.Config{Limiter: hungLimiter{}} }, slow, ": 10s is left (limiter: "},
		"limiter that knows": {func() retry.Config { return retry.Config{Limiter: &countingLimiter{wait: time.Hour}} }, slow, ": 10s is left"},
		"over":               {func() retry.Config { return retry.Config{} }, func(context.Context) error { time.Sleep(20 * time.Second); return errDown }, ": no time is left"},
		"just over":          {func() retry.Config { return retry.Config{} }, func(context.Context) error { time.Sleep(10 * time.Second); return errDown }, ": no time is left"},
		"nearly":             {func() retry.Config { return retry.Config{Backoff: retry.ConstantBackoff(time.Second)} }, func(context.Context) error { time.Sleep(9*time.Second + 100*time.Microsecond); return errDown }, "a wait of 1s, and 999ms is left"},
	} {
		bubble(t, name, func(t *testing.T) {
			cfg := c.cfg()
			cfg.Jitter, cfg.MaxElapsed = retry.NoJitter, 10*time.Second
			e := gaveUp(t, retry.Run(t.Context(), cfg, c.fn), retry.ErrMaxElapsed)
			assert.ErrorContains(t, e, "MaxElapsed of 10s would pass first")
			assert.ErrorContains(t, e, c.want)
			if name == "over" || name == "just over" || name == "limiter" { // the deadline itself ends it
				return
			}
			cfg = c.cfg()
			cfg.Jitter = retry.NoJitter
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			log, logger := newLog()
			cfg.Logger = logger
			e = gaveUp(t, retry.Run(ctx, cfg, c.fn), retry.ErrDeadline)
			assert.ErrorContains(t, e, "next attempt would come too late: ")
			assert.ErrorContains(t, e, c.want)
			assert.Contains(t, log.String(), "is left")
			assert.ErrorIs(t, e, context.DeadlineExceeded)
		})
	}
	bubble(t, "gate alone", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := paused().Wait(ctx)
		assert.ErrorIs(t, err, retry.ErrDeadline)
		assert.EqualError(t, err, "paused beyond the deadline: a wait of 1m0s, and 10s is left")
	})
}

var errMiss = retry.Neutral(sql.ErrNoRows)

// An error that is not retried comes back as the function returned it. One with a mark
// other than Permanent came back as a copy, which errors.Is did not find to be the same.
func TestMarkedErrorComesBackItself(t *testing.T) {
	var seen error
	cfg := retry.Config{OnAttemptDone: func(_ context.Context, e retry.Event) { seen = e.Err }}
	for name, cfg := range map[string]retry.Config{"plain": {}, "hooks": cfg} {
		err := retry.Run(t.Context(), cfg, func(context.Context) error { return errMiss })
		assert.Same(t, errMiss, err, name)
	}
	assert.Same(t, errMiss, seen)
	err := retry.Run(t.Context(), retry.Config{}, func(context.Context) error { return retry.Neutral(retry.Permanent(errDown)) })
	assert.Equal(t, retry.Neutral(errDown), err)
}
