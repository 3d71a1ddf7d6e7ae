package retry

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/retryutils/retry/internal/clock"
)

// decide decides what follows a failed attempt: a retry after the wait that it
// returns, or, if stop, the outcome, which it notes in the call.
func (c *call) decide(ctx context.Context, cfg *Config) (wait time.Duration, stop bool) {
	if c.start.IsZero() {
		c.start, c.late = cfg.now(), true
	}
	if c.progressed {
		c.before, c.backoff = c.attempts-1, 0
	}
	if cfg.Breaker == nil { // which has reported its findings
		c.found = examine(c.last, cfg.RetryStatusCodes)
	}
	hint := c.found.delay
	retryable, backoff := cfg.retryable(c.last, c.found), time.Duration(0)
	if retryable && c.failed() <= cfg.maxRetries() {
		backoff = cfg.delay(c.failed(), c.backoff)
	}
	switch {
	case cfg.Gate == nil || c.elsewhere:
	case c.found.has(refusing):
		pause := cmp.Or(hint, backoff) // without a hint, the refused call's own backoff
		r := cfg.Gate.refused(c.ticket, c.refused, pause, c.last)
		c.refused = c.ticket.Number
		if r.longer && cfg.Logger != nil {
			c.log(ctx, cfg, slog.LevelInfo, "pausing", c.last, readable("delay", min(pause, maxPause)), slog.Time("until", r.until))
		}
		if r.pace != "" && cfg.Logger != nil {
			c.log(ctx, cfg, slog.LevelInfo, r.pace, nil)
		}
	case c.progressed, c.found.has(status) && !c.found.has(failing):
		c.accepted(ctx, cfg)
	}
	switch {
	case !retryable:
		c.outcome = outcome{asIs: true}
		return 0, true
	case done(ctx):
		return 0, c.contextEnded(ctx)
	case c.failed() > cfg.maxRetries():
		return 0, c.stopFor(ErrMaxRetries, nil)
	case c.veto.reason != nil:
		c.outcome = c.veto
		return 0, true
	}
	if hint = max(hint, c.least); hint > cfg.maxRetryAfter() {
		return 0, c.stopFor(ErrRetryAfterTooLong, &tooLongError{hint, cfg.maxRetryAfter()})
	}
	c.backoff, wait = backoff, backoff
	if hint > wait {
		wait = cfg.lengthen(hint)
	}
	if c.stopIfUseless(ctx, cfg, wait) {
		return 0, true
	}
	if cfg.Budget != nil && !c.progressed {
		if !cfg.Budget.withdraw(cfg.Clock) {
			return 0, c.stopFor(ErrBudgetExhausted, nil)
		}
		c.taken = true
	}
	return wait, false
}

// accepted notes at the gate, if there is one, that the server accepted the last attempt.
func (c *call) accepted(ctx context.Context, cfg *Config) {
	if cfg.Gate == nil {
		return
	}
	if change := cfg.Gate.accepted(c.ticket, c.refused); change != "" && cfg.Logger != nil {
		c.log(ctx, cfg, slog.LevelInfo, change, nil)
	}
}

// failed is the number of attempts that count towards MaxRetries and the backoff.
func (c *call) failed() int { return c.attempts - c.before }

// outcome is why a call makes no further attempt. The methods that may decide so
// note it in the call and report true.
type outcome struct {
	asIs   bool  // the last error comes back as it is: no retry could help
	reason error // Error.Reason
	cause  error // what the reason is due to: a rejection, a pause, the context's error
	shortage
}

// stopFor ends the call for a reason.
func (c *call) stopFor(reason, cause error) bool {
	c.outcome = outcome{reason: reason, cause: cause}
	return true
}

// contextEnded ends the call because ctx is done; it must be.
func (c *call) contextEnded(ctx context.Context) bool { return c.stopFor(clock.Cause(ctx)) }

// blame notes what made the time too short, if the call ends for lack of time. It
// returns true, as the methods do that end a call.
func (c *call) blame(cause error) bool {
	if e := &c.outcome; e.reason == ErrDeadline || e.reason == ErrMaxElapsed {
		e.cause = cause
	}
	return true
}

// giveUp returns the last error as it is, or in an Error with the reason.
func (c *call) giveUp(ctx context.Context, cfg *Config) error {
	if c.outcome.asIs {
		last := c.last
		if explained, ok := last.(*limitError); ok {
			last = explained.err
		}
		last, _ = unmarked(last)
		return c.finish(ctx, cfg, last)
	}
	e := c.error(cfg, c.outcome.reason, c.outcome.cause, c.last)
	e.harmless = e.harmless && RetryCount(ctx) == 0 // else a Do around this one may have done something before
	return c.finish(ctx, cfg, e)
}

func (c *call) error(cfg *Config, reason, cause, last error) *Error {
	limit := cfg.maxRetryAfter()
	if reason == ErrMaxElapsed {
		limit = cfg.MaxElapsed
	}
	return &Error{
		Attempts: c.attempts, Elapsed: c.elapsed(cfg), Reason: reason, Err: last,
		name: cfg.Name, detail: cause, limit: limit, shortage: c.outcome.shortage, partly: c.late, harmless: c.harmless == c.attempts,
	}
}

// stopIfUseless ends the call, and reports true, if an attempt after a wait is certain
// not to come about: there is no time for it, or the gate or the breaker will still
// hold it back.
func (c *call) stopIfUseless(ctx context.Context, cfg *Config, wait time.Duration) (stop bool) {
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
				c.blame(&PauseError{cfg.Name, need, cfg.Gate.cause()})
			}
			return true
		}
	}
	if cfg.Breaker == nil {
		return false
	}
	p, left := cfg.Breaker.rejectsAfter(need)
	switch {
	case p == nil:
		return false
	case !cfg.WaitWhenOpen:
		return c.stopFor(ErrCircuitOpen, cfg.Breaker.reject(p, left))
	case p.open.forced: // for an unknown time
		return false
	}
	return c.stopIfLate(ctx, cfg, left) && c.blame(cfg.Breaker.rejection(p, left))
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
// deadline and MaxElapsed, or if neither a wait nor a retry may begin any more.
func (c *call) stopIfLate(ctx context.Context, cfg *Config, wait time.Duration) (stop bool) {
	late := c.tooLate(ctx, cfg, wait)
	if late.reason != nil {
		c.outcome = late
	}
	return late.reason != nil
}

// tooLate is the outcome of a call for which a wait is too long: for ErrDeadline, for
// ErrMaxElapsed, for ErrDraining, or for no reason if it ends in time.
func (c *call) tooLate(ctx context.Context, cfg *Config, wait time.Duration) outcome {
	if (wait > 0 || c.attempts > 0) && cfg.draining() {
		return outcome{reason: ErrDraining}
	}
	deadline, ok := ctx.Deadline()
	if !ok && cfg.MaxElapsed == 0 {
		return outcome{}
	}
	now := cfg.now()
	if left := deadline.Sub(now); ok && wait >= left {
		return outcome{reason: ErrDeadline, shortage: shortage{wait, left}}
	}
	if limit := cfg.MaxElapsed; limit > 0 {
		if left := limit - now.Sub(c.start); wait >= left {
			return outcome{reason: ErrMaxElapsed, shortage: shortage{wait, left}}
		}
	}
	return outcome{}
}

func (c *Config) draining() bool {
	select {
	case <-c.Drain:
		return true
	default:
		return false
	}
}
