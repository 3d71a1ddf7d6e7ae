package retry_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// askFor is a rejection that asks for a wait, as a server's 429 is.
func askFor(d time.Duration) error { return &retry.StatusError{StatusCode: 429, RetryAfter: d} }

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
			ctx := within(t, c.limit)
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

// The pause that a call waits for may become too long for it meanwhile, by itself or
// because of the breaker. The call ends then, and not when the first pause is over.
func TestPauseIsLengthenedDuringTheWait(t *testing.T) {
	const after = 5 * time.Second
	for name, c := range map[string]struct {
		cfg    retry.Config
		change func(retry.Config)
		reason error
		cause  any // in the error, too
	}{
		"beyond MaxRetryAfter": {retry.Config{MaxRetryAfter: time.Minute}, func(cfg retry.Config) { cfg.Gate.Pause(time.Hour) }, retry.ErrRetryAfterTooLong, new(*retry.PauseError)},
		"beyond MaxElapsed":    {retry.Config{MaxElapsed: time.Minute}, func(cfg retry.Config) { cfg.Gate.Pause(2 * time.Minute) }, retry.ErrMaxElapsed, new(*retry.PauseError)},
		"beside a breaker": {retry.Config{MaxElapsed: time.Minute, Breaker: new(retry.CircuitBreaker), WaitWhenOpen: true}, func(cfg retry.Config) {
			cfg.Breaker.Trip(2 * time.Minute)
			cfg.Gate.Pause(20 * time.Second)
		}, retry.ErrMaxElapsed, new(*retry.OpenError)},
	} {
		bubble(t, name, func(t *testing.T) {
			cfg := c.cfg
			cfg.Gate = pausedFor(10 * time.Second)
			time.AfterFunc(after, func() { c.change(cfg) })
			start := time.Now()
			fn, calls := script(nil)
			e := gaveUp(t, retry.Run(t.Context(), cfg, fn), c.reason)
			assert.ErrorAs(t, e, c.cause)
			assert.Equal(t, after, time.Since(start))
			assert.Zero(t, *calls)
		})
	}
}

// A call whose position behind others comes too late says so, with the whole time that
// it would have waited.
func TestErrorOfAPositionNamesThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Gate: pausedFor(10 * time.Second)}
		for range 100 { // 5ms apart
			go func() { _ = retry.Run(t.Context(), cfg, func(context.Context) error { return nil }) }()
		}
		synctest.Wait()
		cfg.MaxElapsed = 10*time.Second + 100*time.Millisecond
		fn, _ := script(nil)
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
		var pause *retry.PauseError
		require.ErrorAs(t, e, &pause)
		assert.Greater(t, pause.RetryAfter, cfg.MaxElapsed)
	})
}

func pausedFor(d time.Duration) *retry.Gate {
	g := retry.NewGate(nil)
	g.Pause(d)
	return g
}

// Every wait is reported with its reason, and its length where that is known.
func TestOnWaitTellsEveryWait(t *testing.T) {
	t.Run("loop", func(t *testing.T) {
		cfg := exact
		cfg.Name = "x"
		waits, err := retrytest.Run(t, cfg, calling(t, errDown, retry.RetryAfter(errDown, 10*time.Second), nil))
		require.NoError(t, err)
		require.Len(t, waits, 2)
		assert.Equal(t, retrytest.Waits{
			{Name: "x", Attempt: 1, Delay: time.Second, Why: retry.WaitBackoff, Err: errDown},
			{Name: "x", Attempt: 2, Delay: 10 * time.Second, Elapsed: time.Second, Why: retry.WaitRetryAfter, Err: waits[1].Err},
		}, waits)
	})
	t.Run("no wait", func(t *testing.T) {
		waits, err := retrytest.Run(t, retry.Config{Backoff: retry.ConstantBackoff(0)}, calling(t, errDown, nil))
		require.NoError(t, err)
		assert.Empty(t, waits)
	})
	t.Run("gate", func(t *testing.T) {
		gate := new(retry.Gate)
		waits, err := retrytest.Bubble(t, retry.Config{Gate: gate}, func(t *testing.T, cfg retry.Config) error {
			gate.Pause(time.Minute)
			time.AfterFunc(30*time.Second, func() { gate.Pause(2 * time.Minute) })
			start := time.Now()
			err := retry.Run(t.Context(), cfg, none)
			assert.Equal(t, 150*time.Second, time.Since(start))
			return err
		})
		require.NoError(t, err)
		assert.Equal(t, "1m0s pause, 2m0s pause", waits.String(), "a wait that became longer is reported again")
	})
	t.Run("breaker", func(t *testing.T) {
		clock := retrytest.NewClock(t)
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
		b.Trip(time.Minute)
		waits, err := retrytest.Run(t, retry.Config{Clock: clock, Breaker: b, WaitWhenOpen: true}, calling(t, nil))
		require.NoError(t, err)
		assert.Equal(t, retry.Event{Delay: time.Minute, Why: retry.WaitBreaker}, waits[0])
	})
	t.Run("limiter", func(t *testing.T) {
		for wait, want := range map[time.Duration]string{999 * time.Microsecond: "no waits", time.Millisecond: "1ms limiter", time.Second: "1s limiter"} {
			waits, err := retrytest.Bubble(t, retry.Config{Limiter: &countingLimiter{wait: wait}}, func(t *testing.T, cfg retry.Config) error {
				return retry.Run(t.Context(), cfg, none)
			})
			require.NoError(t, err)
			assert.Equal(t, want, waits.String(), "a wait of less than 1ms is none")
		}
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

func TestBreakerOpensInTheMiddle(t *testing.T) {
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
func TestBreakerOpensDuringTheWait(t *testing.T) {
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

func TestWaitWhenOpenSleepsExactlyUntilHalfOpen(t *testing.T) {
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
func TestWaitWhenOpenGivesUpAtOnce(t *testing.T) {
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

func TestWaitersOfAForcedBreaker(t *testing.T) {
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
		assert.Equal(t, time.Minute, time.Since(start), "no caller could know better")

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

// Two probes wait for the one place, in wait mode: neither loses, and all go on
// one by one when the breaker has closed.
func TestWaitersOfAHalfOpenBreakerFollowOneByOne(t *testing.T) {
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
func TestNextWaiterProbesWhenThePlaceIsFree(t *testing.T) {
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

// A breaker that let calls through again just after it had rejected one, before
// anybody had ever waited for it, used to crash the waiter.
func TestOpenTimeEndsBetweenTwoLooks(t *testing.T) {
	for d := time.Duration(1); d < 40; d++ {
		clock := tickingClock{clockwork.NewFakeClock()}
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
		b.Trip(d * time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // a timer that was set needs a goroutine to move the clock
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
func TestCancelAtTheMomentOfHalfOpen(t *testing.T) {
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

// It is not known how long a forced breaker stays open: the call waits as long as
// it may.
func TestBreakerForcedDuringTheAttempt(t *testing.T) {
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

// Those who wait for a half-open breaker look again whenever a probe comes back.
// Each look used to be reported as a wait of its own.
func TestWaitForABreakerIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: time.Minute, SuccessThreshold: 20})
		require.NoError(t, err)
		b.Trip(time.Second)
		var mu sync.Mutex
		reported := 0
		cfg := retry.Config{Breaker: b, WaitWhenOpen: true, OnWait: func(_ context.Context, e retry.Event) {
			mu.Lock()
			defer mu.Unlock()
			reported++
			assert.Equal(t, retry.WaitBreaker, e.Why)
		}}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				assert.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error { time.Sleep(time.Second); return nil }))
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, reported, 3*20, "for its open time, for its probes, and in line")
	})
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
// an hour; and its refusal, whose type says nothing, matched no deadline.
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
			ctx := within(t, c.deadline)
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
		// Half a second until the pause, the pause, and then the limiter again.
		assert.Equal(t, 500*time.Millisecond+time.Minute+time.Second, time.Since(start))
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

type limiterFunc func(context.Context) error

func (f limiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// full is a limiter without a free place: it waits until its context is done.
var full = limiterFunc(func(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("no place")
})

// eager is like a *rate.Limiter: it refuses at once where the deadline is too near.
func eager(wait time.Duration) limiterFunc {
	return func(ctx context.Context) error {
		deadline, ok := ctx.Deadline()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case ok && time.Until(deadline) < wait:
			return errors.New("would exceed the deadline")
		case wait == 0:
			return nil
		}
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func openBreaker(t testing.TB, open func(*retry.CircuitBreaker)) *retry.CircuitBreaker {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
	require.NoError(t, err)
	open(b)
	return b
}

// occupied is half-open, and its only probe does not come back.
func occupied(t testing.TB) *retry.CircuitBreaker {
	b := openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Nanosecond) })
	time.Sleep(time.Nanosecond)
	permit(t, b)
	return b
}

// A service that shuts down cannot wait for a backoff of minutes: whatever a call waits
// for, the wait ends when Drain is closed, or does not begin where it is closed already.
func TestDrainEndsEveryWait(t *testing.T) {
	first := func(set func(*testing.T, *retry.Config)) func(*testing.T, *retry.Config) []error {
		return func(t *testing.T, cfg *retry.Config) []error { set(t, cfg); return nil }
	}
	for name, prepare := range map[string]func(*testing.T, *retry.Config) []error{
		"backoff": func(_ *testing.T, cfg *retry.Config) []error {
			cfg.InitialDelay = time.Minute
			return []error{errDown}
		},
		"Retry-After": func(*testing.T, *retry.Config) []error { return []error{askFor(time.Minute)} },
		"own pause": func(_ *testing.T, cfg *retry.Config) []error {
			cfg.Gate = retry.NewGate(nil)
			return []error{askFor(time.Minute)}
		},
		"pause":         first(func(_ *testing.T, cfg *retry.Config) { cfg.Gate = pausedFor(time.Minute) }),
		"full limiter":  first(func(_ *testing.T, cfg *retry.Config) { cfg.Limiter = full }),
		"eager limiter": first(func(_ *testing.T, cfg *retry.Config) { cfg.Limiter = eager(time.Minute) }),
		"limiter and MaxElapsed": first(func(_ *testing.T, cfg *retry.Config) {
			cfg.Limiter, cfg.MaxElapsed = eager(time.Minute), time.Hour
		}),
		"open breaker": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Minute) }), true
		}),
		"forced breaker": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, (*retry.CircuitBreaker).ForceOpen), true
		}),
		"probe of another call": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = occupied(t), true
		}),
		"pause behind an open breaker": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Gate = pausedFor(time.Minute)
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Second) }), true
		}),
	} {
		for when, delay := range map[string]time.Duration{"during": time.Second, "before": 0} {
			bubble(t, name+" "+when, func(t *testing.T) {
				drain, log := make(chan struct{}), new(bytes.Buffer)
				cfg := retry.Config{Jitter: retry.NoJitter, Drain: drain, Budget: budget(t, 0, 3)}
				cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
				var done []retry.Event
				cfg.OnDone = func(_ context.Context, e retry.Event) { done = append(done, e) }
				failures := prepare(t, &cfg)
				fn, calls := script(append(failures, nil)...)
				if delay == 0 {
					close(drain)
				} else {
					time.AfterFunc(delay, func() { close(drain) })
				}
				start := time.Now()
				e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrDraining)
				assert.LessOrEqual(t, time.Since(start), delay+100*time.Millisecond)
				assert.Equal(t, len(failures), *calls)
				assert.Equal(t, len(failures), e.Attempts)
				assert.Equal(t, retry.ErrDraining, e.Reason)
				for _, failure := range failures {
					assert.ErrorIs(t, e, failure)
				}
				assert.Equal(t, "draining", retry.Outcome(e))
				assert.False(t, retry.Retryable(e), "an outer Do does not retry it")
				assert.False(t, retry.Retryable(fmt.Errorf("stream: %w", retry.ErrDraining)))
				assert.False(t, e.Timeout())
				assert.Equal(t, 3.0, cfg.Budget.Balance(), "what was withdrawn for a retry comes back")
				require.Len(t, done, 1)
				assert.Equal(t, e, done[0].Err)
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				assert.Contains(t, lines[len(lines)-1], `level=INFO msg="giving up"`, "a shutdown is no error")
				assert.Contains(t, lines[len(lines)-1], "reason=draining")
				if cfg.Gate != nil {
					assert.NotPanics(t, func() { cfg.Gate.Pause(time.Second) })
				}
				if cfg.Breaker != nil {
					assert.Zero(t, cfg.Breaker.Waiting(), "nothing is left in line")
				}
			})
		}
	}
}

// A handler that is finishing may need one more call, and the attempt in flight is not
// cut short: its result counts, even where the limits are asked on its way.
func TestDrainLetsFirstAttemptsPass(t *testing.T) {
	for name, set := range map[string]func(*testing.T, *retry.Config){
		"plain":      func(*testing.T, *retry.Config) {},
		"gate":       func(_ *testing.T, cfg *retry.Config) { cfg.Gate = retry.NewGate(nil) },
		"past pause": func(_ *testing.T, cfg *retry.Config) { cfg.Gate = pausedFor(time.Second); time.Sleep(time.Second) },
		"limiter":    func(_ *testing.T, cfg *retry.Config) { cfg.Limiter = eager(0) },
		"limiter, MaxElapsed and deadline": func(_ *testing.T, cfg *retry.Config) {
			cfg.Limiter, cfg.MaxElapsed = eager(0), time.Hour
		},
		"breaker": func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, func(*retry.CircuitBreaker) {}), true
		},
		"probe": func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Second) })
			time.Sleep(time.Second)
		},
		"OnStart": func(_ *testing.T, cfg *retry.Config) {
			cfg.OnStart = func(ctx context.Context, _ retry.Event) context.Context { return ctx }
		},
	} {
		bubble(t, name, func(t *testing.T) {
			drain := make(chan struct{})
			close(drain)
			cfg := retry.Config{Drain: drain}
			set(t, &cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			require.NoError(t, retry.Run(ctx, cfg, none))
			time.Sleep(time.Second)
			fn, calls := script(errDown)
			gaveUp(t, retry.Run(ctx, cfg, fn), retry.ErrDraining)
			assert.Equal(t, 1, *calls, "no retry begins")
		})
	}
	bubble(t, "in flight", func(t *testing.T) {
		drain := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(drain) })
		value, err := retry.Do(t.Context(), retry.Config{Drain: drain, AttemptTimeout: time.Minute}, func(ctx context.Context) (int, error) {
			time.Sleep(2 * time.Second)
			return 7, ctx.Err()
		})
		require.NoError(t, err)
		assert.Equal(t, 7, value)
	})
}

// What would have ended the call anyway keeps its name.
func TestDrainHidesNoOtherEnd(t *testing.T) { synctest.Test(t, testDrainHidesNoOtherEnd) }

func testDrainHidesNoOtherEnd(t *testing.T) {
	drain := make(chan struct{})
	close(drain)
	ctx, cancel := context.WithCancel(t.Context())
	for outcome, call := range map[string]func(retry.Config) error{
		"permanent": func(cfg retry.Config) error {
			return retry.Run(ctx, cfg, func(context.Context) error { return retry.Permanent(errDown) })
		},
		"max_retries": func(cfg retry.Config) error {
			cfg.MaxRetries = retry.NoRetries
			return retry.Run(ctx, cfg, func(context.Context) error { return errDown })
		},
		"limiter": func(cfg retry.Config) error {
			cfg.Limiter = limiterFunc(func(context.Context) error { return errDown })
			return retry.Run(ctx, cfg, none)
		},
		"circuit_open": func(cfg retry.Config) error {
			cfg.Breaker = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Hour) })
			return retry.Run(ctx, cfg, none)
		},
		"canceled": func(cfg retry.Config) error {
			ctx, cancel := context.WithCancel(ctx)
			return retry.Run(ctx, cfg, func(context.Context) error { cancel(); return errDown })
		},
	} {
		assert.Equal(t, outcome, retry.Outcome(call(retry.Config{Drain: drain})))
	}
	cancel()
}

// A hook that is called before a wait may be what closes Drain.
func TestDrainClosedByAHook(t *testing.T) {
	for name, hook := range map[string]func(*retry.Config, func(context.Context, retry.Event)){
		"OnRetry": func(cfg *retry.Config, f func(context.Context, retry.Event)) { cfg.OnRetry = f },
		"OnWait":  func(cfg *retry.Config, f func(context.Context, retry.Event)) { cfg.OnWait = f },
	} {
		bubble(t, name, func(t *testing.T) {
			drain := make(chan struct{})
			cfg := retry.Config{Drain: drain}
			hook(&cfg, func(context.Context, retry.Event) { close(drain) })
			fn, calls := script(errDown)
			start := time.Now()
			gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrDraining)
			assert.Equal(t, 1, *calls)
			assert.Zero(t, time.Since(start))
		})
	}
}

// A crowd at a gate leaves it at once.
func TestDrainEmptiesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := make(chan struct{})
		gate := pausedFor(time.Minute)
		finished := make(chan error, 100)
		for range cap(finished) {
			go func() { finished <- retry.Run(t.Context(), retry.Config{Gate: gate, Drain: drain}, none) }()
		}
		synctest.Wait()
		start := time.Now()
		close(drain)
		for range cap(finished) {
			assert.ErrorIs(t, <-finished, retry.ErrDraining)
		}
		assert.Zero(t, time.Since(start))
	})
}

// A Transport keeps the contract of net/http: the response that would have been retried
// is returned, its body unread; a client returns the error with the status inside.
func TestDrainOfRequests(t *testing.T) {
	drain := make(chan struct{})
	close(drain)
	script := retrytest.NewScript(t, retrytest.Status(503, "busy"), retrytest.Status(503, "busy"), retrytest.Status(200, "ok"))
	cfg := retry.Config{Drain: drain}
	transport, err := retry.NewTransport(script, cfg)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: transport}).Get("http://genes.test/")
	require.NoError(t, err)
	assert.Equal(t, 503, resp.StatusCode)
	resp.Body.Close()
	client, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg)
	require.NoError(t, err)
	_, err = client.Get(t.Context(), "http://genes.test/")
	gaveUp(t, err, retry.ErrDraining)
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	resp, err = client.Get(t.Context(), "http://other.test/") // the first host is paused
	require.NoError(t, err, "first attempts are still made")
	resp.Body.Close()
}

// A stream that breaks off while the process drains is not resumed, though it progressed.
func TestDrainResumesNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := make(chan struct{})
		script := retrytest.NewScript(t, retrytest.Status(200, "begin"))
		client, err := retry.NewRetryableClient(&http.Client{Transport: script}, retry.Config{Drain: drain})
		require.NoError(t, err)
		err = retry.Resume(t.Context(), client, func(ctx context.Context) (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodGet, "http://genes.test/", nil)
		}, func(resp *http.Response) (progressed bool, err error) {
			close(drain)
			return true, errDown
		})
		e := gaveUp(t, err, retry.ErrDraining)
		assert.ErrorIs(t, e, errDown)
		assert.Equal(t, 1, e.Attempts)
	})
}

// What is left of the time is counted from the start of the call, also for the waits of
// later attempts: at the limiter, and for a breaker that is open for an unknown time.
func TestLaterWaitsEndWithMaxElapsed(t *testing.T) {
	for name, c := range map[string]struct {
		limiter  retry.Limiter
		force    bool
		deadline time.Duration
		reason   error
		took     time.Duration // 0: all of it
	}{
		"limiter":           {limiter: hungLimiter{}, reason: retry.ErrMaxElapsed},
		"limiter, deadline": {limiter: hungLimiter{}, deadline: 10 * time.Second, reason: context.DeadlineExceeded},
		"both, at once":     {limiter: &countingLimiter{wait: time.Hour}, deadline: 10 * time.Second, reason: retry.ErrDeadline, took: 4 * time.Second},
		"breaker":           {force: true, reason: retry.ErrMaxElapsed},
	} {
		bubble(t, name, func(t *testing.T) {
			ctx := within(t, c.deadline)
			cfg := retry.Config{Backoff: retry.ConstantBackoff(0), MaxElapsed: 10 * time.Second, Breaker: new(retry.CircuitBreaker), WaitWhenOpen: true}
			waits := 0
			cfg.Limiter = limiterFunc(func(ctx context.Context) error {
				if waits++; waits == 1 || c.limiter == nil {
					return nil
				}
				return c.limiter.Wait(ctx)
			})
			start := time.Now()
			err := retry.Run(ctx, cfg, func(context.Context) error {
				time.Sleep(4 * time.Second)
				if c.force {
					cfg.Breaker.ForceOpen()
				}
				return errDown
			})
			gaveUp(t, err, c.reason)
			assert.Equal(t, cmp.Or(c.took, 10*time.Second), time.Since(start))
			if c.reason == retry.ErrMaxElapsed && !c.force {
				assert.ErrorContains(t, err, "6s is left")
			}
		})
	}
}

// A process that was stopped until its time was over, and the pause as well, does not
// blame the pause.
func TestPauseThatIsOverIsNotBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := clockwork.NewFakeClock()
		cfg := retry.Config{Clock: clock, Gate: retry.NewGate(clock), MaxElapsed: 10 * time.Second}
		cfg.Gate.Pause(time.Second)
		ended := make(chan error)
		go func() { ended <- retry.Run(t.Context(), cfg, none) }()
		synctest.Wait()
		clock.Advance(20 * time.Second)
		err := <-ended
		gaveUp(t, err, retry.ErrMaxElapsed)
		var pause *retry.PauseError
		assert.NotErrorAs(t, err, &pause)
	})
}

// A call that waited for the breaker has passed the gate already: it takes no other turn
// of its pace.
func TestWaitForABreakerTakesOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Breaker: new(retry.CircuitBreaker), WaitWhenOpen: true, Gate: retry.NewGate(nil)}
		cfg.Gate.Pause(time.Second)
		time.AfterFunc(1100*time.Millisecond, func() { cfg.Breaker.Trip(500 * time.Millisecond) })
		time.Sleep(time.Second)
		require.NoError(t, cfg.Gate.Wait(t.Context()))
		time.Sleep(100 * time.Millisecond)
		cfg.Breaker.Trip(500 * time.Millisecond)
		require.NoError(t, retry.Run(t.Context(), cfg, none))
		start := time.Now()
		require.NoError(t, cfg.Gate.Wait(t.Context()))
		assert.Zero(t, time.Since(start), "the crowd's next turn has long come")
	})
}

// The log has a wait for a pause or a breaker at INFO, and one for a position in the queue,
// or for the limiter, at DEBUG.
func TestLevelsOfWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := func(cfg retry.Config) string {
			log, logger := newLog()
			cfg.Logger = logger
			require.NoError(t, retry.Run(t.Context(), cfg, none))
			return log.String()
		}
		gate := retry.NewGate(nil)
		gate.Pause(time.Second)
		assert.Regexp(t, `level=INFO msg=waiting .*delay=1s why=pause`, line(retry.Config{Gate: gate}))
		assert.Regexp(t, `level=DEBUG msg=waiting .*delay=5ms why=pause`, line(retry.Config{Gate: gate}))
		breaker := new(retry.CircuitBreaker)
		breaker.Trip(time.Second)
		assert.Regexp(t, `level=INFO msg=waiting .*delay=1s why=breaker`, line(retry.Config{Breaker: breaker, WaitWhenOpen: true}))
		assert.Regexp(t, `level=DEBUG msg=waiting .*delay=1s why=limiter`, line(retry.Config{Limiter: slowLimiter{}}))
	})
}

// driftingClock goes on between two readings, each time by more than before.
type driftingClock struct {
	clockwork.Clock
	readings atomic.Int64
}

func (c *driftingClock) Now() time.Time {
	n := c.readings.Add(1)
	return c.Clock.Now().Add(time.Duration(n * n))
}

// The end of a breaker's wait is the clock's time and what is left of it. Time passes
// between the two, so that the same wait, looked at twice, may seem to end a little later:
// it was reported again, and OnWait had a wait twice that was waited once.
func TestBreakerWaitIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drifting := &driftingClock{Clock: clockwork.NewRealClock()}
		breaker := must2(retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: time.Millisecond, Clock: drifting}))
		reports := 0
		err := retry.Run(t.Context(), retry.Config{
			MaxRetries: 1, Backoff: retry.ConstantBackoff(1), Breaker: breaker, WaitWhenOpen: true, Clock: drifting,
			OnWait: func(_ context.Context, e retry.Event) {
				if e.Why == retry.WaitBreaker {
					reports++
				}
			},
		}, func(ctx context.Context) error {
			if retry.RetryCount(ctx) == 0 {
				return errors.New("down")
			}
			return nil
		})
		if err != nil || reports != 1 {
			t.Errorf("%v, with %d reports, want 1", err, reports)
		}
	})
}

// A hook that takes time takes it from the wait that it is notified of. The time was added
// to it: a call went on as much later than the pause or the open time ended, or gave up
// because the whole wait, counted from the end of the hook, was too long.
func TestSlowHookDelaysNoWait(t *testing.T) {
	for name, closed := range map[string]func() retry.Config{
		"gate": func() retry.Config {
			gate := retry.NewGate(nil)
			gate.Pause(10 * time.Second)
			return retry.Config{Gate: gate, MaxElapsed: 12 * time.Second}
		},
		"breaker": func() retry.Config {
			breaker := new(retry.CircuitBreaker)
			breaker.Trip(10 * time.Second)
			return retry.Config{Breaker: breaker, WaitWhenOpen: true, MaxElapsed: 12 * time.Second}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, start := closed(), time.Now()
				cfg.OnWait = func(context.Context, retry.Event) { time.Sleep(5 * time.Second) }
				assert.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error { return nil }))
				assert.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

// remoteLimiter asks another process, which is down.
type remoteLimiter struct{ err error }

func (l remoteLimiter) Wait(ctx context.Context) error {
	_, cancel := context.WithTimeout(ctx, time.Second) // looks at the deadline, as clients of a network do
	cancel()
	return l.err
}

// A limiter that asks another process looks at the deadline before it does. When that
// process was down, a call with a deadline ended as one without time, though it had an
// hour; without a deadline, the same failure was the limiter's.
func TestLimiterThatIsDownIsNotTooSlow(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, limit := range []time.Duration{0, time.Hour} {
		cfg := retry.Config{MaxElapsed: limit, Limiter: remoteLimiter{refused}}
		err := retry.Run(within(t, limit), cfg, func(context.Context) error { return nil })
		gaveUp(t, err, refused)
		assert.Equal(t, "limiter", retry.Outcome(err), "%v", err)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
	}
	cfg := retry.Config{Limiter: remoteLimiter{fmt.Errorf("no turn: %w", context.DeadlineExceeded)}}
	err := retry.Run(within(t, time.Hour), cfg, func(context.Context) error { return nil })
	assert.Equal(t, "deadline", retry.Outcome(err), "%v", err)
}
