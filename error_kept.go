package retry

import (
	"net/url"

	"github.com/retryutils/retry/internal/redact"
)

// kept returns err as it may be kept and shown to callers other than the one
// who got it. They must not find what a server sent to somebody else: so each
// *StatusError loses its header and body, and each *url.Error the secrets of its
// URL. An error without either is returned as it is.
//
// The tree around them is built anew. Wrappers of unknown types become plain
// ones, with the same text and the same errors inside.
func kept(err error) error {
	if walk(err, shareable) {
		return err
	}
	return rebuilt(err)
}

// shareable reports whether err itself, without what it wraps, may be kept.
func shareable(err error) bool {
	switch e := err.(type) {
	case *StatusError:
		return e == nil || e.Header == nil && e.Body == nil
	case *url.Error:
		return e == nil || redact.URL(e.URL) == e.URL
	case *OpenError:
		return e == nil || walk(e.Err, shareable)
	case *PauseError:
		return e == nil || walk(e.Err, shareable)
	case interface{ As(any) bool }:
		var status *StatusError
		return !e.As(&status)
	}
	return true
}

func rebuilt(err error) error {
	if err == nil || walk(err, shareable) {
		return err
	}
	switch e := err.(type) {
	case *StatusError:
		safe := *e
		safe.Header, safe.Body = nil, nil
		return &safe
	case *url.Error:
		return &url.Error{Op: e.Op, URL: redact.URL(e.URL), Err: rebuilt(e.Err)}
	case *OpenError:
		safe := *e
		safe.Err = rebuilt(e.Err)
		return &safe
	case *PauseError:
		safe := *e
		safe.Err = rebuilt(e.Err)
		return &safe
	case *Error:
		safe := *e
		safe.Reason, safe.Err, safe.detail = rebuilt(e.Reason), rebuilt(e.Err), rebuilt(e.detail)
		return &safe
	case *permanentError:
		return &permanentError{rebuilt(e.err)}
	case *retryAfterError:
		return &retryAfterError{rebuilt(e.err), e.d}
	case *neutralError:
		return &neutralError{rebuilt(e.err)}
	}
	return &keptError{redact.Error(err), inside(err)}
}

// inside returns what an error of an unknown type wraps, rebuilt.
func inside(err error) (errs []error) {
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		errs = append(errs, rebuilt(wrapper.Unwrap()))
	case interface{ Unwrap() []error }:
		for _, err := range wrapper.Unwrap() {
			errs = append(errs, rebuilt(err))
		}
	}
	if as, ok := err.(interface{ As(any) bool }); ok {
		var status *StatusError
		if as.As(&status) {
			errs = append(errs, rebuilt(status))
		}
	}
	return errs
}

// keptError is what is left of a wrapper of an unknown type.
type keptError struct {
	text string
	errs []error
}

func (e *keptError) Error() string   { return e.text }
func (e *keptError) Unwrap() []error { return e.errs }
