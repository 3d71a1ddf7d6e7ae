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
func (c *call) enter(ctx context.Context, cfg *Config) (pass, halt) {
	if done(ctx) {
		return pass{}, haltOf(ctx)
	}
	gate := cfg.Gate != nil && cfg.Gate.busy.Load()
	if gate || cfg.Breaker != nil || c.attempts > 0 || cfg.OnStart != nil {
		if stop := c.pays(ctx, cfg, 0); stop.reason != nil {
			return pass{}, stop
		}
	}
	if gate {
		if stop := c.waitAt(ctx, cfg, cfg.Gate); stop.reason != nil {
			return pass{}, stop
		}
	}
	if cfg.Limiter != nil {
		if stop := c.limited(ctx, cfg); stop.reason != nil {
			return pass{}, stop
		}
	}
	if cfg.Breaker != nil {
		return c.admitted(ctx, cfg)
	}
	return pass{}, halt{}
}

// waitAt waits until the Config's gate lets the call through.
func (c *call) waitAt(ctx context.Context, cfg *Config, g *Gate) halt {
	return c.waitIn(ctx, cfg, g, WaitPause, func(wait time.Duration) halt {
		stop := c.pays(ctx, cfg, wait)
		if stop.reason == nil {
			stop = c.inTime(ctx, cfg, wait)
		}
		if stop.detail == nil && wait > 0 {
			stop = stop.dueTo(&PauseError{cfg.Name, wait, g.cause()})
		}
		return stop
	})
}

// waitIn waits in the line of a gate, as long as fits has no objection. It tells
// of the wait once, and again if it became longer.
func (c *call) waitIn(ctx context.Context, cfg *Config, g *Gate, why Why, fits func(time.Duration) halt) (stop halt) {
	var told time.Time // the end of the wait, as told
	g.wait(ctx, func(ctx context.Context, wait time.Duration) error {
		if done(ctx) {
			stop = haltOf(ctx)
		} else {
			stop = fits(wait)
		}
		if stop.reason != nil || wait <= 0 || !cfg.observed() {
			return stop.reason
		}
		if until := cfg.now().Add(wait); until.After(told) {
			told = until
			c.tellWait(ctx, cfg, why, wait)
			stop = c.fits(ctx, cfg, 0)
		}
		return stop.reason
	})
	return stop
}

// limited waits for the limiter. If the gate closes meanwhile it waits for that,
// and for the limiter anew: what it had been granted was for an earlier time.
func (c *call) limited(ctx context.Context, cfg *Config) halt {
	for {
		if stop := c.waitLimiter(ctx, cfg); stop.reason != nil {
			return stop
		}
		if cfg.Gate == nil || cfg.Gate.left() == 0 {
			return c.fits(ctx, cfg, 0)
		}
		if stop := c.pays(ctx, cfg, 0); stop.reason != nil {
			return stop
		}
		if stop := c.waitAt(ctx, cfg, cfg.Gate); stop.reason != nil {
			return stop
		}
	}
}

// waitLimiter waits for the limiter, no longer than ctx and MaxElapsed allow.
func (c *call) waitLimiter(ctx context.Context, cfg *Config) halt {
	began := time.Time{}
	if cfg.observed() {
		began = cfg.now()
	}
	stop, err := c.askLimiter(ctx, cfg)
	if err != nil && !done(ctx) {
		return stop
	}
	if took := elapsedSince(cfg, began); took >= time.Millisecond {
		c.tellWait(ctx, cfg, WaitLimiter, took)
	}
	return c.fits(ctx, cfg, 0)
}

func (c *call) askLimiter(ctx context.Context, cfg *Config) (halt, error) {
	bound, release := c.limiterContext(ctx, cfg)
	defer release()
	err := cfg.Limiter.Wait(bound)
	return bound.judge(err), err
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

// judge tells what a limiter's refusal is due to.
func (l *limiterContext) judge(err error) halt {
	switch {
	case err == nil:
		return halt{}
	case !l.asked.Load() && !done(l.Context):
		return halt{err, &limiterError{err, true}}
	case l.tighter:
		return halt{ErrMaxElapsed, &limiterError{err, false}}
	}
	return halt{ErrDeadline, &limiterError{err, false}}
}

// limiterContext must be released.
func (c *call) limiterContext(ctx context.Context, cfg *Config) (*limiterContext, func()) {
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

// admitted returns the breaker's pass.
func (c *call) admitted(ctx context.Context, cfg *Config) (pass, halt) {
	for { //retrylint:ignore it waits for the breaker by its own clock, as the loop of Do is made of
		pass, rejection := cfg.Breaker.enter(ctx, cfg)
		if rejection == nil {
			return c.stillFits(ctx, cfg, pass)
		}
		if !cfg.WaitWhenOpen {
			return pass, halt{ErrCircuitOpen, rejection}
		}
		if stop := c.waitFor(ctx, cfg, cfg.Breaker); stop.reason != nil {
			return pass, stop.dueTo(rejection)
		}
		if cfg.Gate != nil && cfg.Gate.left() > 0 { // closed meanwhile
			if stop := c.waitAt(ctx, cfg, cfg.Gate); stop.reason != nil {
				return pass, stop
			}
		}
	}
}

// stillFits gives a probe's place back if ctx is done or time is up by now: those
// who listen to the breaker were told that it is half-open, and may have taken
// their time.
func (c *call) stillFits(ctx context.Context, cfg *Config, p pass) (pass, halt) {
	if p.probe != nil {
		if stop := c.fits(ctx, cfg, 0); stop.reason != nil {
			cfg.Breaker.leave(ctx, cfg, p, neutral, nil)
			return pass{}, stop
		}
	}
	return p, halt{}
}

// waitFor waits until the breaker may let an attempt pass: exactly until its
// open time is over, or until the probe in flight has come back. Those who
// waited together for it to close go on one by one.
func (c *call) waitFor(ctx context.Context, cfg *Config, b *CircuitBreaker) halt {
	changed := b.join()
	defer b.quit(changed)
	for {
		left, known, blocked := b.blocked(changed)
		need := time.Duration(0)
		if known {
			need = left
		}
		if stop := c.fits(ctx, cfg, need); stop.reason != nil {
			return stop
		}
		if !blocked {
			return c.waitIn(ctx, cfg, b.waiters.after, WaitBreaker, func(wait time.Duration) halt { return c.inTime(ctx, cfg, wait) })
		}
		c.tellWait(ctx, cfg, WaitBreaker, need)
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
	select {
	case <-c.alarm.set(cfg.Clock, wait):
	case <-ctx.Done():
		c.alarm.stop()
	}
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

// pays tells why a wait would be in vain: there is no time for it, or the gate or
// the breaker will certainly still hold the attempt back when it is over.
func (c *call) pays(ctx context.Context, cfg *Config, wait time.Duration) halt {
	need := wait
	if cfg.Gate != nil {
		left := cfg.Gate.left()
		if left > cfg.maxRetryAfter() {
			return halt{ErrRetryAfterTooLong, &PauseError{cfg.Name, left, cfg.Gate.cause()}}
		}
		need = max(wait, left)
	}
	if need > 0 || c.attempts > 0 || cfg.OnStart != nil { // else it comes at once
		if stop := c.inTime(ctx, cfg, need); stop.reason != nil {
			if need > wait {
				stop = stop.dueTo(&PauseError{cfg.Name, need, cfg.Gate.cause()})
			}
			return stop
		}
	}
	if b := cfg.Breaker; b != nil {
		return c.passable(ctx, cfg, b, need)
	}
	return halt{}
}

// passable tells why the breaker will certainly reject an attempt after a wait.
func (c *call) passable(ctx context.Context, cfg *Config, b *CircuitBreaker, wait time.Duration) halt {
	p, left := b.rejects(wait)
	switch {
	case p == nil:
		return halt{}
	case !cfg.WaitWhenOpen:
		_, rejection := b.rejectOpen(p, left)
		return halt{ErrCircuitOpen, rejection}
	case p.open.forced: // nobody knows for how long
		return halt{}
	}
	return c.inTime(ctx, cfg, left).dueTo(b.rejection(p.open, left))
}

// fits tells why a wait that begins now cannot pay: ctx is done, or the wait does
// not end in time.
func (c *call) fits(ctx context.Context, cfg *Config, wait time.Duration) halt {
	if done(ctx) {
		return haltOf(ctx)
	}
	return c.inTime(ctx, cfg, wait)
}

// inTime tells whether a wait ends before the deadline and MaxElapsed.
func (c *call) inTime(ctx context.Context, cfg *Config, wait time.Duration) halt {
	deadline, ok := ctx.Deadline()
	if !ok && cfg.MaxElapsed == 0 {
		return halt{}
	}
	now := cfg.now()
	if ok && wait >= deadline.Sub(now) {
		return halt{reason: ErrDeadline}
	}
	if limit := cfg.MaxElapsed; limit > 0 && wait >= limit-now.Sub(c.start) {
		return halt{reason: ErrMaxElapsed}
	}
	return halt{}
}

// Limiter is what [Config.Limiter] must do: wait until one more attempt is due,
// or return an error if that cannot be before ctx is done. A *rate.Limiter of
// golang.org/x/time/rate is one.
type Limiter interface {
	Wait(context.Context) error
}
