package retry

import "time"

// Permanent marks err as not worth a retry: [Do] returns err at once, without
// the mark. The mark is also found inside errors that wrap it, and stays there.
// Permanent(nil) is nil.
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

// Neutral marks err as one that says nothing about the dependency: a
// [CircuitBreaker] counts the call as neither success nor failure. It is
// retried as err would be; combine it with [Permanent] for an answer that is
// final and no fault, such as a cache miss. Neutral(nil) is nil.
func Neutral(err error) error {
	if err == nil {
		return nil
	}
	return &neutralError{err}
}

type neutralError struct{ err error }

func (e *neutralError) Error() string { return e.err.Error() }
func (e *neutralError) Unwrap() error { return e.err }

// unmarked takes the mark of Permanent off err, and leaves the other marks on.
func unmarked(err error) error {
	switch e := err.(type) {
	case *permanentError:
		return unmarked(e.err)
	case *neutralError:
		return &neutralError{unmarked(e.err)}
	case *retryAfterError:
		return &retryAfterError{unmarked(e.err), e.d}
	case *limitError:
		return &limitError{unmarked(e.err), e.limit, e.setting}
	}
	return err
}
