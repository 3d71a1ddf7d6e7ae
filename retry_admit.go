package retry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// enter waits until an attempt may begin: for the gate, then for the limiter,
// then, if WaitWhenOpen is set, for the breaker, whose pass it returns. No pass
// is held while waiting, and what is certain to be refused does not wait.
func (c *call) enter(ctx context.Context, cfg *Config) (admitted pass, stop bool) {
	if done(ctx) {
		return pass{}, c.contextEnded(ctx)
	}
	gate := cfg.Gate != nil && cfg.Gate.busy.Load()
	if gate || cfg.Breaker != nil {
		if c.stopIfVain(ctx, cfg, 0) {
			return pass{}, true
		}
	} else if c.attempts > 0 || cfg.OnStart != nil { // hooks and the wait took time
		if c.stopIfLate(ctx, cfg, 0) {
			return pass{}, true
		}
	}
	if gate {
		if c.waitGate(ctx, cfg, cfg.Gate) {
			return pass{}, true
		}
	}
	if cfg.Limiter != nil {
		if c.waitLimiterAndGate(ctx, cfg) {
			return pass{}, true
		}
	}
	if cfg.Breaker != nil {
		return c.waitForPass(ctx, cfg)
	}
	return pass{}, false
}

// waitGate waits until the Config's gate lets the call through.
func (c *call) waitGate(ctx context.Context, cfg *Config, g *Gate) (stop bool) {
	return c.waitInLine(ctx, cfg, g, WaitPause, func(wait time.Duration) bool {
		stop := c.stopIfVain(ctx, cfg, wait) || c.stopIfLate(ctx, cfg, wait)
		if stop && c.ending.dueTo == nil && wait > 0 {
			c.because(&PauseError{cfg.Name, wait, g.cause()})
		}
		return stop
	})
}

// waitInLine waits in the line of a gate for as long as check lets it. It tells of
// the wait once, and again if it became longer.
func (c *call) waitInLine(ctx context.Context, cfg *Config, g *Gate, why Why, check func(time.Duration) bool) (stop bool) {
	var told time.Time // the end of the wait, as told
	g.wait(ctx, func(ctx context.Context, wait time.Duration) error {
		if done(ctx) {
			stop = c.contextEnded(ctx)
		} else {
			stop = check(wait)
		}
		if !stop && wait > 0 && c.tellLonger(ctx, cfg, why, wait, &told) {
			stop = c.stopIfOver(ctx, cfg, 0)
		}
		if stop {
			return c.ending.reason
		}
		return nil
	})
	return stop
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
	if cfg.observed() {
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
	if cfg.Gate != nil {
		cfg.Gate.beyond.Add(1)
		defer cfg.Gate.beyond.Add(-1)
	}
	bound, release := c.boundLimiter(ctx, cfg)
	defer release()
	err := cfg.Limiter.Wait(bound)
	return err != nil && c.stopFor(bound.whyRefused(err))
}

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
	tighter  bool // it is MaxElapsed that ends the wait
	asked    atomic.Bool
}

func (l *limiterContext) Deadline() (time.Time, bool) {
	if l.deadline.IsZero() {
		return time.Time{}, false
	}
	l.asked.Store(true)
	return l.deadline, true
}

// whyRefused tells what a limiter's refusal is due to.
func (l *limiterContext) whyRefused(err error) (reason, dueTo error) {
	switch {
	case !l.asked.Load() && !done(l.Context):
		return err, &limiterError{err, true}
	case l.tighter:
		return ErrMaxElapsed, &limiterError{err, false}
	}
	return ErrDeadline, &limiterError{err, false}
}

// boundLimiter returns the context for a limiter; the function ends it.
func (c *call) boundLimiter(ctx context.Context, cfg *Config) (*limiterContext, func()) {
	l := &limiterContext{Context: ctx}
	deadline, limited := ctx.Deadline()
	l.deadline = deadline
	if cfg.MaxElapsed == 0 {
		return l, func() {}
	}
	left := cfg.MaxElapsed - c.elapsed(cfg)
	l.tighter = !limited || left < deadline.Sub(cfg.now())
	timeout := withTimeout(ctx, cfg.Clock, max(1, left))
	l.Context = timeout
	if cfg.Clock == nil && l.tighter { // a limiter knows no clock but the real one
		l.deadline, _ = timeout.Deadline()
	}
	return l, timeout.cancel
}

// waitForPass returns the breaker's pass.
func (c *call) waitForPass(ctx context.Context, cfg *Config) (admitted pass, stop bool) {
	for { //retrylint:ignore not a retry loop: it waits for the breaker
		pass, rejection := cfg.Breaker.enter(ctx, cfg)
		if rejection == nil {
			return c.recheck(ctx, cfg, pass)
		}
		if !cfg.WaitWhenOpen {
			return pass, c.stopFor(ErrCircuitOpen, rejection)
		}
		if c.waitBreaker(ctx, cfg, cfg.Breaker) {
			return pass, c.because(rejection)
		}
		if cfg.Gate != nil && cfg.Gate.left() > 0 { // closed meanwhile
			if c.waitGate(ctx, cfg, cfg.Gate) {
				return pass, true
			}
		}
	}
}

// recheck gives a probe's place back if ctx is done or time is up by now: those
// who listen to the breaker were told that it is half-open, and may have taken
// their time.
func (c *call) recheck(ctx context.Context, cfg *Config, p pass) (admitted pass, stop bool) {
	if p.probe != nil {
		if c.stopIfOver(ctx, cfg, 0) {
			cfg.Breaker.leave(ctx, cfg, p, neutral, nil)
			return pass{}, true
		}
	}
	return p, false
}

// waitBreaker waits until the breaker may let an attempt pass: exactly until its
// open time is over, or until the probe in flight has come back. Those who
// waited together for it to close go on one by one.
func (c *call) waitBreaker(ctx context.Context, cfg *Config, b *CircuitBreaker) (stop bool) {
	changed := b.join()
	defer b.quit(changed)
	var told time.Time
	for {
		left, known, blocked := b.blocked(changed)
		need := time.Duration(0)
		if known {
			need = left
		}
		if c.stopIfOver(ctx, cfg, need) {
			return true
		}
		if !blocked {
			return c.waitInLine(ctx, cfg, b.waiters.after, WaitBreaker, func(wait time.Duration) bool { return c.stopIfLate(ctx, cfg, wait) })
		}
		if c.tellLonger(ctx, cfg, WaitBreaker, need, &told) && c.stopIfOver(ctx, cfg, need) {
			return true
		}
		if limit := cfg.MaxElapsed; limit > 0 {
			left = min(left, limit-c.elapsed(cfg))
		}
		select {
		case <-c.alarm.set(cfg.Clock, left):
		case <-changed:
			c.alarm.stop()
		case <-ctx.Done():
			c.alarm.stop()
		}
	}
}

func (c *call) sleep(ctx context.Context, cfg *Config, wait time.Duration) {
	if wait <= 0 {
		return
	}
	select {
	case <-c.alarm.set(cfg.Clock, wait):
	case <-ctx.Done():
		c.alarm.stop()
	}
}

// tellLonger tells of a wait that lasts longer than it was told to, and reports
// whether it did. One whose length is not known is 0, and told once.
func (c *call) tellLonger(ctx context.Context, cfg *Config, why Why, wait time.Duration, told *time.Time) bool {
	if !cfg.observed() || wait <= 0 && !told.IsZero() {
		return false
	}
	until := cfg.now().Add(wait)
	if !until.After(*told) {
		return false
	}
	*told = until
	c.tellWait(ctx, cfg, why, wait)
	return true
}

// tellWait tells of a wait that begins, or, a limiter's, that is over.
func (c *call) tellWait(ctx context.Context, cfg *Config, why Why, wait time.Duration) {
	if cfg.Logger != nil && why != WaitBackoff && why != WaitRetryAfter { // the retry was told
		level, cause := slog.LevelDebug, error(nil)
		if why == WaitBreaker || why == WaitPause && cfg.Gate.left() > 0 {
			level = slog.LevelInfo
		}
		if why == WaitPause {
			cause = cfg.Gate.cause()
		}
		c.log(ctx, cfg, level, "waiting", cause, readable("delay", wait), slog.String("why", string(why)))
	}
	if cfg.OnWait != nil {
		cfg.OnWait(ctx, c.event(cfg, why, wait))
	}
}

// stopIfVain ends the call, and reports true, if an attempt after a wait is certain
// not to come about: there is no time for it, or the gate or the breaker will still
// hold it back.
func (c *call) stopIfVain(ctx context.Context, cfg *Config, wait time.Duration) (stop bool) {
	need := wait
	if cfg.Gate != nil {
		left := cfg.Gate.left()
		if left > cfg.maxRetryAfter() {
			return c.stopFor(ErrRetryAfterTooLong, &PauseError{cfg.Name, left, cfg.Gate.cause()})
		}
		need = max(wait, left)
	}
	if need > 0 || c.attempts > 0 || cfg.OnStart != nil { // else it comes at once
		if c.stopIfLate(ctx, cfg, need) {
			if need > wait {
				c.because(&PauseError{cfg.Name, need, cfg.Gate.cause()})
			}
			return true
		}
	}
	if b := cfg.Breaker; b != nil {
		return c.stopIfOpen(ctx, cfg, b, need)
	}
	return false
}

// stopIfOpen ends the call, and reports true, if the breaker is certain to reject
// an attempt after a wait.
func (c *call) stopIfOpen(ctx context.Context, cfg *Config, b *CircuitBreaker, wait time.Duration) (stop bool) {
	p, left := b.rejects(wait)
	switch {
	case p == nil:
		return false
	case !cfg.WaitWhenOpen:
		_, rejection := b.rejectOpen(p, left)
		return c.stopFor(ErrCircuitOpen, rejection)
	case p.open.forced: // nobody knows for how long
		return false
	}
	return c.stopIfLate(ctx, cfg, left) && c.because(b.rejection(p.open, left))
}

// stopIfOver ends the call, and reports true, if ctx is done or a wait that begins
// now does not end in time.
func (c *call) stopIfOver(ctx context.Context, cfg *Config, wait time.Duration) (stop bool) {
	if done(ctx) {
		return c.contextEnded(ctx)
	}
	return c.stopIfLate(ctx, cfg, wait)
}

// stopIfLate ends the call, and reports true, if a wait does not end before the
// deadline and MaxElapsed.
func (c *call) stopIfLate(ctx context.Context, cfg *Config, wait time.Duration) (stop bool) {
	deadline, ok := ctx.Deadline()
	if !ok && cfg.MaxElapsed == 0 {
		return false
	}
	now := cfg.now()
	if ok && wait >= deadline.Sub(now) {
		return c.stopFor(ErrDeadline, nil)
	}
	if limit := cfg.MaxElapsed; limit > 0 && wait >= limit-now.Sub(c.start) {
		return c.stopFor(ErrMaxElapsed, nil)
	}
	return false
}

// Limiter is what [Config.Limiter] must do: wait until one more attempt is due,
// or return an error if that cannot be before ctx is done. A *rate.Limiter of
// golang.org/x/time/rate is one.
type Limiter interface {
	Wait(context.Context) error
}
