package retry

import (
	"context"
	"fmt"
	"time"
)

// judge decides what follows a failed attempt: a retry after a wait, or why not.
func (c *call) judge(ctx context.Context, cfg *Config) (time.Duration, bool) {
	if c.start.IsZero() {
		c.start, c.late = cfg.now(), true
	}
	var found findings
	found.add(c.last, false)
	hint := found.hint()
	if cfg.Gate != nil && hint > 0 && found.throttled() {
		c.pauseGate(ctx, cfg, hint)
	}
	switch {
	case !cfg.retryable(c.last, &found):
		return 0, c.keepError()
	case done(ctx):
		return 0, c.contextEnded(ctx)
	case c.attempts > cfg.maxRetries():
		return 0, c.stopFor(ErrMaxRetries, nil)
	case hint > cfg.maxRetryAfter():
		return 0, c.stopFor(ErrRetryAfterTooLong, &tooLongError{hint, cfg.maxRetryAfter()})
	}
	c.backoff = cfg.delay(c.attempts, c.backoff)
	wait := c.backoff
	if hint > wait {
		wait = cfg.lengthen(hint)
	}
	if c.stopIfVain(ctx, cfg, wait) {
		return 0, true
	}
	if cfg.Budget != nil {
		if !cfg.Budget.withdraw() {
			return 0, c.stopFor(ErrBudgetExhausted, nil)
		}
		c.taken = true
	}
	return wait, false
}

// retryable judges an error by its marks, then by RetryIf.
func (c *Config) retryable(err error, found *findings) bool {
	if c.RetryIf == nil || found.permanent || found.marked != nil && !found.ended {
		return found.retryable(c.RetryStatusCodes)
	}
	return c.RetryIf(err)
}

// ending is why a call makes no further attempt. The methods that may decide so
// note it in the call and report true.
type ending struct {
	asIs   bool  // the last error comes back as it is: no retry could help
	reason error // Error.Reason
	dueTo  error // what the reason is due to: a rejection, a pause, the context's error
}

// stopFor ends the call for a reason.
func (c *call) stopFor(reason, dueTo error) bool {
	c.ending = ending{reason: reason, dueTo: dueTo}
	return true
}

// keepError ends the call with the last error as it is.
func (c *call) keepError() bool {
	c.ending = ending{asIs: true}
	return true
}

// contextEnded ends the call because ctx is done; it must be.
func (c *call) contextEnded(ctx context.Context) bool { return c.stopFor(causeOf(ctx)) }

// because notes what made the time too short, if the call ends for lack of time. It
// reports true, to be returned.
func (c *call) because(cause error) bool {
	if e := &c.ending; e.reason == ErrDeadline || e.reason == ErrMaxElapsed {
		e.dueTo = cause
	}
	return true
}

// tooLongError tells how long a server asked a call to wait, and its limit.
type tooLongError struct{ asked, limit time.Duration }

func (e *tooLongError) Error() string {
	return fmt.Sprintf("server asks for a wait of %v, and MaxRetryAfter is %v", roughly(e.asked), e.limit)
}

// limiterError is the refusal of a Limiter.
type limiterError struct {
	err  error
	sole bool // it is the reason, and not a deadline
}

func (e *limiterError) Error() string { return "limiter: " + redacted(e.err) }
func (e *limiterError) Unwrap() error { return e.err }
