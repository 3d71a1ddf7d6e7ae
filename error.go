package retry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/valid"
)

// Reasons for giving up, as found in [Error.Reason]. ErrDeadline also matches
// [context.DeadlineExceeded]: the context's deadline would pass before the next
// attempt.
var (
	ErrMaxRetries        = errors.New("no retries left")
	ErrMaxElapsed        = errors.New("MaxElapsed would pass first")
	ErrDeadline          = fmt.Errorf("next attempt would come too late: %w", context.DeadlineExceeded)
	ErrBudgetExhausted   = errors.New("retry budget exhausted")
	ErrCircuitOpen       = errors.New("circuit breaker open")
	ErrRetryAfterTooLong = errors.New("server asks for a longer wait than MaxRetryAfter")
	ErrBodyNotReplayable = errors.New("request body cannot be sent again")
	ErrNotIdempotent     = errors.New("request may have been carried out, and is not idempotent: not repeated")
	ErrDraining          = errors.New("draining")
)

// ErrInvalidConfig is matched by every error about a setting or argument that
// cannot be used.
var ErrInvalidConfig = errors.New("retry: invalid")

// invalid reports a wrong argument.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidConfig, fmt.Errorf(format, args...))
}

// Error says why [Do] gave up on an error that it would otherwise have retried.
// Reason and Err, and whatever they wrap, are found by [errors.Is] and
// [errors.As]; so is [context.Canceled] or [context.DeadlineExceeded] where the
// context ended the call, whatever its cause, and the [*OpenError] of a breaker
// or the [*PauseError] of a gate that did. [MayHaveActed] says whether a request may
// have been carried out in spite of it.
type Error struct {
	// Attempts is how often the function was called; 0 if it never was.
	Attempts int

	// Elapsed is the time since the start of the call. If the Config has no
	// MaxElapsed, AttemptTimeout, Clock, Logger or hook, it does not include the
	// first attempt and the waits before it, so that calls that succeed at once need
	// not read the clock. For a request it always does; after redirects, it is the
	// last request's alone.
	Elapsed time.Duration

	Reason error // one of the Err… variables, the context's cause, or what a Limiter returned
	Err    error // what the last attempt returned; nil if there was none

	name   string
	detail error         // what the reason is due to: see reasonText; or the context's error beside its cause
	limit  time.Duration // MaxElapsed, where that is the reason, or MaxRetryAfter
	shortage
	partly   bool // Elapsed does not cover the first attempt
	harmless bool // no attempt was carried out, see MayHaveActed
}

// Error starts with the reason. It has no secrets of URLs inside *url.Error.
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	var b strings.Builder
	b.WriteString("retry: ")
	if e.name != "" {
		b.WriteString(e.name + ": ")
	}
	if reason := e.reasonText(); reason != "" {
		b.WriteString(reason + " ")
	}
	b.WriteString("after " + count(e.Attempts, "attempt"))
	if e.Elapsed > 0 && !e.partly {
		fmt.Fprintf(&b, " in %v", roughly(e.Elapsed))
	}
	if e.Err != nil {
		b.WriteString(": " + redact.Error(e.Err))
	}
	return b.String()
}

// Format adds, for %+v, the beginning of the body of the [*StatusError] inside, as that
// one's does.
func (e *Error) Format(f fmt.State, verb rune) {
	text := e.Error()
	if verb == 'v' && e != nil {
		var status *StatusError
		switch {
		case f.Flag('#'):
			fmt.Fprintf(f, "&retry.Error{Attempts:%d, Elapsed:%d, Reason:%q, Err:%q}", e.Attempts, e.Elapsed, redact.Error(e.Reason), redact.Error(e.Err))
			return
		case f.Flag('+') && errors.As(e.Err, &status) && status != nil:
			text += status.body()
		}
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), text)
}

// reasonText names the reason and what it is due to: which breaker is open and
// for how long, which failure set a pause, what delay a server requested. A failure
// that reads as the call's own, which the text ends with, is left out.
func (e *Error) reasonText() string {
	if e.Reason == nil {
		return ""
	}
	text := redact.Error(e.Reason)
	switch e.Reason {
	case ErrMaxElapsed:
		if e.limit > 0 {
			text = fmt.Sprintf("MaxElapsed of %v would pass first", e.limit) + e.shortage.text()
		}
	case ErrDeadline:
		if short := e.shortage.text(); short != "" {
			text = "next attempt would come too late" + short
		}
	case context.DeadlineExceeded:
		text += " (the caller's)"
	}
	own := redact.Error(e.Err)
	detail := ""
	switch d := e.detail.(type) {
	case *tooLongError:
		return d.Error()
	case *limiterError:
		if detail = d.Error(); d.sole {
			return detail
		}
	case *OpenError:
		bare := *d // callers share it
		if e.Err != nil && redact.Error(d.Err) == own {
			bare.Err = nil
		}
		if detail = redact.Error(&bare); e.Reason == ErrCircuitOpen {
			return detail
		}
	case *PauseError:
		bare := *d
		if e.Err != nil && redact.Error(d.Err) == own {
			bare.Err = nil
		}
		if detail = redact.Error(&bare); e.Reason == ErrRetryAfterTooLong {
			text += fmt.Sprintf(" of %v", e.limit)
		}
	default:
		return text
	}
	return text + " (" + detail + ")"
}

// shortage is by how much a wait was too long for the time that there was. Where the
// length of the wait is not known, it is 0.
type shortage struct{ need, left time.Duration }

// text says how long the wait was to be, and how much time there was.
func (s shortage) text() string {
	left := s.left.Truncate(time.Millisecond) // not rounded up to the wait that it is too short for
	switch {
	case s == shortage{}: // not measured
		return ""
	case s.left <= 0:
		return ": no time is left"
	case left == 0:
		left = s.left
	}
	if s.need > 0 {
		return fmt.Sprintf(": a wait of %v, and %v is left", roughly(s.need), left)
	}
	return fmt.Sprintf(": %v is left", left)
}

// lateError is what [Gate.Wait] returns for a wait that does not end before the
// deadline.
type lateError struct{ shortage }

func (e *lateError) Error() string { return "paused beyond the deadline" + e.text() }
func (e *lateError) Unwrap() error { return ErrDeadline }

// Unwrap returns the reason and the last failure.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	return slices.DeleteFunc([]error{e.Reason, e.detail, e.Err}, func(err error) bool { return err == nil })
}

// Timeout reports whether time ran out: for the call, or for its last attempt.
func (e *Error) Timeout() bool {
	if e == nil {
		return false
	}
	if errors.Is(e.Reason, context.DeadlineExceeded) || errors.Is(e.detail, context.DeadlineExceeded) {
		return true
	}
	var timeout interface{ Timeout() bool }
	return errors.As(e.Err, &timeout) && timeout.Timeout()
}

// PauseError says that a call could not wait for the pause of a [Gate] to end. It
// is found inside of an [*Error], whose Reason is the limit that was in the way.
type PauseError struct {
	Name       string        // Config.Name: a host, in a [RetryableClient]
	RetryAfter time.Duration // until the gate lets the call through

	// Err is the failure that set the pause, nil if [Gate.Pause] did. It was
	// another call's, and so it is shown in the text, but not unwrapped, and
	// has neither header nor body.
	Err error
}

// Error names the pause, how long it lasts, and what set it.
func (e *PauseError) Error() string {
	if e == nil {
		return "<nil>"
	}
	text := "paused"
	if e.Name != "" {
		text = e.Name + " paused"
	}
	text = fmt.Sprintf("%s for another %v", text, roughly(e.RetryAfter))
	if e.Err != nil {
		text += " (by: " + redact.Error(e.Err) + ")"
	}
	return text
}

// tooLongError has the wait that a server asked for, and the limit.
type tooLongError struct{ asked, limit time.Duration }

func (e *tooLongError) Error() string {
	return fmt.Sprintf("server asks for a wait of %v, and MaxRetryAfter is %v", roughly(e.asked), e.limit)
}

// doneError is why ctx is done.
func doneError(ctx context.Context) error {
	if valid.IsNil(ctx) {
		return invalid("ctx is a nil %T", ctx)
	}
	cause, err := clock.Cause(ctx)
	if cause == context.Canceled || cause == context.DeadlineExceeded {
		if errors.Is(cause, err) {
			return cause
		}
	}
	return &endedError{err, cause}
}

// endedError is the error of a context that has a cause of its own. [context.Cause]
// alone would lose whether it was cancelled or ran out of time; errors.Is finds
// both.
type endedError struct{ err, cause error }

func (e *endedError) Error() string {
	if is(e.cause, e.err) {
		return redact.Error(e.cause)
	}
	return redact.Error(e.err) + ": " + redact.Error(e.cause)
}

func (e *endedError) Unwrap() []error { return []error{e.err, e.cause} }

// done reports whether ctx is done.
func done(ctx context.Context) bool { return clock.Done(ctx) }

// limitError is what came of an attempt that reached a time limit of its own. It is
// not to be mistaken for the end of the caller's context, whose error has the same
// text.
type limitError struct {
	err     error
	limit   time.Duration
	setting string
}

func (e *limitError) Error() string {
	text := redact.Error(e.err)
	own := fmt.Sprintf("no answer within %v (%s)", e.limit, e.setting)
	if before, same := strings.CutSuffix(text, context.DeadlineExceeded.Error()); same {
		return before + own
	}
	return own + ": " + text
}

func (e *limitError) Unwrap() error { return e.err }

// Timeout is what http.Client, which wraps the error, asks for.
func (e *limitError) Timeout() bool { return true }

// limiterError is the refusal of a Limiter.
type limiterError struct {
	err  error
	sole bool // it is the reason, and not a deadline
}

func (e *limiterError) Error() string { return "limiter: " + redact.Error(e.err) }

func (e *limiterError) Unwrap() error { return e.err }

// bodyError marks an error as the caller's own: it says nothing about the host.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// errAbandoned is the result of a call that did not return: it panicked, or
// left through runtime.Goexit.
var errAbandoned = errors.New("call did not return")

// Permanent marks err as not worth a retry: [Do] returns err at once, without
// the mark. The mark is also found inside errors that wrap it, and stays there.
// Permanent(nil) is nil.
func Permanent(err error) error { return marked(err, permanent, 0) }

// RetryAfter marks err as worth a retry, and not before d has passed; to [Config.Gate]
// it is a refusal with that wait. [Config.Jitter] makes d longer by up to a tenth, never
// shorter. A d of 0 or less asks for the usual
// backoff. RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error {
	return marked(err, delayed|wholly|answered|refusing.when(d > 0), d)
}

// Neutral marks err as one that says nothing about the dependency: a
// [CircuitBreaker] counts the call as neither success nor failure. It is
// retried as err would be; combine it with [Permanent] for an answer that is
// final and no fault, such as a cache miss. Around a mark of [RetryAfter] it makes the
// wait one of this call alone, which pauses no gate. Neutral(nil) is nil.
func Neutral(err error) error { return marked(err, silent, 0) }

// markedError has a mark, which adds to what err shows by itself.
type markedError struct {
	err   error
	mark  nature
	delay time.Duration
}

func marked(err error, mark nature, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return &markedError{err, mark, delay}
}

func (e *markedError) Error() string { return e.err.Error() }
func (e *markedError) Unwrap() error { return e.err }

// unmarked removes the mark of Permanent from err, if it has that, and leaves the other
// marks.
func unmarked(err error) (bare error, changed bool) {
	switch e := err.(type) {
	case *markedError:
		if bare, changed = unmarked(e.err); e.mark.has(permanent) {
			return bare, true
		} else if changed {
			return &markedError{bare, e.mark, e.delay}, true
		}
	case *limitError:
		if bare, changed = unmarked(e.err); changed {
			return &limitError{bare, e.limit, e.setting}, true
		}
	}
	return err, false
}

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
//	draining              Config.Drain was closed
//	limiter               the Limiter refused
//	invalid               a setting or an argument is wrong
//	abandoned             it panicked or called runtime.Goexit: in a hook only
//
// An attempt's own timeout, of Config.AttemptTimeout or the http.Client, is "deadline" as
// well, where RetryIf or a mark of [Permanent] forbids to repeat the attempt. After
// retries it is the limit that ended the call, such as "max_retries".
func Outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var call interface{ outcome() string }
	if errors.As(err, &call) {
		return call.outcome()
	}
	return outcomeOf(err)
}

func (e *Error) outcome() string {
	if e == nil {
		return outcomeOf(nil)
	}
	switch d := e.detail.(type) {
	case *PauseError, *OpenError:
		return outcomeOf(e.detail)
	case *limiterError:
		if d.sole {
			return "limiter"
		}
	}
	if e.detail == context.Canceled || e.detail == context.DeadlineExceeded {
		return outcomeOf(e.detail) // its cause is the user's own, and may be the error of another call
	}
	return outcomeOf(e.Reason)
}

func (e *endedError) outcome() string { return outcomeOf(e.err) }

// outcomeOf is the label of an error that is not of a call.
func outcomeOf(err error) string {
	for _, known := range outcomes {
		if errors.Is(err, known.err) {
			return known.label
		}
	}
	var pause *PauseError
	var body *bodyError
	switch {
	case errors.As(err, &pause):
		return "paused"
	case errors.As(err, &body):
		return "body_not_replayable"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	}
	return "permanent"
}

var outcomes = []struct {
	err   error
	label string
}{
	{ErrMaxRetries, "max_retries"},
	{ErrMaxElapsed, "max_elapsed"},
	{ErrBudgetExhausted, "budget"},
	{ErrCircuitOpen, "circuit_open"},
	{ErrRetryAfterTooLong, "retry_after_too_long"},
	{ErrBodyNotReplayable, "body_not_replayable"},
	{ErrNotIdempotent, "not_idempotent"},
	{ErrDraining, "draining"},
	{ErrInvalidConfig, "invalid"},
	{errAbandoned, "abandoned"},
}

// is is [errors.Is] for a target that may not be comparable. Its type alone does not
// say whether it is: a field may hold anything.
func is(err, target error) bool {
	return reflect.ValueOf(target).Comparable() && errors.Is(err, target)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// roughly is a duration without the digits that no reader needs.
func roughly(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond)
	case d >= 10*time.Microsecond:
		return d.Round(time.Microsecond)
	}
	return d
}
