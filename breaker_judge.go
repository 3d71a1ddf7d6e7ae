package retry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"reflect"
)

// verdict is what a result means to a breaker.
type verdict int

const (
	success verdict = iota
	failure
	neutral
)

// judgeCall judges the error that a call returned. ctx is the caller's: once it
// is cancelled, whatever the call made of that is neutral: few callees return a
// context.Canceled then. A *StatusError is the server's own
// answer all the same.
func (b *CircuitBreaker) judgeCall(ctx context.Context, err error) verdict {
	switch {
	case err == errAbandoned:
		return failure
	case isNeutral(err):
		return neutral
	case cancelled(ctx) && !hasStatus(err):
		return neutral
	case b.isFailure == nil && neverSent(err):
		return neutral
	case b.isFailure == nil && IsFailure(err), b.isFailure != nil && b.isFailure(err):
		return failure
	}
	return success
}

// cancelled reports whether ctx was cancelled, and did not run out of time.
func cancelled(ctx context.Context) bool {
	return done(ctx) && !errors.Is(ctx.Err(), context.DeadlineExceeded)
}

func hasStatus(err error) bool {
	var status *StatusError
	return as(err, &status)
}

// isNeutral reports whether err says nothing about the dependency.
func isNeutral(err error) bool {
	marked := !walk(err, func(err error) bool {
		switch err.(type) {
		case *neutralError, *OpenError, *PauseError, *bodyError:
			return false
		}
		return true
	})
	return marked || is(err, context.Canceled) || is(err, ErrCircuitOpen)
}

// neverSent reports whether err is about what the caller asked for, and would be the
// same whatever the state of the dependency. An answer in the same tree says otherwise.
func neverSent(err error) bool {
	return !hasStatus(err) && !walk(err, func(err error) bool {
		if reflect.TypeOf(err) == typeValue {
			return err != ErrInvalidConfig && err != sql.ErrTxDone && err != errors.ErrUnsupported
		}
		switch e := err.(type) {
		case *json.InvalidUnmarshalError, *json.UnsupportedTypeError, *json.UnsupportedValueError,
			*net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError,
			url.EscapeError, url.InvalidHostError:
			return false
		case *url.Error:
			return e == nil || e.Op != "parse" && (supportedScheme(e.URL) || served(e.Err))
		}
		return true
	})
}

// IsFailure is the default of [BreakerConfig.IsFailure]: every error is a
// failure except
//
//   - a cancel, what is marked [Neutral], and the rejection of another breaker
//     or the pause of a [Gate], which say nothing about the dependency,
//   - what is about the caller's own doing, so that nothing was asked of the
//     dependency: [ErrInvalidConfig], a malformed address or URL, an unsupported
//     scheme or operation, a Go value that is no JSON, a transaction that is over
//     ([sql.ErrTxDone]); a breaker counts these as neither success nor failure,
//   - a lookup that found nothing ([sql.ErrNoRows], a file that does not exist),
//   - a [*StatusError] below 500, and what is marked [RetryAfter] and has no
//     status of 500 or above, which show a server at work.
func IsFailure(err error) bool {
	if err == nil || isNeutral(err) || neverSent(err) {
		return false
	}
	atWork, broken := false, false
	walk(err, func(err error) bool {
		if reflect.TypeOf(err) == typeValue && err == sql.ErrNoRows {
			atWork = true
			return true
		}
		switch e := err.(type) {
		case *retryAfterError:
			atWork = true
		case *fs.PathError:
			atWork = atWork || e != nil && e.Err != nil && errors.Is(e.Err, fs.ErrNotExist)
		case *StatusError:
			if e != nil {
				atWork, broken = true, broken || e.StatusCode >= 500
			}
		}
		return true
	})
	return broken || !atWork
}
