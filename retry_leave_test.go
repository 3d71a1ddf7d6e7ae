package retry_test

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

// wayOut is one way for a call of Do to end.
type wayOut struct {
	// fn makes attempt number n; cancel ends the caller's context.
	fn       func(ctx context.Context, n int, cancel func()) (string, error)
	onRetry  func(cancel func())
	sudden   bool // the context ends at the very instant at which the wait does
	timeout  time.Duration
	panics   any
	vanishes bool // by runtime.Goexit

	value    string
	is       []error // what errors.Is must find; none: success
	reason   error   // of the *Error, if there must be one
	attempts int
	retries  int // OnRetry events
	left     int // what is left of a budget of 2
	verdicts retry.Snapshot
}

var errCause = errors.New("the caller's cause")

func waysOut() map[string]wayOut {
	fail := func(_ context.Context, n int, _ func()) (string, error) { return "value", errDown }
	return map[string]wayOut{
		"success": {
			fn:    func(context.Context, int, func()) (string, error) { return "good", nil },
			value: "good", attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Successes: 1},
		},
		"success though cancelled": {
			fn:    func(_ context.Context, _ int, cancel func()) (string, error) { cancel(); return "good", nil },
			value: "good", attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Successes: 1},
		},
		"permanent error": {
			fn: func(_ context.Context, _ int, _ func()) (string, error) {
				return "value", retry.Permanent(errDown)
			},
			value: "value", is: []error{errDown}, attempts: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"no retries left": {
			fn: fail, value: "value", is: []error{errDown}, reason: retry.ErrMaxRetries, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2, Failures: 2},
		},
		"neutral": {
			fn:    func(context.Context, int, func()) (string, error) { return "value", context.Canceled },
			value: "value", is: []error{context.Canceled}, reason: retry.ErrMaxRetries, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2},
		},
		"attempt's timeout": {
			fn: func(ctx context.Context, _ int, _ func()) (string, error) {
				<-ctx.Done()
				return "value", ctx.Err()
			},
			timeout: time.Nanosecond,
			value:   "value", is: []error{context.DeadlineExceeded}, reason: retry.ErrMaxRetries, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2, Failures: 2},
		},
		"panic":        {fn: func(context.Context, int, func()) (string, error) { panic(errCause) }, panics: errCause, attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1}},
		"panic, later": {fn: later(func() { panic(errCause) }), panics: errCause, attempts: 2, retries: 1, left: 1, verdicts: retry.Snapshot{Requests: 2, Failures: 2}},
		"goexit":       {fn: func(context.Context, int, func()) (string, error) { runtime.Goexit(); return "", nil }, vanishes: true, attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1}},
		"goexit, later": {
			fn: later(runtime.Goexit), vanishes: true, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2, Failures: 2},
		},
		"cancel during the attempt": {
			fn: func(ctx context.Context, _ int, cancel func()) (string, error) {
				cancel()
				<-ctx.Done()
				return "value", context.Cause(ctx)
			},
			value: "value", is: []error{errCause, context.Canceled}, reason: errCause, attempts: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1},
		},
		"cancel during a failing attempt": {
			fn:    func(_ context.Context, _ int, cancel func()) (string, error) { cancel(); return "value", errDown },
			value: "value", is: []error{errCause, context.Canceled, errDown}, reason: errCause, attempts: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1},
		},
		"cancel at the instant of the timer": {
			fn: fail, sudden: true,
			value: "value", is: []error{errCause, context.Canceled, errDown}, reason: errCause, attempts: 1, retries: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"cancel inside a hook": {
			fn: fail, onRetry: func(cancel func()) { cancel() },
			value: "value", is: []error{errCause, context.Canceled, errDown}, reason: errCause, attempts: 1, retries: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"panic inside a hook": {
			fn: fail, onRetry: func(func()) { panic(errCause) }, panics: errCause,
			attempts: 1, retries: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"goexit inside a hook": {
			fn: fail, onRetry: func(func()) { runtime.Goexit() }, vanishes: true,
			attempts: 1, retries: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
	}
}

// later fails first, and leaves in the second attempt.
func later(leave func()) func(context.Context, int, func()) (string, error) {
	return func(_ context.Context, n int, _ func()) (string, error) {
		if n == 2 {
			leave()
		}
		return "value", errDown
	}
}

// patientClock ends every wait at once; suddenly with the caller's context.
type patientClock struct {
	*clockwork.FakeClock
	sudden func()
}

func (c patientClock) NewTimer(d time.Duration) clockwork.Timer {
	timer := c.FakeClock.NewTimer(d)
	c.Advance(d)
	if c.sudden != nil {
		c.sudden()
	}
	return timer
}

func (c patientClock) AfterFunc(d time.Duration, f func()) clockwork.Timer {
	timer := c.FakeClock.AfterFunc(d, f)
	if d == time.Nanosecond {
		c.Advance(d)
	}
	return timer
}

func TestEveryWayOutOfTheLoop(t *testing.T) {
	for name, w := range waysOut() {
		bubble(t, name, func(t *testing.T) { // its end finds any goroutine that is left
			ctx, stop := context.WithCancelCause(context.Background())
			cancel := func() { stop(errCause) }
			defer cancel()
			clock := patientClock{FakeClock: clockwork.NewFakeClock()}
			if w.sudden {
				clock.sudden = cancel
			}
			b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock, c.FailureThreshold = clock, 100 })
			attempts, retries, ends := 0, 0, 0
			cfg := retry.Config{
				MaxRetries: 1, Clock: clock, Breaker: b, Budget: budget(t, 0, 2), AttemptTimeout: cmp.Or(w.timeout, time.Hour),
				Gate: retry.NewGate(clock),
				OnRetry: func(context.Context, retry.Event) {
					if retries++; w.onRetry != nil {
						w.onRetry(cancel)
					}
				},
				OnDone: func(_ context.Context, e retry.Event) { ends++; assert.Equal(t, w.attempts, e.Attempt) },
			}
			value, err, returned, panicked := "", error(nil), false, any(nil)
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { panicked = recover() }()
				value, err = retry.Do(ctx, cfg, func(ctx context.Context) (string, error) {
					attempts++
					return w.fn(ctx, attempts, cancel)
				})
				returned = true
			}()
			<-done

			assert.Equal(t, w.panics, panicked)
			assert.Equal(t, w.panics == nil && !w.vanishes, returned)
			assert.Equal(t, w.attempts, attempts)
			assert.Equal(t, w.retries, retries)
			assert.Equal(t, 1, ends, "OnDone is told of every end, a panic and Goexit included")
			if returned {
				assert.Equal(t, w.value, value)
				checkShape(t, w, err)
			}
			assert.False(t, hasWaiters(clock.FakeClock), "a timer is left")
			s := b.Snapshot()
			assert.Equal(t, w.verdicts, retry.Snapshot{Requests: s.Requests, Successes: s.Successes, Failures: s.Failures})
			spent, calls := script(errDown)
			_ = retry.Run(context.Background(), retry.Config{MaxRetries: 10, Budget: cfg.Budget, Backoff: retry.ConstantBackoff(0)}, spent)
			assert.Equal(t, w.left, *calls-1, "left of the budget")
		})
	}
}

func checkShape(t *testing.T, w wayOut, err error) {
	t.Helper()
	if len(w.is) == 0 {
		assert.NoError(t, err)
	}
	for _, target := range w.is {
		assert.ErrorIs(t, err, target)
	}
	e, ok := err.(*retry.Error)
	assert.Equal(t, w.reason != nil, ok, "%T", err)
	if ok {
		assert.Equal(t, w.reason, e.Reason)
		assert.Equal(t, w.attempts, e.Attempts)
		assert.NotNil(t, e.Err, "the last failure")
	}
}

func TestEveryWayOutOfAProbe(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(cancel func()) error
		after retry.State // that it leaves behind
	}{
		"success":        {func(func()) error { return nil }, retry.StateClosed},
		"error":          {func(func()) error { return errDown }, retry.StateOpen},
		"neutral":        {func(func()) error { return context.Canceled }, retry.StateHalfOpen},
		"rejection":      {func(func()) error { return &retry.OpenError{} }, retry.StateHalfOpen},
		"cancel":         {func(cancel func()) error { cancel(); return errCause }, retry.StateHalfOpen},
		"cancel, error":  {func(cancel func()) error { cancel(); return errDown }, retry.StateHalfOpen},
		"cancel, status": {func(cancel func()) error { cancel(); return &retry.StatusError{StatusCode: 503} }, retry.StateOpen},
		"deadline":       {func(func()) error { return context.DeadlineExceeded }, retry.StateOpen},
		"panic":          {func(func()) error { panic("bang") }, retry.StateOpen},
		"goexit":         {func(func()) error { runtime.Goexit(); return nil }, retry.StateOpen},
	} {
		do := func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
			return b.Do(ctx, fn)
		}
		loop := func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
			return retry.Run(ctx, retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, fn)
		}
		for kind, run := range map[string]func(*retry.CircuitBreaker, context.Context, func(context.Context) error) error{"Do": do, "loop": loop} {
			t.Run(name+" "+kind, func(t *testing.T) {
				b, clock := newBreaker(t, nil)
				b.Trip(time.Second)
				clock.Advance(time.Second)
				ctx, stop := context.WithCancelCause(context.Background())
				defer stop(nil)
				leaveBy(func() {
					_ = run(b, ctx, func(context.Context) error { return c.leave(func() { stop(errCause) }) })
				})
				assert.Equal(t, c.after, b.State())
				clock.Advance(10 * time.Second)
				p := permit(t, b) // the place is free
				if c.after != retry.StateClosed {
					refused(t, b) // and there is only one
				}
				p.Done(nil)
				assert.Equal(t, retry.StateClosed, b.State())
				assert.False(t, hasWaiters(clock))
			})
		}
	}
}

// A call that ends while it waits for the breaker, or for the gate, holds
// nothing.
func TestWayOutOfEachWait(t *testing.T) {
	for _, name := range []string{"breaker", "gate", "limiter"} {
		bubble(t, name, func(t *testing.T) {
			clock := clockwork.NewFakeClock()
			b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
			cfg := retry.Config{Clock: clock, Breaker: b, WaitWhenOpen: true, Gate: retry.NewGate(clock)}
			switch name {
			case "breaker":
				b.Trip(time.Hour)
			case "gate":
				cfg.Gate.Pause(time.Minute)
			case "limiter":
				cfg.Limiter = hungLimiter{}
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			done := make(chan error)
			go func() { done <- retry.Run(ctx, cfg, func(context.Context) error { t.Error("called"); return nil }) }()
			synctest.Wait()
			cancel(errCause)
			e := gaveUp(t, <-done, errCause)
			assert.Zero(t, e.Attempts)
			assert.False(t, hasWaiters(clock), "a timer is left")
			assert.Zero(t, b.Snapshot().Requests, "no permit is held while waiting")
		})
	}
}

type hungLimiter struct{}

func (hungLimiter) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
