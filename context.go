package retry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/redact"
)

// doneError is why ctx is done.
func doneError(ctx context.Context) error {
	if isNil(ctx) {
		return invalid("ctx is a nil %T", ctx)
	}
	cause, err := causeOf(ctx)
	if cause == context.Canceled || cause == context.DeadlineExceeded {
		if errors.Is(cause, err) {
			return cause
		}
	}
	return &endedError{err, cause}
}

// endedError is the error of a context that has a cause of its own. [context.Cause]
// alone would lose whether it was cancelled or ran out of time; errors.Is finds
// both.
type endedError struct{ err, cause error }

func (e *endedError) Error() string {
	if is(e.cause, e.err) {
		return redact.Error(e.cause)
	}
	return redact.Error(e.err) + ": " + redact.Error(e.cause)
}

func (e *endedError) Unwrap() []error { return []error{e.err, e.cause} }

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
	if isNil(ctx) { // doneError says so
		return true
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

// timeoutContext is a context with a time limit on any clock, which can be
// moved or lifted while it is in use. Neither package context nor clockwork has
// one: the first knows no clock but the real one and no second thoughts, the
// second makes contexts whose Err blocks until they are done.
type timeoutContext struct {
	callerContext // for its values
	clock         clockwork.Clock
	began         time.Time
	inner         context.Context // done when this one is
	done          context.CancelFunc
	unlink        func() bool // from the caller's context

	mu       sync.Mutex // guards the fields below
	timer    interface{ Stop() bool }
	deadline time.Time
	turn     int // of the limit: an older one that is just expiring has no say
	err      error
	expired  bool // by the limit, and not with the caller's context
}

// withTimeout returns a context that ends after d at the latest. It must be
// cancelled.
func withTimeout(ctx context.Context, clock clockwork.Clock, d time.Duration) *timeoutContext {
	c := &timeoutContext{callerContext: callerContext{ctx}, clock: clock, began: now(clock)}
	c.inner, c.done = context.WithCancel(context.Background())
	c.setLimit(d)
	c.unlink = c.callerContext.afterFunc(func() { c.end(c.callerContext.Err()) })
	return c
}

// callerContext is a context of the caller's. It has an error once it is done,
// even if that was written by hand and has none: package context panics then, in
// a goroutine of its own.
type callerContext struct{ context.Context }

func (c *callerContext) Err() error {
	if !done(c.Context) {
		return nil
	}
	_, err := causeOf(c.Context)
	return err
}

// afterFunc is [context.AfterFunc], which would not see through to a context that
// does this by itself.
func (c *callerContext) afterFunc(f func()) func() bool {
	if by, ok := c.Context.(interface{ AfterFunc(func()) func() bool }); ok {
		return by.AfterFunc(f)
	}
	return context.AfterFunc(c, f)
}

// setLimit makes d the time left from now on; 0 or less lifts the limit.
func (c *timeoutContext) setLimit(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer, c.deadline = nil, time.Time{}
	}
	c.turn++
	turn := c.turn
	if d <= 0 || c.err != nil {
		return
	}
	c.deadline = now(c.clock).Add(d)
	expire := func() { c.expire(turn) }
	if c.clock == nil {
		c.timer = time.AfterFunc(d, expire)
	} else {
		c.timer = c.clock.AfterFunc(d, expire)
	}
}

func (c *timeoutContext) elapsed() time.Duration { return now(c.clock).Sub(c.began) }

// cancel ends the context and lets go of its timer and of the caller's context.
func (c *timeoutContext) cancel() {
	c.setLimit(0)
	c.unlink()
	c.end(context.Canceled)
}

func (c *timeoutContext) expire(turn int) {
	c.mu.Lock()
	current := turn == c.turn
	c.expired = c.expired || current && c.err == nil
	c.mu.Unlock()
	if current {
		c.end(context.DeadlineExceeded)
	}
}

func (c *timeoutContext) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.done()
}

// explain has an error of what was given this context say that its limit was reached.
// What a server answered in spite of that says more.
func (c *timeoutContext) explain(err error, limit time.Duration, setting string) error {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	if _, explained := err.(*limitError); err == nil || explained || !expired || hasStatus(err) {
		return err
	}
	return &limitError{err, limit, setting}
}

// limitError is what came of an attempt that reached a time limit of its own. It is
// not to be mistaken for the end of the caller's context, whose error has the same
// text.
type limitError struct {
	err     error
	limit   time.Duration
	setting string
}

func (e *limitError) Error() string {
	text := redact.Error(e.err)
	own := fmt.Sprintf("no answer within %v (%s)", e.limit, e.setting)
	if before, same := strings.CutSuffix(text, context.DeadlineExceeded.Error()); same {
		return before + own
	}
	return own + ": " + text
}

func (e *limitError) Unwrap() error { return e.err }

// Timeout is what http.Client, which wraps the error, asks for.
func (e *limitError) Timeout() bool { return true }

func (c *timeoutContext) Done() <-chan struct{} { return c.inner.Done() }

func (c *timeoutContext) Err() error {
	if c.inner.Err() == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *timeoutContext) Deadline() (time.Time, bool) {
	deadline, ok := c.Context.Deadline()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.IsZero() && (!ok || c.deadline.Before(deadline)) {
		return c.deadline, true
	}
	return deadline, ok
}

// AfterFunc lets package context derive contexts from this one without a
// goroutine for each.
func (c *timeoutContext) AfterFunc(f func()) func() bool { return context.AfterFunc(c.inner, f) }

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
	// A clock of the user's own need not be comparable. Its type alone does not say
	// whether it is: a field may hold anything.
	return reflect.TypeOf(clock) == reflect.TypeOf(other) && (!reflect.ValueOf(clock).Comparable() || clock == other)
}

func isReal(clock clockwork.Clock) bool {
	return clock == nil || reflect.TypeOf(clock) == typeRealClock
}

var typeRealClock = reflect.TypeOf(clockwork.NewRealClock())

// alarm is the one timer of a call, set anew for each of its waits. The zero
// value is ready; it is stopped with stop.
type alarm struct {
	real *time.Timer
	fake clockwork.Timer
}

// set returns a channel that receives after d on the given clock. The wait
// before must be over: received from, or stopped.
func (a *alarm) set(clock clockwork.Clock, d time.Duration) <-chan time.Time {
	switch {
	case clock != nil && a.fake == nil:
		a.fake = clock.NewTimer(d)
	case clock != nil:
		a.fake.Reset(d)
	case a.real == nil:
		a.real = time.NewTimer(d)
	default:
		a.real.Reset(d)
	}
	if clock != nil {
		return a.fake.Chan()
	}
	return a.real.C
}

// stop lets go of the timer; what it may have sent meanwhile is discarded.
func (a *alarm) stop() {
	if a.real != nil {
		a.real.Stop() // since Go 1.23 nothing stale is received afterwards
	}
	if a.fake != nil && !a.fake.Stop() {
		select {
		case <-a.fake.Chan():
		default:
		}
	}
}
