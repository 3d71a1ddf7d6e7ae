package retry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/retryutils/retry/internal/clock"
)

// await is the one place where a call waits before an attempt: for the delay before a
// retry, then at the gate, for the limiter and, if WaitWhenOpen is set, for the breaker,
// whose permit it returns. No permit is held while waiting, and what is certain to be
// refused does not wait.
func (c *call) await(ctx context.Context, cfg *Config, delay time.Duration) (admitted permit, stop bool) {
	if cfg.Logger != nil { // whose last line has the sum
		began := cfg.now()
		defer func() { c.waited += clock.Since(cfg.Clock, began) }()
	}
	c.sleep(ctx, cfg, delay, nil)
	if done(ctx) {
		return permit{}, c.contextEnded(ctx)
	}
	if c.stopIfUseless(ctx, cfg, 0) { // hooks and the wait took time
		return permit{}, true
	}
	if c.waitGate(ctx, cfg) {
		return permit{}, true
	}
	for cfg.Limiter != nil {
		if c.waitLimiter(ctx, cfg) {
			return permit{}, true
		}
		if cfg.Gate == nil || cfg.Gate.left() == 0 {
			break
		}
		// It closed meanwhile, and what the limiter granted was for an earlier time.
		if c.stopIfUseless(ctx, cfg, 0) || c.waitGate(ctx, cfg) {
			return permit{}, true
		}
	}
	for cfg.Breaker != nil { //retrylint:ignore not a retry loop: it waits for the breaker
		p, rejection := cfg.Breaker.admit(ctx, cfg)
		if rejection == nil {
			// The breaker's listeners, which were called when it became half-open, may have taken their time.
			if p.probe != nil && c.stopIfOver(ctx, cfg, 0) {
				cfg.Breaker.release(ctx, cfg, p)
				return permit{}, true
			}
			admitted = p
			break
		}
		if !cfg.WaitWhenOpen {
			return permit{}, c.stopFor(ErrCircuitOpen, rejection)
		}
		if c.waitBreaker(ctx, cfg, cfg.Breaker) {
			return permit{}, c.blame(rejection)
		}
		if cfg.Gate != nil && cfg.Gate.left() > 0 && c.waitGate(ctx, cfg) { // it closed meanwhile
			return permit{}, true
		}
	}
	if cfg.Gate != nil {
		c.ticket = cfg.Gate.sent()
	}
	return admitted, false
}

// sleep waits for d, or until ctx is done, the Config drains, or woken is closed; that
// may be nil.
func (c *call) sleep(ctx context.Context, cfg *Config, d time.Duration, woken <-chan struct{}) {
	if d <= 0 {
		return
	}
	select {
	case <-c.alarm.Set(cfg.Clock, d):
		return
	case <-woken:
	case <-cfg.Drain:
	case <-ctx.Done():
	}
	c.alarm.Stop()
}

// waitGate waits until the Config's gate, if it has one, lets the call through.
func (c *call) waitGate(ctx context.Context, cfg *Config) (stop bool) {
	g := cfg.Gate
	if g == nil || !g.busy.Load() { // most calls
		return false
	}
	return c.waitInQueue(ctx, cfg, g, WaitPause, func(wait time.Duration) bool {
		stop := c.stopIfUseless(ctx, cfg, wait) || c.stopIfLate(ctx, cfg, wait)
		if stop && c.outcome.cause == nil && wait > 0 {
			c.blame(&PauseError{cfg.Name, wait, g.cause()})
		}
		return stop
	})
}

// waitInQueue waits in the queue of a gate for as long as check lets it. It reports
// the wait once, and again if it became longer.
func (c *call) waitInQueue(ctx context.Context, cfg *Config, g *Gate, why Why, check func(time.Duration) bool) (stop bool) {
	var reported time.Time // the end of the wait, as last reported
	g.wait(ctx, cfg.Drain, func(ctx context.Context, wait time.Duration) error {
		if done(ctx) {
			stop = c.contextEnded(ctx)
		} else {
			stop = check(wait)
		}
		if !stop && wait > 0 && c.reportLonger(ctx, cfg, why, wait, &reported) {
			stop = c.stopIfOver(ctx, cfg, 0)
		}
		if stop {
			return c.outcome.reason
		}
		return nil
	})
	return stop
}

// waitBreaker waits until the breaker may let an attempt pass: exactly until its
// open time is over, or until the probe in flight has come back. Calls that
// waited together for it to close go on one by one.
func (c *call) waitBreaker(ctx context.Context, cfg *Config, b *CircuitBreaker) (stop bool) {
	b.join()
	defer b.quit()
	var reported time.Time
	for {
		left, known, changed := b.blocked()
		need := time.Duration(0)
		if known {
			need = left
		}
		if c.stopIfOver(ctx, cfg, need) {
			return true
		}
		if left <= 0 {
			return c.waitInQueue(ctx, cfg, b.waiters.after, WaitBreaker, func(wait time.Duration) bool { return c.stopIfLate(ctx, cfg, wait) })
		}
		if cfg.draining() {
			return c.stopFor(ErrDraining, nil)
		}
		began := cfg.now()
		if c.reportLonger(ctx, cfg, WaitBreaker, need, &reported) { // a hook took time
			took := max(0, clock.Since(cfg.Clock, began))
			if left -= took; c.stopIfOver(ctx, cfg, max(0, need-took)) {
				return true
			}
		}
		if limit := cfg.MaxElapsed; limit > 0 {
			left = min(left, limit-c.elapsed(cfg))
		}
		c.sleep(ctx, cfg, left, changed)
	}
}

// waitLimiter waits for the limiter, no longer than ctx and MaxElapsed allow.
func (c *call) waitLimiter(ctx context.Context, cfg *Config) (stop bool) {
	var began time.Time
	if cfg.reportsWaits() {
		began = cfg.now()
	}
	granted := ctx
	if cfg.draining() { // it may be granted at once
		var cancel context.CancelFunc
		granted, cancel = context.WithTimeout(ctx, drainGrace)
		defer cancel()
	} else if cfg.Drain != nil {
		var cancel context.CancelFunc
		granted, cancel = context.WithCancel(ctx)
		defer cancel()
		defer watch(cfg.Drain, cancel)()
	}
	bound := &limiterContext{Context: granted}
	var limited, tighter bool // tighter: it is MaxElapsed that ends the wait
	var left time.Duration    // until the wait is ended
	if bound.deadline, limited = granted.Deadline(); limited {
		left = bound.deadline.Sub(cfg.now())
	}
	if cfg.MaxElapsed > 0 {
		rest := cfg.MaxElapsed - c.elapsed(cfg)
		if tighter = !limited || rest < left; tighter {
			left = rest
		}
		timeout := clock.WithTimeout(granted, cfg.Clock, max(1, rest))
		defer timeout.Cancel()
		bound.Context = timeout
		if cfg.Clock == nil { // a limiter knows no clock but the real one
			bound.deadline, _ = timeout.Deadline()
		}
	}
	err := cfg.Limiter.Wait(bound)
	switch {
	case err == nil || done(ctx):
	case !bound.ended(err):
		return c.stopFor(err, &limiterError{err, true})
	case cfg.draining():
		return c.stopFor(ErrDraining, nil)
	default:
		c.outcome = outcome{reason: ErrDeadline, cause: &limiterError{err, false}, shortage: shortage{left: left}}
		if tighter {
			c.outcome.reason = ErrMaxElapsed
		}
		return true
	}
	if !began.IsZero() {
		if took := clock.Since(cfg.Clock, began); took >= time.Millisecond {
			c.reportWait(ctx, cfg, WaitLimiter, took)
		}
	}
	return c.stopIfOver(ctx, cfg, 0)
}

// drainGrace is how long a limiter may take to grant a first attempt that need not
// wait, once Config.Drain is closed. It is real time: a limiter knows no other.
const drainGrace = 100 * time.Millisecond

// limiterContext bounds a limiter's wait. It notes whether the limiter looked
// at the deadline: one that did, and then refuses, refuses because of it, unless its
// error shows what else it is: that of a connection to a limiter elsewhere, say. There
// is no type to go by: the error of a *rate.Limiter has none.
type limiterContext struct {
	context.Context
	deadline time.Time
	asked    atomic.Bool
}

func (l *limiterContext) Deadline() (time.Time, bool) {
	if l.deadline.IsZero() {
		return time.Time{}, false
	}
	l.asked.Store(true)
	return l.deadline, true
}

// ended reports whether a limiter that returned err did so for lack of time.
func (l *limiterContext) ended(err error) bool {
	own := examine(err, nil).nature != 0 && !errors.Is(err, context.DeadlineExceeded)
	return done(l.Context) || l.asked.Load() && !own
}

// watch calls cancel when the channel is closed, until the returned function is
// called.
func watch(channel <-chan struct{}, cancel func()) func() {
	over, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-channel:
			cancel()
		case <-over:
		}
	}()
	return func() {
		close(over)
		<-gone
	}
}
