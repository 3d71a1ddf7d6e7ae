package retry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/retryutils/retry/internal/redact"
)

// Limiter is what [Config.Limiter] must do: wait until one more attempt is due,
// or return an error if that cannot be before ctx is done. A *rate.Limiter of
// golang.org/x/time/rate is one.
type Limiter interface {
	Wait(context.Context) error
}

// waitLimiterAndGate waits for the limiter. If the gate closes meanwhile it waits for that,
// and for the limiter anew: what it had been granted was for an earlier time.
func (c *call) waitLimiterAndGate(ctx context.Context, cfg *Config) (stop bool) {
	for {
		if c.waitLimiter(ctx, cfg) {
			return true
		}
		if cfg.Gate == nil || cfg.Gate.left() == 0 {
			return c.stopIfOver(ctx, cfg, 0)
		}
		if c.stopIfVain(ctx, cfg, 0) {
			return true
		}
		if c.waitGate(ctx, cfg, cfg.Gate) {
			return true
		}
	}
}

// waitLimiter waits for the limiter, no longer than ctx and MaxElapsed allow.
func (c *call) waitLimiter(ctx context.Context, cfg *Config) (stop bool) {
	began := time.Time{}
	if cfg.tellsWaits() {
		began = cfg.now()
	}
	if c.askLimiter(ctx, cfg) && !done(ctx) {
		return true
	}
	if took := elapsedSince(cfg, began); took >= time.Millisecond {
		c.tellWait(ctx, cfg, WaitLimiter, took)
	}
	return c.stopIfOver(ctx, cfg, 0)
}

func (c *call) askLimiter(ctx context.Context, cfg *Config) (refused bool) {
	if cfg.draining() { // it may be granted at once
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, drainGrace)
		defer cancel()
	} else if cfg.Drain != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer watch(cfg.Drain, cancel)()
	}
	bound, release := c.boundLimiter(ctx, cfg)
	defer release()
	err := cfg.Limiter.Wait(bound)
	switch {
	case err == nil:
		return false
	case cfg.draining() && (bound.asked.Load() || done(bound.Context)):
		return c.stopFor(ErrDraining, nil)
	}
	return c.refusedBy(bound, err)
}

// drainGrace is how long a limiter may take to grant a first attempt that need not
// wait, once Config.Drain is closed. It is real time: a limiter knows no other.
const drainGrace = 100 * time.Millisecond

func elapsedSince(cfg *Config, began time.Time) time.Duration {
	if began.IsZero() {
		return 0
	}
	return since(cfg.Clock, began)
}

// limiterContext bounds a limiter's wait. It notes whether the limiter looked
// at the deadline: one that did, and then refuses, refuses because of it. There
// is no type to tell by: the error of a *rate.Limiter has none.
type limiterContext struct {
	context.Context
	deadline time.Time
	tighter  bool          // it is MaxElapsed that ends the wait
	left     time.Duration // until the wait is ended, when it began
	asked    atomic.Bool
}

func (l *limiterContext) Deadline() (time.Time, bool) {
	if l.deadline.IsZero() {
		return time.Time{}, false
	}
	l.asked.Store(true)
	return l.deadline, true
}

// refusedBy ends the call because of a limiter's refusal.
func (c *call) refusedBy(l *limiterContext, err error) (stop bool) {
	if !l.asked.Load() && !done(l.Context) {
		return c.stopFor(err, &limiterError{err, true})
	}
	c.ending = ending{reason: ErrDeadline, dueTo: &limiterError{err, false}, shortage: shortage{left: l.left}}
	if l.tighter {
		c.ending.reason = ErrMaxElapsed
	}
	return true
}

// boundLimiter returns the context for a limiter; the function ends it.
func (c *call) boundLimiter(ctx context.Context, cfg *Config) (*limiterContext, func()) {
	l := &limiterContext{Context: ctx}
	deadline, limited := ctx.Deadline()
	l.deadline = deadline
	if limited {
		l.left = deadline.Sub(cfg.now())
	}
	if cfg.MaxElapsed == 0 {
		return l, func() {}
	}
	left := cfg.MaxElapsed - c.elapsed(cfg)
	if l.tighter = !limited || left < l.left; l.tighter {
		l.left = left
	}
	timeout := withTimeout(ctx, cfg.Clock, max(1, left))
	l.Context = timeout
	if cfg.Clock == nil && l.tighter { // a limiter knows no clock but the real one
		l.deadline, _ = timeout.Deadline()
	}
	return l, timeout.cancel
}

// limiterError is the refusal of a Limiter.
type limiterError struct {
	err  error
	sole bool // it is the reason, and not a deadline
}

func (e *limiterError) Error() string { return "limiter: " + redact.Error(e.err) }
func (e *limiterError) Unwrap() error { return e.err }
