package retry

import (
	"cmp"
	"context"
)

// Labels of [Outcome].
const (
	outcomeOK                = "ok"
	outcomePermanent         = "permanent"
	outcomeCanceled          = "canceled"
	outcomeDeadline          = "deadline"
	outcomeMaxRetries        = "max_retries"
	outcomeMaxElapsed        = "max_elapsed"
	outcomeBudget            = "budget"
	outcomeCircuitOpen       = "circuit_open"
	outcomePaused            = "paused"
	outcomeRetryAfterTooLong = "retry_after_too_long"
	outcomeNotReplayable     = "body_not_replayable"
	outcomeNotIdempotent     = "not_idempotent"
	outcomeLimiter           = "limiter"
	outcomeInvalid           = "invalid"
	outcomeAbandoned         = "abandoned"
)

// Outcome returns a label for how a call ended, given the error that [Do], a
// request or [CircuitBreaker.Do] returned: for metrics, and stable.
//
//	ok                    no error
//	permanent             an error that was not worth a retry
//	canceled, deadline    the context ended it, or would have during a wait
//	max_retries, max_elapsed, budget
//	                      a limit of the Config or its Budget
//	circuit_open          a breaker rejected it
//	paused                a pause of the Gate lasts longer than it may wait
//	retry_after_too_long  the server asked for more than MaxRetryAfter
//	body_not_replayable   the request's body could not be sent again
//	not_idempotent        the request may have been carried out, and must not be twice
//	limiter               the Limiter refused
//	invalid               a setting or an argument is wrong
//	abandoned             it panicked or called runtime.Goexit: in a hook only
func Outcome(err error) string {
	if err == nil {
		return outcomeOK
	}
	label := ""
	walk(err, func(err error) bool {
		switch e := err.(type) {
		case *Error:
			if e != nil {
				label = e.outcome()
			}
		case *endedError:
			label = labelOf(e.err)
		}
		return label == ""
	})
	return cmp.Or(label, labelOf(err))
}

func (e *Error) outcome() string {
	switch d := e.detail.(type) {
	case *PauseError, *OpenError:
		return labelOf(e.detail)
	case *limiterError:
		if d.sole {
			return outcomeLimiter
		}
	}
	if e.detail == context.Canceled || e.detail == context.DeadlineExceeded {
		return labelOf(e.detail) // its cause is the user's own, and may be the error of another call
	}
	return labelOf(e.Reason)
}

// labelOf is the label of an error that is not an [*Error].
func labelOf(err error) string {
	for _, known := range []struct {
		err   error
		label string
	}{
		{ErrMaxRetries, outcomeMaxRetries},
		{ErrMaxElapsed, outcomeMaxElapsed},
		{ErrBudgetExhausted, outcomeBudget},
		{ErrCircuitOpen, outcomeCircuitOpen},
		{ErrRetryAfterTooLong, outcomeRetryAfterTooLong},
		{ErrBodyNotReplayable, outcomeNotReplayable},
		{ErrNotIdempotent, outcomeNotIdempotent},
		{ErrInvalidConfig, outcomeInvalid},
		{errAbandoned, outcomeAbandoned},
	} {
		if is(err, known.err) {
			return known.label
		}
	}
	var pause *PauseError
	var body *bodyError
	switch {
	case as(err, &pause):
		return outcomePaused
	case as(err, &body):
		return outcomeNotReplayable
	case is(err, context.Canceled):
		return outcomeCanceled
	case is(err, context.DeadlineExceeded):
		return outcomeDeadline
	}
	return outcomePermanent
}
