package retry

import (
	"context"
	"errors"
	"fmt"
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
	// first attempt, to spare calls that succeed at once a look at the clock. For
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
	var status *StatusError
	switch {
	case verb == 'v' && f.Flag('#') && e != nil:
		fmt.Fprintf(f, "&retry.Error{Attempts:%d, Elapsed:%d, Reason:%q, Err:%q}", e.Attempts, e.Elapsed, redact.Error(e.Reason), redact.Error(e.Err))
		return
	case verb == 'v' && f.Flag('+') && e != nil && as(e.Err, &status):
		text += status.body()
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), text)
}

// reasonText names the reason and what it is due to: which breaker is open and
// for how long, who paused, how long a server asked to wait.
func (e *Error) reasonText() string {
	if e.Reason == nil {
		return ""
	}
	text, detail := redact.Error(e.Reason), withoutFailure(e.detail, e.Err)
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
	switch d := detail.(type) {
	case *tooLongError:
		return d.Error()
	case *limiterError:
		if d.sole {
			return d.Error()
		}
	case *OpenError:
		if e.Reason == ErrCircuitOpen {
			return redact.Error(d)
		}
	case *PauseError:
		if e.Reason == ErrRetryAfterTooLong {
			text += fmt.Sprintf(" of %v", e.limit)
		}
	default:
		return text
	}
	return text + " (" + redact.Error(detail) + ")"
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

// withoutFailure is the detail of a reason without the failure that it is due to,
// if that reads as the call's own, which the text ends with: once is enough.
func withoutFailure(detail, err error) error {
	same := func(other error) bool { return err != nil && other != nil && redact.Error(other) == redact.Error(err) }
	switch d := detail.(type) {
	case *OpenError:
		if d != nil && same(d.Err) {
			bare := *d // callers share it
			bare.Err = nil
			return &bare
		}
	case *PauseError:
		if d != nil && same(d.Err) {
			bare := *d
			bare.Err = nil
			return &bare
		}
	}
	return detail
}

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
	if is(e.Reason, context.DeadlineExceeded) || is(e.detail, context.DeadlineExceeded) {
		return true
	}
	var timeout interface{ Timeout() bool }
	return as(e.Err, &timeout) && timeout.Timeout()
}

// PauseError says that a call could not wait for the pause of a [Gate] to end. It
// is found inside of an [*Error], whose Reason is the limit that was in the way.
type PauseError struct {
	Name       string        // Config.Name: a host, in a [RetryableClient]
	RetryAfter time.Duration // until the gate lets the call through

	// Err is the failure that set the pause, nil if [Gate.Pause] did. It was
	// somebody else's, and so it is shown in the text, but not unwrapped, and
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

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// roughly drops the digits of a duration that nobody reads.
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
