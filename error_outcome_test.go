package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

func TestOutcomeGivesEveryEndALabel(t *testing.T) {
	cause := errors.New("deploy")
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	late, cancelLate := context.WithTimeoutCause(context.Background(), 0, cause)
	defer cancelLate()
	open := new(retry.CircuitBreaker)
	open.ForceOpen()
	at := func(ctx context.Context, cfg retry.Config, errs ...error) error {
		fn, _ := script(errs...)
		return retry.Run(ctx, cfg, fn)
	}
	ctx := context.Background()
	var nilError *retry.Error
	for want, errs := range map[string][]error{
		"ok":                   {nil, at(ctx, exact, nil)},
		"permanent":            {errDown, at(ctx, exact, retry.Permanent(errDown)), &retry.StatusError{StatusCode: 404}, &retry.Error{}, nilError},
		"canceled":             {at(ended, exact, nil), context.Canceled, retry.NewGate(nil).Wait(ended), &retry.Error{Reason: context.Canceled}},
		"deadline":             {at(late, exact, nil), context.DeadlineExceeded, &retry.Error{Reason: retry.ErrDeadline}},
		"max_retries":          {at(ctx, retry.Config{MaxRetries: retry.NoRetries}, errDown), &retry.Error{Reason: retry.ErrMaxRetries, Err: context.Canceled}},
		"max_elapsed":          {at(ctx, retry.Config{MaxElapsed: time.Nanosecond}, errDown)},
		"budget":               {at(ctx, retry.Config{Budget: new(retry.Budget)}, errDown)},
		"circuit_open":         {at(ctx, retry.Config{Breaker: open}, nil), open.Do(ctx, func(context.Context) error { return nil }), retry.ErrCircuitOpen},
		"paused":               {at(ctx, retry.Config{Gate: pausedFor(time.Hour)}, nil), &retry.PauseError{}},
		"retry_after_too_long": {at(ctx, exact, askFor(time.Hour)), fmt.Errorf("outer: %w", at(ctx, exact, askFor(time.Hour)))},
		"body_not_replayable":  {&retry.Error{Reason: retry.ErrBodyNotReplayable}},
		"limiter":              {at(ctx, retry.Config{Limiter: &countingLimiter{err: errDown}}, nil), at(ctx, retry.Config{Limiter: &countingLimiter{err: context.Canceled}}, nil)},
		"invalid":              {at(ctx, retry.Config{MaxDelay: -1}, nil), retry.Run(ctx, exact, nil)},
	} {
		for i, err := range errs {
			assert.Equal(t, want, retry.Outcome(err), "%s %d: %v", want, i, err)
		}
	}
}

// In an errgroup one call's error is the cause of the cancel of all others. They
// were given its label: a group with one failure counted as many.
func TestOutcomeOfACancelWithACause(t *testing.T) {
	fn, _ := script(errDown)
	open := new(retry.CircuitBreaker)
	open.ForceOpen()
	_, asks := open.Allow()
	for name, cause := range map[string]error{
		"gave up": retry.Run(t.Context(), retry.Config{MaxRetries: retry.NoRetries}, fn), "sentinel": retry.ErrMaxElapsed, "rejection": asks,
		"pause": &retry.PauseError{}, "deadline": context.DeadlineExceeded, "invalid": retry.ErrInvalidConfig, "plain": errDown,
		"with the context's error": fmt.Errorf("%w: %w", retry.ErrBudgetExhausted, context.Canceled),
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(fmt.Errorf("other call: %w", cause))
		during, cancelDuring := context.WithCancelCause(t.Context())
		for way, err := range map[string]error{
			"before":  retry.Run(ctx, retry.Config{}, fn),
			"during":  retry.Run(during, retry.Config{}, func(context.Context) error { cancelDuring(cause); return errDown }),
			"gate":    retry.NewGate(nil).Wait(ctx),
			"breaker": new(retry.CircuitBreaker).Do(ctx, none),
		} {
			assert.Equal(t, "canceled", retry.Outcome(err), "%s, %s: %v", name, way, err)
			assert.ErrorIs(t, err, cause)
			assert.ErrorIs(t, err, context.Canceled)
		}
	}
	late, cancel := context.WithTimeoutCause(t.Context(), 0, fmt.Errorf("slow: %w", context.Canceled))
	defer cancel()
	assert.Equal(t, "deadline", retry.Outcome(retry.Run(late, retry.Config{}, fn)))
	assert.Equal(t, "deadline", retry.Outcome(new(retry.CircuitBreaker).Do(late, none)))
}
