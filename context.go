package retry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
)

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
