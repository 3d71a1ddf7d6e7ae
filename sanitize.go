package retry

import (
	"encoding/json"
	"log/slog"
	"net/url"

	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/valid"
)

// sanitized returns err as it may be kept and shown to callers other than the one
// that received it. They must not find what a server sent to that one: so each
// *StatusError loses its header and body, and each *url.Error the secrets of its
// URL. An error without either is returned as it is.
//
// The tree around them is copied. Wrappers of unknown types become plain ones, with the
// same text and the same errors inside.
func sanitized(err error) (safe error, changed bool) {
	if err == nil || valid.IsNil(err) {
		return err, false
	}
	inside := func(field error) error {
		safe, differs := sanitized(field)
		changed = changed || differs
		return safe
	}
	switch e := err.(type) {
	case *StatusError:
		bare := *e
		bare.Header, bare.Body = nil, nil
		safe, changed = &bare, e.Header != nil || e.Body != nil
	case *url.Error:
		bare := url.Error{Op: e.Op, URL: redact.URL(e.URL), Err: inside(e.Err)}
		safe, changed = &bare, changed || bare.URL != e.URL
	case *OpenError:
		bare := *e
		bare.Err = inside(e.Err)
		safe = &bare
	case *PauseError:
		safe = &PauseError{e.Name, e.RetryAfter, inside(e.Err)}
	case *Error:
		bare := *e
		bare.Reason, bare.detail, bare.Err = inside(e.Reason), inside(e.detail), inside(e.Err)
		safe = &bare
	case *markedError:
		safe = &markedError{inside(e.err), e.mark, e.delay}
	default:
		var inner error
		var more []error
		switch wrapper := err.(type) {
		case interface{ Unwrap() error }:
			inner = inside(wrapper.Unwrap())
		case interface{ Unwrap() []error }:
			for _, branch := range wrapper.Unwrap() {
				more = append(more, inside(branch))
			}
		}
		var status *StatusError
		if wrapper, ok := err.(interface{ As(any) bool }); ok && wrapper.As(&status) {
			more, changed = append(more, inside(status)), true
		}
		if changed {
			safe = &sanitizedError{redact.Error(err), append(more, inner)}
		}
	}
	if !changed {
		return err, false
	}
	return safe, true
}

// sanitizedError is what is left of a wrapper of an unknown type.
type sanitizedError struct {
	text string
	errs []error
}

func (e *sanitizedError) Error() string   { return e.text }
func (e *sanitizedError) Unwrap() []error { return e.errs }

// The errors of this package are logged and marshalled as their text, which has
// no secrets, whatever they wrap. Without that, encoding/json would write {} for
// an error inside, and slog every field of it.

// LogValue is the error's text.
func (e *Error) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the error's text.
func (e *Error) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// LogValue is the error's text.
func (e *PauseError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the error's text.
func (e *PauseError) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// LogValue is the error's text: neither its header nor its body.
func (e *StatusError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the error's text: neither its header nor its body.
func (e *StatusError) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// LogValue is a group of the fields that are set, the error as its text.
func (e Event) LogValue() slog.Value {
	attrs := append(make([]slog.Attr, 0, 7), slog.Int("attempt", e.Attempt))
	if e.Name != "" {
		attrs = append(attrs, slog.String("name", e.Name))
	}
	if e.Host != "" {
		attrs = append(attrs, slog.String("host", e.Host))
	}
	if e.Delay > 0 {
		attrs = append(attrs, readable("delay", e.Delay))
	}
	attrs = append(attrs, readable("elapsed", e.Elapsed))
	if e.Why != "" {
		attrs = append(attrs, slog.String("why", string(e.Why)))
	}
	return slog.GroupValue(appendError(attrs, e.Err)...)
}

// MarshalJSON writes all fields by their names, the error as its text, or null.
func (e Event) MarshalJSON() ([]byte, error) {
	type event Event // has no methods
	return json.Marshal(struct {
		event
		Err *string
	}{event(e), textOrNil(e.Err)})
}

// textOrNil is for a field that holds an error.
func textOrNil(err error) *string {
	if err == nil {
		return nil
	}
	text := redact.Error(err)
	return &text
}

func appendError(attrs []slog.Attr, err error) []slog.Attr {
	if err != nil {
		attrs = append(attrs, slog.String("error", redact.Error(err)))
	}
	return attrs
}
