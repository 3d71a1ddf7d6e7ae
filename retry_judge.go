package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// judge decides what follows a failed attempt: a retry after a wait, or why not.
func (c *call) judge(ctx context.Context, cfg *Config) (time.Duration, halt) {
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
		return 0, halt{reason: errAsIs}
	case done(ctx):
		return 0, haltOf(ctx)
	case c.attempts > cfg.maxRetries():
		return 0, halt{reason: ErrMaxRetries}
	case hint > cfg.maxRetryAfter():
		return 0, halt{ErrRetryAfterTooLong, &tooLongError{hint, cfg.maxRetryAfter()}}
	}
	c.backoff = cfg.delay(c.attempts, c.backoff)
	wait := c.backoff
	if hint > wait {
		wait = cfg.lengthen(hint)
	}
	if stop := c.pays(ctx, cfg, wait); stop.reason != nil {
		return 0, stop
	}
	if cfg.Budget != nil {
		if !cfg.Budget.withdraw() {
			return 0, halt{reason: ErrBudgetExhausted}
		}
		c.taken = true
	}
	return wait, halt{}
}

// retryable judges an error by its marks, then by RetryIf.
func (c *Config) retryable(err error, found *findings) bool {
	if c.RetryIf == nil || found.permanent || found.marked != nil && !found.ended {
		return found.retryable(c.RetryStatusCodes)
	}
	return c.RetryIf(err)
}

// halt is a decision not to make another attempt, for the fields of an Error.
// Its zero value decides nothing.
type halt struct {
	reason error
	detail error
}

// dueTo adds what made time too short: a breaker's rejection or a pause.
func (h halt) dueTo(cause error) halt {
	if h.reason == ErrDeadline || h.reason == ErrMaxElapsed {
		h.detail = cause
	}
	return h
}

// errAsIs is the reason for returning an error as it came.
var errAsIs = errors.New("not retryable")

// haltOf tells why ctx is done; it must be.
func haltOf(ctx context.Context) halt {
	cause, err := causeOf(ctx)
	return halt{cause, err}
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
