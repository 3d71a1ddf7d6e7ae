package retry_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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
