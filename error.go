package retry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Reasons for giving up, as found in [Error.Reason]. ErrDeadline also matches
// [context.DeadlineExceeded]: the deadline would have passed during the wait.
var (
	ErrMaxRetries        = errors.New("no retries left")
	ErrMaxElapsed        = errors.New("MaxElapsed would pass first")
	ErrDeadline          = fmt.Errorf("next attempt would come too late: %w", context.DeadlineExceeded)
	ErrBudgetExhausted   = errors.New("retry budget exhausted")
	ErrCircuitOpen       = errors.New("circuit breaker open")
	ErrRetryAfterTooLong = errors.New("server asks for a longer wait than MaxRetryAfter")
	ErrBodyNotReplayable = errors.New("request body cannot be sent again")
)

// ErrInvalidConfig is matched by every error about a setting or argument that
// cannot be used.
var ErrInvalidConfig = errors.New("retry: invalid")

// Error says why [Do] gave up on an error that it would otherwise have retried.
// Reason and Err, and whatever they wrap, are found by [errors.Is] and
// [errors.As]; so is [context.Canceled] or [context.DeadlineExceeded] where the
// context ended the call, whatever its cause, and the [*OpenError] of a breaker
// that did.
type Error struct {
	Attempts int           // calls of the function; 0 if it was never called
	Elapsed  time.Duration // see below
	Reason   error         // one of the Err… variables, the context's cause, or what a Limiter returned
	Err      error         // what the last attempt returned; nil if there was none

	// Elapsed runs from the start of the call. To spare calls that succeed at
	// once a look at the clock, it runs from the end of the first attempt if
	// the Config has no MaxElapsed, AttemptTimeout, OnRetry, OnDone, Logger
	// or Clock.

	name   string
	detail error // the context's error beside its cause, or a breaker's rejection
}

// Error starts with the reason. Query values and user information of URLs
// inside *url.Error are left out of the text.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("retry: ")
	if e.name != "" {
		b.WriteString(e.name + ": ")
	}
	reason := redacted(e.Reason)
	if open, ok := e.detail.(*OpenError); ok { // says when it will let calls through again
		if e.Reason == ErrCircuitOpen {
			reason = redacted(open)
		} else {
			reason += " (" + redacted(open) + ")"
		}
	}
	fmt.Fprintf(&b, "%s after %s", reason, count(e.Attempts, "attempt"))
	if e.Elapsed > 0 {
		fmt.Fprintf(&b, " in %v", roughly(e.Elapsed))
	}
	if e.Err != nil {
		b.WriteString(": " + redacted(e.Err))
	}
	return b.String()
}

// Unwrap returns the reason and the last failure.
func (e *Error) Unwrap() []error {
	return slices.DeleteFunc([]error{e.Reason, e.detail, e.Err}, func(err error) bool { return err == nil })
}

// Timeout reports whether time ran out: for the call, or for its last attempt.
func (e *Error) Timeout() bool {
	if errors.Is(e.Reason, context.DeadlineExceeded) || errors.Is(e.detail, context.DeadlineExceeded) {
		return true
	}
	var timeout interface{ Timeout() bool }
	return errors.As(e.Err, &timeout) && timeout.Timeout()
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

// Permanent marks err as not worth a retry: [Do] returns err at once, without
// the mark. The mark is also found inside errors that wrap it. Permanent(nil)
// is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// RetryAfter marks err as worth a retry, and not before d has passed; it also
// pauses [Config.Gate] for that long. A d of 0 or less asks for the usual
// backoff. RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, d}
}

type retryAfterError struct {
	err error
	d   time.Duration
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// invalid reports a wrong argument.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidConfig, fmt.Errorf(format, args...))
}

// Retryable reports whether another attempt may bring another result. It may,
// for every error except
//
//   - one marked [Permanent], or about an invalid setting,
//   - a [*StatusError] with a status that Config.RetryStatusCodes leaves out by
//     default,
//   - the rejection of a circuit breaker, and an [*Error]: an inner Do has
//     retried that already,
//   - what cannot change: failed TLS verification and TLS alerts, a host name
//     that does not exist, a malformed address or URL, an unsupported scheme, a
//     response or request over a size limit.
//
// It goes by types, found anywhere in err's tree, never by text. An error of
// package context is retryable: Do itself sees to the caller's own context.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	f := examine(err)
	return f.retryable(nil)
}

// findings is what one walk through an error's tree brings to light.
type findings struct {
	permanent bool             // marked so
	ended     bool             // by an inner Do or a breaker, and not marked since
	marked    *retryAfterError // the outermost mark of RetryAfter
	status    *StatusError     // the outermost
	lasting   bool             // of a kind that another attempt cannot change
}

func examine(err error) (f findings) {
	walk(err, func(err error) bool {
		switch e := err.(type) {
		case *permanentError:
			f.permanent = true
		case *retryAfterError:
			if f.marked == nil {
				f.marked = e
			}
		case *StatusError:
			if f.status == nil {
				f.status = e
			}
		case *OpenError, *Error:
			f.ended = f.ended || f.marked == nil // marks further in are about attempts long past
		default:
			f.lasting = f.lasting || lasting(err)
		}
		return true
	})
	return f
}

// retryable judges by the given status codes, nil for the default ones.
func (f *findings) retryable(codes []int) bool {
	switch {
	case f.permanent, f.ended:
		return false
	case f.marked != nil:
		return true
	case f.lasting:
		return false
	case f.status != nil:
		return f.status.retryable(codes)
	}
	return true
}

// hint is the wait that the server asked for.
func (f *findings) hint() time.Duration {
	if f.marked != nil {
		return f.marked.d
	}
	if f.status != nil {
		return f.status.RetryAfter
	}
	return 0
}

// throttled reports whether the wait that the server asked for concerns all of
// its callers, and not this one request.
func (f *findings) throttled() bool {
	return f.marked != nil || f.status != nil && f.status.throttled()
}

// lasting reports whether err, without what it wraps, is of a kind that no
// other attempt can change.
func lasting(err error) bool {
	switch e := err.(type) {
	case *tls.CertificateVerificationError, tls.AlertError, tls.RecordHeaderError, *tls.ECHRejectionError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError, x509.SystemRootsError:
		return true
	case *net.OpError:
		return e.Op == "remote error" || e.Op == "local error" // how crypto/tls reports alerts
	case *net.DNSError:
		return e.IsNotFound
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError:
		return true
	case *url.Error:
		return e.Op == "parse" || !supportedScheme(e.URL)
	case url.EscapeError, url.InvalidHostError, *http.MaxBytesError:
		return true
	}
	return err == ErrInvalidConfig || err == http.ErrSchemeMismatch
}

// supportedScheme reports whether net/http can fetch the URL of a *url.Error
// that came from a client; other operations name no scheme and are let pass.
func supportedScheme(raw string) bool {
	scheme, _, ok := strings.Cut(raw, "://")
	return !ok || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// walk visits err and all that it wraps, outermost first, until visit returns
// false. It reports whether it came to the end.
func walk(err error, visit func(error) bool) bool {
	for err != nil {
		if !visit(err) {
			return false
		}
		switch wrapper := err.(type) {
		case interface{ Unwrap() error }:
			err = wrapper.Unwrap()
		case interface{ Unwrap() []error }:
			for _, inner := range wrapper.Unwrap() {
				if !walk(inner, visit) {
					return false
				}
			}
			return true
		default:
			return true
		}
	}
	return true
}

const hidden = "xxxxx"

// redacted is err's text without the secrets of the URLs that net/http puts
// into a *url.Error: it strips the password, but leaves the query.
func redacted(err error) string {
	text := err.Error()
	walk(err, func(err error) bool {
		if e, ok := err.(*url.Error); ok && e.URL != "" {
			if safe := redactURL(e.URL); safe != e.URL {
				text = strings.ReplaceAll(text, e.URL, safe)
				quoted := fmt.Sprintf("%q", e.URL) // as (*url.Error).Error writes it
				text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], safe)
			}
		}
		return true
	})
	return text
}

// redactURL hides the user information, the query values and the fragment of a
// URL, which need not be a valid one. The names of the query's parameters stay,
// because they help to tell requests apart.
func redactURL(raw string) string {
	if !strings.ContainsAny(raw, "?#@") {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil { // nothing in it can be trusted to be where it seems to be
		scheme, _, _ := strings.Cut(raw, ":")
		return scheme + ":" + hidden
	}
	return withoutSecrets(*u)
}

// safeURL is redactURL for a URL that need not be parsed any more, unless
// somebody put half of it into Opaque.
func safeURL(u *url.URL) string {
	if u.Opaque != "" {
		return redactURL(u.String())
	}
	return withoutSecrets(*u)
}

func withoutSecrets(u url.URL) string {
	if u.User != nil {
		u.User = url.User(hidden)
	}
	u.Fragment, u.RawFragment = "", ""
	if u.RawQuery != "" {
		u.RawQuery = redactQuery(u.RawQuery)
	}
	return u.String()
}

func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok {
			pairs[i] = name + "=" + hidden
		} else if pair != "" {
			pairs[i] = hidden // a bare token
		}
	}
	return strings.Join(pairs, "&")
}

// doneError is why ctx is done. [context.Cause] alone would lose whether it was
// cancelled or ran out of time, so that errors.Is finds both.
func doneError(ctx context.Context) error {
	if cause, err := context.Cause(ctx), ctx.Err(); !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return context.Cause(ctx)
}

// done reports whether ctx is done. It looks at the channel, because the Err of
// some contexts (clockwork's) blocks until they are done, and so does that of a
// context with a value around them. That of a cancelCtx or timerCtx does not,
// whatever it is derived from, and it is twice as fast.
func done(ctx context.Context) bool {
	if t := reflect.TypeOf(ctx); t == typeCancelCtx || t == typeTimerCtx {
		return ctx.Err() != nil
	}
	ch := ctx.Done()
	if ch == nil {
		return false
	}
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

var typeCancelCtx, typeTimerCtx = func() (a, b reflect.Type) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	timed, cancel := context.WithTimeout(cancelled, time.Hour)
	cancel()
	return reflect.TypeOf(cancelled), reflect.TypeOf(timed)
}()
