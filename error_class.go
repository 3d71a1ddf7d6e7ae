package retry

import (
	"reflect"
	"time"
)

// Retryable reports whether another attempt may bring another result. It may,
// for every error except
//
//   - one marked [Permanent], or about an invalid setting,
//   - a [*StatusError] with a status that Config.RetryStatusCodes leaves out by
//     default,
//   - the rejection of a circuit breaker, a [*PauseError], and an [*Error]: an
//     inner Do has retried that already, or waited for it in vain,
//   - what cannot change: failed TLS verification, and TLS alerts about how one
//     side is set up; a host name that does not exist; a malformed address or
//     URL, and an unsupported scheme, unless an error of the network proves that
//     somebody serves it; a response or request over a size limit,
//   - what the machine or the data says, and will say again: a file or program
//     that is not there, is not permitted or is closed ([fs.ErrNotExist],
//     [fs.ErrPermission], [fs.ErrInvalid], [fs.ErrClosed], [*exec.Error]); a row
//     that is not there ([sql.ErrNoRows]); a transaction that is over
//     ([sql.ErrTxDone]); JSON that is whole, and does not fit
//     the Go type, or a Go value that is no JSON; [errors.ErrUnsupported].
//
// Retryable are, though they may not look it:
//
//   - errors of package context: they may come from another context than the
//     caller's, such as that of whoever began a call that several share. Do itself
//     sees when the caller's own is done,
//   - [fs.ErrExist], by which programs wait for a lock file,
//   - a socket that is not there, while the server that makes it starts,
//   - [sql.ErrConnDone]: the next attempt takes another connection,
//   - data that does not parse ([*json.SyntaxError], [*strconv.NumError]): it may
//     have been cut off on its way.
//
// Use RetryIf, or the marks, where you know better. Of several joined errors all
// must be retryable, unless the whole is marked.
//
// It goes by types and values, found anywhere in err's tree or matched by an Is
// method in it, never by text.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	f := examine(err)
	return f.retryable(nil)
}

// findings is what one walk through an error's tree brings to light. What is
// inside of a mark of RetryAfter does not count, except for that of Permanent.
type findings struct {
	permanent bool             // marked so
	marked    *retryAfterError // the first mark of RetryAfter
	wait      time.Duration    // the longest that such marks ask for
	status    *StatusError     // the first
	others    []*StatusError   // in further branches
	ended     bool             // by an inner Do, a breaker or a gate
	lasting   bool             // of a kind that another attempt cannot change
}

func examine(err error) (f findings) {
	f.add(err, false)
	return f
}

// add goes down a branch of the tree; marked says that it is inside of a mark.
func (f *findings) add(err error, marked bool) {
	final := false
	for err != nil {
		switch e := err.(type) {
		case *permanentError:
			f.permanent = true
		case *retryAfterError:
			if !marked {
				f.addMark(e)
			}
			marked, final = true, false
		case *OpenError, *Error, *PauseError:
			f.ended = f.ended || !marked
			return // what is inside is about attempts long past
		default:
			if isNil(err) {
				f.lasting = f.lasting || final
				return
			}
			if !marked {
				f.addStatus(err)
				f.ended = f.ended || err == ErrCircuitOpen
				final = final || lasting(err)
			}
		}
		several, one := unwrapped(err)
		for _, branch := range several {
			f.add(branch, marked)
		}
		err = one
	}
	f.lasting = f.lasting || final
}

func (f *findings) addMark(e *retryAfterError) {
	f.wait = max(f.wait, e.d)
	if f.marked == nil {
		f.marked = e
	}
}

func (f *findings) addStatus(err error) {
	e, ok := err.(*StatusError)
	switch {
	case !ok:
	case f.status == nil:
		f.status = e
	default:
		f.others = append(f.others, e)
	}
}

// retryable judges by the given status codes, nil for the default ones.
func (f *findings) retryable(codes []int) bool {
	if f.permanent || f.ended || f.lasting || f.status != nil && !f.status.retryable(codes) {
		return false
	}
	for _, status := range f.others {
		if !status.retryable(codes) {
			return false
		}
	}
	return true
}

// hint is the longest wait that was asked for.
func (f *findings) hint() time.Duration {
	wait := f.wait
	if f.status != nil {
		wait = max(wait, f.status.RetryAfter)
	}
	for _, status := range f.others {
		wait = max(wait, status.RetryAfter)
	}
	return wait
}

// refused reports whether the server refused the call: with a wait that concerns all
// of its callers, or with a status that says as much without one.
func (f *findings) refused(hint time.Duration) bool {
	overload := f.status != nil && (f.status.StatusCode == 429 || f.status.StatusCode == 503)
	return f.throttled() && (hint > 0 || overload)
}

// throttled reports whether the wait that the server asked for concerns all of
// its callers, and not this one request.
func (f *findings) throttled() bool {
	if f.marked != nil || f.status != nil && f.status.throttled() {
		return true
	}
	for _, status := range f.others {
		if status.throttled() {
			return true
		}
	}
	return false
}

// walk visits err and all that it wraps, outermost first, until visit returns
// false. It reports whether it came to the end. A nil pointer in the tree is
// visited, but not asked what it wraps: its methods may panic.
func walk(err error, visit func(error) bool) bool {
	for err != nil {
		if !visit(err) {
			return false
		}
		if isNil(err) {
			return true
		}
		several, one := unwrapped(err)
		for _, branch := range several {
			if !walk(branch, visit) {
				return false
			}
		}
		err = one
	}
	return true
}

// is is [errors.Is] for a tree that may have nil pointers in it.
func is(err, target error) bool {
	comparable := target != nil && reflect.ValueOf(target).Comparable() // its type alone does not say: a field may hold anything
	return !walk(err, func(err error) bool {
		if comparable && err == target {
			return false
		}
		matcher, ok := err.(interface{ Is(error) bool })
		return !ok || isNil(err) || !matcher.Is(target)
	})
}

// as is [errors.As] for a tree that may have nil pointers in it, and finds none.
func as[T any](err error, target *T) bool {
	return !walk(err, func(err error) bool {
		if isNil(err) {
			return true
		}
		found, ok := err.(T)
		if ok {
			*target = found
			return false
		}
		matcher, ok := err.(interface{ As(any) bool })
		return !ok || !matcher.As(target)
	})
}

// unwrapped returns the errors that err wraps, if there may be several, or the one.
func unwrapped(err error) ([]error, error) {
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		return nil, wrapper.Unwrap()
	case interface{ Unwrap() []error }:
		return wrapper.Unwrap(), nil
	}
	return nil, nil
}

// isNil reports whether an interface holds a nil pointer or function: it is not nil to
// all appearances, but most methods would panic.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil()
}
