package retry

import (
	"context"
	"fmt"
	"time"
)

// judge decides what follows a failed attempt: a retry after a wait, or why not.
func (c *call) judge(ctx context.Context, cfg *Config) (time.Duration, decision) {
	if c.start.IsZero() {
		c.start = cfg.now()
	}
	found := examine(c.last)
	hint := found.hint()
	if cfg.Gate != nil && hint > 0 && found.throttled() {
		c.close(ctx, cfg, hint)
	}
	switch {
	case !cfg.retryable(c.last, &found):
		return 0, decision{stop: true, asIs: true}
	case done(ctx):
		return 0, ended(ctx)
	case c.attempts > cfg.maxRetries():
		return 0, stopFor(ErrMaxRetries, nil)
	case hint > cfg.maxRetryAfter():
		return 0, stopFor(ErrRetryAfterTooLong, &tooLongError{hint, cfg.maxRetryAfter()})
	}
	c.backoff = cfg.delay(c.attempts, c.backoff)
	wait := c.backoff
	if hint > wait {
		wait = cfg.lengthen(hint)
	}
	if next := c.checkAhead(ctx, cfg, wait); next.stop {
		return 0, next
	}
	if cfg.Budget != nil {
		if !cfg.Budget.withdraw() {
			return 0, stopFor(ErrBudgetExhausted, nil)
		}
		c.taken = true
	}
	return wait, decision{}
}

// retryable judges an error by its marks, then by RetryIf.
func (c *Config) retryable(err error, found *findings) bool {
	if c.RetryIf == nil || found.permanent || found.marked != nil && !found.ended {
		return found.retryable(c.RetryStatusCodes)
	}
	return c.RetryIf(err)
}

// decision says whether a call goes on, and what its Error tells if not. The
// zero value is to go on.
type decision struct {
	stop   bool
	asIs   bool  // the last error comes back as it is: no retry could help
	reason error // Error.Reason
	dueTo  error // what the reason is due to: a rejection, a pause, the context's error
}

// stopFor ends a call for a reason.
func stopFor(reason, dueTo error) decision {
	return decision{stop: true, reason: reason, dueTo: dueTo}
}

// because adds what made time too short.
func (d decision) because(cause error) decision {
	if d.reason == ErrDeadline || d.reason == ErrMaxElapsed {
		d.dueTo = cause
	}
	return d
}

// ended tells why ctx is done; it must be.
func ended(ctx context.Context) decision {
	cause, err := causeOf(ctx)
	return stopFor(cause, err)
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
