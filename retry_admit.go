package retry

import (
	"context"
	"log/slog"
	"time"
)

// awaitTurn waits until an attempt may begin: for the gate, then for the limiter,
// then, if WaitWhenOpen is set, for the breaker, whose pass it returns. No pass
// is held while waiting, and what is certain to be refused does not wait.
func (c *call) awaitTurn(ctx context.Context, cfg *Config) (admitted permit, stop bool) {
	if done(ctx) {
		return permit{}, c.contextEnded(ctx)
	}
	gate := cfg.Gate != nil && cfg.Gate.busy.Load()
	if gate || cfg.Breaker != nil {
		if c.stopIfVain(ctx, cfg, 0) {
			return permit{}, true
		}
	} else if c.attempts > 0 || cfg.OnStart != nil { // hooks and the wait took time
		if c.stopIfLate(ctx, cfg, 0) {
			return permit{}, true
		}
	}
	if gate {
		if c.waitGate(ctx, cfg, cfg.Gate) {
			return permit{}, true
		}
	}
	if cfg.Limiter != nil {
		if c.waitLimiterAndGate(ctx, cfg) {
			return permit{}, true
		}
	}
	if cfg.Breaker != nil {
		admitted, stop = c.waitForPass(ctx, cfg)
	}
	if cfg.Gate != nil && !stop {
		c.ticket = cfg.Gate.sent()
	}
	return admitted, stop
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
	g.wait(ctx, cfg.Drain, func(ctx context.Context, wait time.Duration) error {
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

// waitForPass returns the breaker's pass.
func (c *call) waitForPass(ctx context.Context, cfg *Config) (admitted permit, stop bool) {
	for { //retrylint:ignore not a retry loop: it waits for the breaker
		pass, rejection := cfg.Breaker.admit(ctx, cfg)
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
func (c *call) recheck(ctx context.Context, cfg *Config, p permit) (admitted permit, stop bool) {
	if p.probe != nil {
		if c.stopIfOver(ctx, cfg, 0) {
			cfg.Breaker.release(ctx, cfg, p)
			return permit{}, true
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
		if cfg.draining() {
			return c.stopFor(ErrDraining, nil)
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
		case <-cfg.Drain:
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
	case <-cfg.Drain:
		c.alarm.stop()
	case <-ctx.Done():
		c.alarm.stop()
	}
}

// tellLonger tells of a wait that lasts longer than it was told to, and reports
// whether it did. One whose length is not known is 0, and told once.
func (c *call) tellLonger(ctx context.Context, cfg *Config, why Why, wait time.Duration, told *time.Time) bool {
	if !cfg.tellsWaits() || wait <= 0 && !told.IsZero() {
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
