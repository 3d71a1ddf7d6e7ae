package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestErrorText(t *testing.T) {
	secret := &url.Error{Op: "Get", URL: "https://user:pass@host/a?key=SECRET&TOKEN#frag", Err: errDown}
	for want, err := range map[string]error{
		"retry: no retries left after 3 attempts: down":                                       &retry.Error{Attempts: 3, Reason: retry.ErrMaxRetries, Err: errDown},
		"retry: context canceled after 0 attempts":                                            &retry.Error{Reason: context.Canceled},
		"retry: MaxElapsed would pass first after 0 attempts":                                 &retry.Error{Reason: retry.ErrMaxElapsed},
		"retry: next attempt would come too late: context deadline exceeded after 0 attempts": &retry.Error{Reason: retry.ErrDeadline},
		"retry: no retries left after 1 attempt in 12.3s: d":                                  &retry.Error{Attempts: 1, Elapsed: 12345 * time.Millisecond, Reason: retry.ErrMaxRetries, Err: errors.New("d")},
		"retry: no retries left after 1 attempt in 12ms: d":                                   &retry.Error{Attempts: 1, Elapsed: 12345 * time.Microsecond, Reason: retry.ErrMaxRetries, Err: errors.New("d")},
		`retry: no retries left after 1 attempt: Get "https://xxxxx@host/a?key=xxxxx&xxxxx": down`: &retry.Error{
			Attempts: 1, Reason: retry.ErrMaxRetries, Err: secret},
		`retry: no retries left after 1 attempt: Get "http:xxxxx": down`: &retry.Error{
			Attempts: 1, Reason: retry.ErrMaxRetries, Err: &url.Error{Op: "Get", URL: "http://h:port/?key=SECRET", Err: errDown}},
	} {
		assert.EqualError(t, err, want)
	}
	e := &retry.Error{Reason: retry.ErrMaxRetries, Err: &url.Error{Op: "Get", URL: "http://h/", Err: context.DeadlineExceeded}}
	assert.True(t, e.Timeout(), "its last attempt ran out of time")
	assert.False(t, (&retry.Error{Reason: retry.ErrMaxRetries, Err: errDown}).Timeout())
}

// %+v of what a call gave up with shows the body of the response, which often says
// what is wrong, as that of the response's own error does; nothing else shows it.
func TestErrorShowsTheBody(t *testing.T) {
	status := &retry.StatusError{StatusCode: 503, Method: "GET", URL: "https://h.example/?key=SECRET", Body: []byte("quota\nexceeded"), Header: http.Header{"A": {"SECRET"}}}
	for _, inner := range []error{status, fmt.Errorf("get: %w", status), errors.Join(errDown, status)} {
		e := &retry.Error{Attempts: 2, Reason: retry.ErrMaxRetries, Err: inner}
		assert.Equal(t, e.Error()+": quota exceeded", fmt.Sprintf("%+v", e))
		for _, verb := range []string{"%v", "%s", "%q", "%#v"} {
			assert.NotContains(t, fmt.Sprintf(verb, e), "exceeded", verb)
		}
		assert.NotContains(t, fmt.Sprintf("%v %+v %s %q %#v", e, e, e, e, e), "SECRET")
	}
	e := &retry.Error{Attempts: 2, Reason: retry.ErrMaxRetries, Err: errDown}
	assert.Equal(t, e.Error(), fmt.Sprintf("%+v", e))
	assert.Equal(t, "<nil> <nil>", fmt.Sprintf("%v %+v", (*retry.Error)(nil), (*retry.Error)(nil)))
}

// Permanent around Permanent left a mark, which an outer Do then obeyed.
func TestPermanentLeavesNoMark(t *testing.T) {
	run := func(err error) error {
		return retry.Run(t.Context(), retry.Config{}, func(context.Context) error { return err })
	}
	assert.Equal(t, errDown, run(retry.Permanent(retry.Permanent(errDown))))
	assert.Equal(t, retry.Neutral(errDown), run(retry.Permanent(retry.Neutral(retry.Permanent(errDown)))))
	assert.Equal(t, retry.RetryAfter(errDown, 1), run(retry.Permanent(retry.RetryAfter(errDown, 1))))
	for _, err := range []error{retry.Permanent(retry.Permanent(errDown)), retry.Neutral(retry.Permanent(errDown))} {
		assert.True(t, retry.Retryable(run(err)), "the Do around this one is free to retry")
	}
	wrapped := fmt.Errorf("outer: %w", retry.Permanent(errDown))
	assert.Equal(t, wrapped, run(wrapped))
	assert.Nil(t, retry.Permanent(nil))
	assert.Nil(t, retry.Neutral(nil))
	assert.EqualError(t, retry.Neutral(errDown), "down")
	assert.ErrorIs(t, retry.Neutral(errDown), errDown)
}

// Neutral changes nothing in the loop.
func TestNeutralIsRetriedAsTheErrorWouldBe(t *testing.T) {
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), MaxRetries: 2}
	fn, calls := script(retry.Neutral(errDown))
	gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
	assert.Equal(t, 3, *calls)
	for _, err := range []error{retry.Neutral(retry.Permanent(errDown)), retry.Permanent(retry.Neutral(errDown)), retry.Neutral(&retry.StatusError{StatusCode: 404})} {
		fn, calls = script(err)
		assert.Error(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, 1, *calls)
	}
}

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
	once, err := http.NewRequest("PUT", "http://host.example/", strings.NewReader("body"))
	require.NoError(t, err)
	once.GetBody = func() (io.ReadCloser, error) { return nil, errDown }
	_, notReplayed := outcomeClient(t, &http.Client{Transport: answering(503)}, soon).Do(once)
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
		"body_not_replayable":  {&retry.Error{Reason: retry.ErrBodyNotReplayable}, notReplayed},
		"not_idempotent":       {&retry.Error{Reason: retry.ErrNotIdempotent}},
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

// A wait is shown with the digits that a reader needs, also a short one.
func TestErrorShowsShortWaits(t *testing.T) {
	for asked, want := range map[time.Duration]string{
		1234567 * time.Microsecond: "1.235s", 12345678 * time.Microsecond: "12.3s", 1234567: "1.235ms", 12345: "12µs", 1234: "1.234µs",
	} {
		err := retry.Run(t.Context(), retry.Config{MaxRetryAfter: 1}, func(context.Context) error { return retry.RetryAfter(errDown, asked) })
		assert.ErrorContains(t, err, "a wait of "+want+",")
	}
}

// What opened a breaker or set a pause is named, unless it is what the call itself failed
// with, which the text has anyway.
func TestErrorNamesTheFailureOfOthersOnce(t *testing.T) {
	for _, other := range []error{errDown, errCause} {
		for name, cfg := range map[string]retry.Config{
			"breaker": {Breaker: new(retry.CircuitBreaker)}, "pause": {Gate: retry.NewGate(nil), MaxRetryAfter: time.Minute},
		} {
			err := retry.Run(t.Context(), cfg, func(context.Context) error {
				if cfg.Breaker != nil {
					report(t, cfg.Breaker, 5, other)
				} else {
					_ = retry.Run(t.Context(), retry.Config{Gate: cfg.Gate}, func(context.Context) error { return retry.RetryAfter(other, 10*time.Minute) })
				}
				return errDown
			})
			assert.Equal(t, 1, strings.Count(err.Error(), other.Error()), "%s: %v", name, err)
			assert.Equal(t, 1, strings.Count(err.Error(), errDown.Error()), "%s: %v", name, err)
		}
	}
}

// The body of a response is for %+v alone, and nothing of a nil pointer is looked at.
func TestErrorShowsTheBodyForOneVerb(t *testing.T) {
	status := &retry.StatusError{StatusCode: 503, Body: []byte("in maintenance")}
	err := &retry.Error{Attempts: 1, Reason: retry.ErrMaxRetries, Err: status}
	assert.Contains(t, fmt.Sprintf("%+v", err), "in maintenance")
	for _, format := range []string{"%v", "%s", "%+s", "%q", "%+q"} {
		assert.NotContains(t, fmt.Sprintf(format, err), "in maintenance", format)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, err := range []error{(*retry.Error)(nil), &retry.Error{Attempts: 1, Reason: retry.ErrMaxRetries, Err: fmt.Errorf("x: %w", (*retry.StatusError)(nil))}} {
			assert.NotContains(t, fmt.Sprintf(format, err), "PANIC", format)
		}
	}
}

// A mark of RetryAfter without a time is no refusal of a server: no other call pauses.
func TestRetryAfterZeroPausesNothing(t *testing.T) {
	cfg := retry.Config{Gate: retry.NewGate(nil), Backoff: retry.ConstantBackoff(time.Millisecond)}
	cfg.OnRetry = func(context.Context, retry.Event) {
		_, paused := cfg.Gate.PausedUntil()
		assert.False(t, paused)
	}
	fn, calls := script(retry.RetryAfter(errDown, 0), retry.RetryAfter(errDown, -time.Hour), nil)
	require.NoError(t, retry.Run(t.Context(), cfg, fn))
	assert.Equal(t, 3, *calls)
}

// Without anything that needs the time, a call reads the clock when its first attempt has
// failed. The waits before that are not in Elapsed either, which was not said.
func TestElapsedBeginsAfterTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := retry.NewGate(nil)
		gate.Pause(10 * time.Second)
		fn := func(context.Context) error { time.Sleep(time.Second); return errDown }
		cfg := retry.Config{Gate: gate, MaxRetries: 1, Backoff: retry.ConstantBackoff(0)}
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
		assert.Equal(t, time.Second, e.Elapsed)
		assert.NotContains(t, e.Error(), " in ")
		cfg.OnDone = func(context.Context, retry.Event) {}
		gate.Pause(10 * time.Second)
		e = gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
		assert.Equal(t, 12*time.Second, e.Elapsed)
	})
}
