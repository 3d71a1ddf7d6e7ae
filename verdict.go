package retry

import (
	"context"
)

// verdict is what a result means to a breaker.
type verdict int

const (
	success verdict = iota
	failure
	neutral
)

func (b *CircuitBreaker) judge(err error) verdict {
	switch {
	case err == nil:
		return success
	case err == errAbandoned:
		return failure
	case isNeutral(err):
		return neutral
	case b.isFailure == nil && IsFailure(err), b.isFailure != nil && b.isFailure(err):
		return failure
	}
	return success
}

// judgeCall also knows the context: net/http returns the bare cause of a
// cancelled one, which does not look like a cancel.
func judgeCall(b *CircuitBreaker, ctx context.Context, err error) verdict {
	if err == nil {
		return success
	}
	if done(ctx) && ctx.Err() == context.Canceled && is(err, context.Cause(ctx)) {
		return neutral
	}
	return b.judge(err)
}

// isNeutral reports whether err says nothing about the dependency.
func isNeutral(err error) bool {
	return !walk(err, func(err error) bool {
		switch err.(type) {
		case *OpenError, *bodyError:
			return false
		}
		return err != context.Canceled && err != ErrCircuitOpen
	})
}

// IsFailure is the default of [BreakerConfig.IsFailure]: every error is a
// failure except a cancel, another breaker's rejection, and a [*StatusError]
// below 500, which shows a server at work.
func IsFailure(err error) bool {
	if err == nil || isNeutral(err) {
		return false
	}
	var status *StatusError
	return !as(err, &status) || status.StatusCode >= 500
}
