package retry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jonboulle/clockwork"
)

// doneError is why ctx is done. [context.Cause] alone would lose whether it was
// cancelled or ran out of time, so that errors.Is finds both.
func doneError(ctx context.Context) error {
	cause, err := causeOf(ctx)
	if !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return cause
}

// causeOf returns the cause and the error of a context that is done. One that
// was written by hand may have none yet: it counts as cancelled.
func causeOf(ctx context.Context) (cause, err error) {
	if err = ctx.Err(); err == nil {
		err = context.Canceled
	}
	if cause = context.Cause(ctx); cause == nil {
		cause = err
	}
	return cause, err
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

func now(clock clockwork.Clock) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock.Now()
}

// since is cheaper than two readings of the real clock compared.
func since(clock clockwork.Clock, t time.Time) time.Duration {
	if clock == nil {
		return time.Since(t)
	}
	return clock.Now().Sub(t)
}

// sameClock reports whether two clocks are one; nil is the real one.
func sameClock(clock, other clockwork.Clock) bool {
	if isReal(clock) || isReal(other) {
		return isReal(clock) && isReal(other)
	}
	// A clock of the user's own need not be comparable.
	t := reflect.TypeOf(clock)
	return t == reflect.TypeOf(other) && (!t.Comparable() || clock == other)
}

func isReal(clock clockwork.Clock) bool {
	return clock == nil || reflect.TypeOf(clock) == typeRealClock
}

var typeRealClock = reflect.TypeOf(clockwork.NewRealClock())
