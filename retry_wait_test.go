package retry_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// waits keeps what OnWait is told.
type waits []retry.Event

func (w *waits) note(_ context.Context, e retry.Event) { *w = append(*w, e) }

func (w waits) reasons() (whys []retry.Why) {
	for _, e := range w {
		whys = append(whys, e.Why)
	}
	return whys
}

// askFor is a rejection that asks for a wait, as a server's 429 is.
func askFor(d time.Duration) error { return &retry.StatusError{StatusCode: 429, RetryAfter: d} }

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

// A server may ask for a year. It gets an hour.
func TestServersPauseIsAnHourAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Gate: retry.NewGate(nil)}
		fn, _ := script(retry.RetryAfter(errDown, 365*24*time.Hour))
		_ = retry.Run(t.Context(), cfg, fn)
		until, _ := cfg.Gate.PausedUntil()
		assert.Equal(t, time.Hour, time.Until(until))
	})
}

// Where a pause is longer than there is time, the error names the pause.
func TestErrorOfAPauseNamesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Gate: retry.NewGate(nil), MaxElapsed: time.Second}
		cfg.Gate.Pause(time.Minute)
		fn, _ := script(nil)
		for _, c := range []struct {
			limit  time.Duration
			reason error
		}{{0, retry.ErrMaxElapsed}, {500 * time.Millisecond, retry.ErrDeadline}} {
			ctx := t.Context()
			if c.limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.limit)
				defer cancel()
			}
			start := time.Now()
			err := retry.Run(ctx, cfg, fn)
			gaveUp(t, err, c.reason)
			var pause *retry.PauseError
			require.ErrorAs(t, err, &pause)
			assert.Equal(t, time.Minute, pause.RetryAfter)
			assert.ErrorContains(t, err, "paused for another 1m0s")
			assert.Equal(t, "paused", retry.Outcome(err))
			assert.Zero(t, time.Since(start))
		}
	})
}

// Ten calls behind a limiter of one a second used to take nine seconds, and ten
// tokens, to hear that the breaker is open; behind a pause of five minutes, five
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

func pausedFor(d time.Duration) *retry.Gate {
	g := retry.NewGate(nil)
	g.Pause(d)
	return g
}

// countingLimiter waits, or refuses if the deadline is too near, as a
// *rate.Limiter does.
type countingLimiter struct {
	wait  time.Duration
	calls int
	err   error
}

var errTooLate = errors.New("rate: Wait(n=1) would exceed context deadline")

func (l *countingLimiter) Wait(ctx context.Context) error {
	l.calls++
	if l.err != nil {
		return l.err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < l.wait {
		return errTooLate
	}
	select {
	case <-time.After(l.wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// With MaxElapsed of 2s a limiter that would wait an hour was waited for, for
// an hour; and its refusal, whose type tells nothing, matched no deadline.
func TestLimiterIsBoundedByTheCallsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		cfg      retry.Config
		deadline time.Duration
		limiter  retry.Limiter
		reason   error
		took     time.Duration
		outcome  string
	}{
		"MaxElapsed":         {retry.Config{MaxElapsed: 2 * time.Second}, 0, &countingLimiter{wait: time.Hour}, retry.ErrMaxElapsed, 0, "max_elapsed"},
		"deadline":           {retry.Config{}, 2 * time.Second, &countingLimiter{wait: time.Hour}, context.DeadlineExceeded, 0, "deadline"},
		"MaxElapsed, deaf":   {retry.Config{MaxElapsed: 2 * time.Second}, 0, hungLimiter{}, retry.ErrMaxElapsed, 2 * time.Second, "max_elapsed"},
		"deadline, deaf":     {retry.Config{}, 2 * time.Second, hungLimiter{}, context.DeadlineExceeded, 2 * time.Second, "deadline"},
		"the earlier of two": {retry.Config{MaxElapsed: time.Minute}, 2 * time.Second, &countingLimiter{wait: time.Hour}, retry.ErrDeadline, 0, "deadline"},
		"the other earlier":  {retry.Config{MaxElapsed: time.Second}, time.Minute, &countingLimiter{wait: time.Hour}, retry.ErrMaxElapsed, 0, "max_elapsed"},
		"other refusal":      {retry.Config{MaxElapsed: time.Minute}, time.Minute, &countingLimiter{err: errDown}, errDown, 0, "limiter"},
		"no limits":          {retry.Config{}, 0, &countingLimiter{err: errDown}, errDown, 0, "limiter"},
	} {
		bubble(t, name, func(t *testing.T) {
			ctx := t.Context()
			if c.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
				defer cancel()
			}
			cfg := c.cfg
			cfg.Limiter = c.limiter
			fn, calls := script(nil)
			start := time.Now()
			err := retry.Run(ctx, cfg, fn)
			gaveUp(t, err, c.reason)
			assert.Equal(t, c.took, time.Since(start))
			assert.Zero(t, *calls)
			assert.Equal(t, c.outcome, retry.Outcome(err), "%v", err)
			if c.reason != errDown && c.took == 0 {
				assert.ErrorIs(t, err, errTooLate, "the refusal is not lost")
			}
		})
	}
}

// On a fake clock MaxElapsed ends a limiter's wait by that clock, and a limiter
// that compares deadlines with the real time is not led astray.
func TestLimiterOnAFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := clockwork.NewFakeClockAt(time.Date(1984, 1, 1, 0, 0, 0, 0, time.UTC))
		cfg := retry.Config{Clock: clock, MaxElapsed: time.Minute, Limiter: &countingLimiter{wait: time.Second}}
		fn, _ := script(nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))

		cfg.Limiter = hungLimiter{}
		done := make(chan error)
		go func() { done <- retry.Run(t.Context(), cfg, fn) }()
		synctest.Wait()
		clock.Advance(time.Minute)
		gaveUp(t, <-done, retry.ErrMaxElapsed)
		assert.False(t, hasWaiters(clock))
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

// stuck is done, and has no error: a context written by hand, between two lines.
type stuck struct{ context.Context }

func (stuck) Done() <-chan struct{} { ch := make(chan struct{}); close(ch); return ch }
func (stuck) Err() error            { return nil }

// Run used to loop a million times on such a context, because no reason to stop
// was found.
func TestContextThatIsDoneWithoutAnErrorCountsAsCancelled(t *testing.T) {
	ctx := stuck{context.Background()}
	for _, cfg := range []retry.Config{{}, {Gate: retry.NewGate(nil)}, {Breaker: new(retry.CircuitBreaker)}, {OnDone: func(context.Context, retry.Event) {}}} {
		fn, calls := script(errDown)
		gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
		assert.Zero(t, *calls)
	}
	assert.ErrorIs(t, retry.NewGate(nil).Wait(ctx), context.Canceled)
	assert.ErrorIs(t, new(retry.CircuitBreaker).Do(ctx, func(context.Context) error { t.Error("called"); return nil }), context.Canceled)
}

// A source of random numbers outside of [0, 1) made waits longer than the
// jitter allows, up to the ceiling.
func TestRandOutOfRangeStaysInTheJittersRange(t *testing.T) {
	for _, random := range []float64{-1, -0.1, 1, 1.5, 100, math.Inf(1), math.Inf(-1), math.NaN()} {
		for name, cfg := range map[string]retry.Config{
			"default":      {},
			"full":         {Jitter: retry.FullJitter},
			"at ceiling":   {InitialDelay: time.Minute},
			"decorrelated": {Backoff: retry.DecorrelatedBackoff(time.Second), Jitter: retry.NoJitter},
		} {
			cfg.Rand = draw(0)
			low := cfg.Delay(1)
			cfg.Rand = draw(math.Nextafter(1, 0))
			high := cfg.Delay(1)
			cfg.Rand = draw(random)
			assert.GreaterOrEqual(t, cfg.Delay(1), low, "%s %v", name, random)
			assert.LessOrEqual(t, cfg.Delay(1), high, "%s %v", name, random)
		}
		synctest.Test(t, func(t *testing.T) {
			var w waits
			fn, _ := script(retry.RetryAfter(errDown, 100*time.Second), nil)
			require.NoError(t, retry.Run(t.Context(), retry.Config{Rand: draw(random), OnWait: w.note}, fn))
			assert.GreaterOrEqual(t, w[0].Delay, 100*time.Second)
			assert.LessOrEqual(t, w[0].Delay, 110*time.Second)
		})
	}
}

// Every wait is told with its reason, and its length where that is known.
func TestOnWaitTellsEveryWait(t *testing.T) {
	bubble(t, "loop", func(t *testing.T) {
		var w waits
		cfg := exact
		cfg.Name, cfg.OnWait = "x", w.note
		fn, _ := script(errDown, retry.RetryAfter(errDown, 10*time.Second), nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, waits{
			{Name: "x", Attempt: 1, Delay: time.Second, Why: retry.WaitBackoff, Err: errDown},
			{Name: "x", Attempt: 2, Delay: 10 * time.Second, Elapsed: time.Second, Why: retry.WaitRetryAfter, Err: w[1].Err},
		}, w)
	})
	bubble(t, "no wait", func(t *testing.T) {
		var w waits
		fn, _ := script(errDown, nil)
		require.NoError(t, retry.Run(t.Context(), retry.Config{Backoff: retry.ConstantBackoff(0), OnWait: w.note}, fn))
		assert.Empty(t, w)
	})
	bubble(t, "gate", func(t *testing.T) {
		var w waits
		cfg := retry.Config{Gate: pausedFor(time.Minute), OnWait: w.note}
		time.AfterFunc(30*time.Second, func() { cfg.Gate.Pause(2 * time.Minute) })
		fn, _ := script(nil)
		start := time.Now()
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
		require.Len(t, w, 2, "a wait that became longer is told again")
		assert.Equal(t, time.Minute, w[0].Delay)
		assert.Equal(t, 2*time.Minute, w[1].Delay)
		assert.Equal(t, []retry.Why{retry.WaitPause, retry.WaitPause}, w.reasons())
		assert.Equal(t, 150*time.Second, time.Since(start))
	})
	bubble(t, "breaker", func(t *testing.T) {
		var w waits
		b := new(retry.CircuitBreaker)
		b.Trip(time.Minute)
		fn, _ := script(nil)
		require.NoError(t, retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true, OnWait: w.note}, fn))
		require.NotEmpty(t, w)
		assert.Equal(t, retry.Event{Delay: time.Minute, Why: retry.WaitBreaker}, w[0])
	})
	bubble(t, "limiter", func(t *testing.T) {
		var w waits
		for _, wait := range []time.Duration{999 * time.Microsecond, time.Millisecond, time.Second} {
			fn, _ := script(nil)
			require.NoError(t, retry.Run(t.Context(), retry.Config{Limiter: &countingLimiter{wait: wait}, OnWait: w.note}, fn))
		}
		require.Len(t, w, 2, "a wait of less than 1ms is none")
		assert.Equal(t, retry.Event{Delay: time.Millisecond, Elapsed: time.Millisecond, Why: retry.WaitLimiter}, w[0])
		assert.Equal(t, time.Second, w[1].Delay)
	})
	bubble(t, "cancelled by the hook", func(t *testing.T) {
		for _, cfg := range []retry.Config{{}, {Gate: pausedFor(time.Minute)}} {
			ctx, cancel := context.WithCancel(t.Context())
			cfg.OnWait = func(context.Context, retry.Event) { cancel() }
			fn, _ := script(errDown)
			start := time.Now()
			gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
			assert.Zero(t, time.Since(start))
		}
	})
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

// A listener that took its time over the news that the breaker is half-open had
// the probe begin after MaxElapsed, or after a cancel.
func TestTimeAndContextAreLookedAtAfterTheBreakersListeners(t *testing.T) {
	for name, waiting := range map[string]bool{"at once": false, "waiting": true} {
		bubble(t, name, func(t *testing.T) {
			var slow func()
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{OnStateChange: func(s retry.StateChange) {
				if s.To == retry.StateHalfOpen {
					slow()
				}
			}})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			for reason, act := range map[error]func(){
				retry.ErrMaxElapsed: func() { time.Sleep(10 * time.Second) },
				context.Canceled:    cancel,
			} {
				slow = act
				b.Reset()
				b.Trip(time.Second)
				if !waiting {
					time.Sleep(time.Second)
				}
				fn, calls := script(nil)
				call := t.Context()
				if reason == context.Canceled {
					call = ctx
				}
				cfg := retry.Config{Breaker: b, WaitWhenOpen: waiting, MaxElapsed: 5 * time.Second}
				gaveUp(t, retry.Run(call, cfg, fn), reason)
				assert.Zero(t, *calls)
				assert.NoError(t, retry.Run(t.Context(), retry.Config{Breaker: b}, none), "the place is free")
			}
		})
	}
}

// A limiter that panicked, or left by Goexit, left the timer of MaxElapsed behind.
func TestLimiterThatDoesNotReturnLeavesNoTimer(t *testing.T) {
	clock := clockwork.NewFakeClock()
	for name, limiter := range map[string]retry.Limiter{"panic": panicking{}, "Goexit": leaving{}} {
		leaveBy(func() {
			_ = retry.Run(t.Context(), retry.Config{Clock: clock, MaxElapsed: time.Hour, Limiter: limiter}, none)
		})
		assert.False(t, hasWaiters(clock), name)
	}
}

type leaving struct{}

func (leaving) Wait(context.Context) error { runtime.Goexit(); return nil }
