package retry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/retryutils/retry/internal/redact"
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

// Error says why [Do] gave up on an error that it would otherwise have retried.
// Reason and Err, and whatever they wrap, are found by [errors.Is] and
// [errors.As]; so is [context.Canceled] or [context.DeadlineExceeded] where the
// context ended the call, whatever its cause, and the [*OpenError] of a breaker
// or the [*PauseError] of a gate that did.
type Error struct {
	// Attempts is how often the function was called; 0 if it never was.
	Attempts int

	// Elapsed is the time since the start of the call. If the Config has no
	// MaxElapsed, AttemptTimeout, Clock, Logger or hook, it does not include the
	// first attempt, so that calls that succeed at once need not read the clock. For
	// a request it always does; after redirects, it is the last request's alone.
	Elapsed time.Duration

	Reason error // one of the Err… variables, the context's cause, or what a Limiter returned
	Err    error // what the last attempt returned; nil if there was none

	name   string
	detail error         // what the reason is due to: see reasonText; or the context's error beside its cause
	limit  time.Duration // MaxElapsed, where that is the reason, or MaxRetryAfter
	shortage
	partly bool // Elapsed does not cover the first attempt
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

// Permanent marks err as not worth a retry: [Do] returns err at once, without
// the mark. The mark is also found inside errors that wrap it, and stays there.
// Permanent(nil) is nil.
func Permanent(err error) error { return marked(err, permanent, 0) }

// RetryAfter marks err as worth a retry, and not before d has passed; it also
// pauses [Config.Gate] for that long. A d of 0 or less asks for the usual
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

// unmarked removes the mark of Permanent from err, and leaves the other marks.
func unmarked(err error) error {
	switch e := err.(type) {
	case *markedError:
		inside := unmarked(e.err)
		if e.mark.has(permanent) {
			return inside
		}
		return &markedError{inside, e.mark, e.delay}
	case *limitError:
		return &limitError{unmarked(e.err), e.limit, e.setting}
	}
	return err
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

// orDefault ends what is wanted of a field whose 0 means a default.
const orDefault = ", or 0 for the default"

// problems collects what is wrong with a configuration.
type problems []problem

type problem struct {
	field string
	value any
	want  string
	other string // a field that the wanted value depends on
	limit any    // and its value
}

func (p *problems) require(ok bool, field string, value any, want string) {
	p.requireOther(ok, field, value, want, "", nil)
}

// requireOther is for a field that contradicts another one.
func (p *problems) requireOther(ok bool, field string, value any, want, other string, limit any) {
	if !ok {
		*p = append(*p, problem{field, value, want, other, limit})
	}
}

func (p *problems) notNegative(field string, d time.Duration) {
	p.require(d >= 0, field, d, "0 or more")
}

// notNil is for an interface that may be nil, but not hold a nil pointer: that would
// panic in the middle of a call.
func (p *problems) notNil(field string, v any) {
	p.require(!isNil(v), field, fmt.Sprintf("a nil %T", v), "one that is there, or nil itself for none")
}

// join makes one error of them, with the fields named as name does.
func (p problems) join(name func(field string) string) error {
	errs := make([]error, len(p))
	for i, e := range p {
		if e.other != "" {
			e.want = fmt.Sprintf("%s %s, %v", e.want, name(e.other), e.limit)
		}
		errs[i] = fmt.Errorf("%w: %s is %v, want %s", ErrInvalidConfig, name(e.field), e.value, e.want)
	}
	return errors.Join(errs...)
}

// of names the fields of a struct.
func of(kind string) func(string) string {
	return func(field string) string { return kind + "." + field }
}

// invalid reports a wrong argument.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidConfig, fmt.Errorf(format, args...))
}

// is is [errors.Is] for a target that may not be comparable. Its type alone does not
// say whether it is: a field may hold anything.
func is(err, target error) bool {
	return target != nil && reflect.ValueOf(target).Comparable() && errors.Is(err, target)
}

// isNil reports whether an interface holds a nil pointer or function: it is not nil to
// all appearances, but most methods would panic.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil()
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
