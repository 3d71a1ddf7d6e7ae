// Package clock is what the real clock and a fake one have in common: their time, a timer
// that is set again and again, and contexts with a time limit on either.
package clock

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// Now is the time on a clock; nil is the real one.
func Now(clock clockwork.Clock) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock.Now()
}

// Since is how long ago t was: it is cheaper than two readings of the real clock compared.
func Since(clock clockwork.Clock, t time.Time) time.Duration {
	if clock == nil {
		return time.Since(t)
	}
	return clock.Now().Sub(t)
}

// Same reports whether two clocks are one; nil is the real one.
func Same(clock, other clockwork.Clock) bool {
	if isReal(clock) && isReal(other) {
		return true
	}
	// A custom clock need not be comparable. Its type alone does not say
	// whether it is: a field may hold anything.
	return reflect.TypeOf(clock) == reflect.TypeOf(other) && (!reflect.ValueOf(clock).Comparable() || clock == other)
}

func isReal(clock clockwork.Clock) bool {
	return clock == nil || reflect.TypeOf(clock) == typeRealClock
}

var typeRealClock = reflect.TypeOf(clockwork.NewRealClock())

// Alarm is the one timer of a call, set again for each of its waits. The zero
// value is ready; it is stopped with Stop.
type Alarm struct {
	real *time.Timer
	fake clockwork.Timer
}

// Set returns a channel that receives after d on the given clock. The wait
// before must be over: received from, or stopped.
func (a *Alarm) Set(clock clockwork.Clock, d time.Duration) <-chan time.Time {
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

// Stop stops the timer; what it may have sent meanwhile is discarded.
func (a *Alarm) Stop() {
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

// Timeout is a context with a time limit on any clock, which can be
// moved or lifted while it is in use. Neither package context nor clockwork has
// one: the first knows no clock but the real one, and its limit cannot be
// moved; the second makes contexts whose Err blocks until they are done.
type Timeout struct {
	callerContext // for its values
	clock         clockwork.Clock
	began         time.Time
	inner         context.Context // done when this one is
	done          context.CancelFunc
	unlink        func() bool // from the caller's context

	mu       sync.Mutex // guards the fields below
	timer    interface{ Stop() bool }
	deadline time.Time
	version  int // of the limit: that of an older one which is just expiring is ignored
	err      error
	expired  bool // by the limit, and not with the caller's context
}

// WithTimeout returns a context that ends after d at the latest. It must be
// cancelled.
func WithTimeout(ctx context.Context, clock clockwork.Clock, d time.Duration) *Timeout {
	c := &Timeout{callerContext: callerContext{ctx}, clock: clock, began: Now(clock)}
	c.inner, c.done = context.WithCancel(context.Background())
	c.SetLimit(d)
	c.unlink = c.callerContext.afterFunc(func() { c.end(c.callerContext.Err()) })
	return c
}

// callerContext is a context of the caller's. It has an error once it is done,
// even if that was written by hand and has none: package context panics then, in
// a goroutine of its own.
type callerContext struct{ context.Context }

func (c *callerContext) Err() error {
	if !Done(c.Context) {
		return nil
	}
	_, err := Cause(c.Context)
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

// SetLimit makes d the time left from now on; 0 or less lifts the limit.
func (c *Timeout) SetLimit(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer, c.deadline = nil, time.Time{}
	}
	c.version++
	version := c.version
	if d <= 0 || c.err != nil {
		return
	}
	c.deadline = Now(c.clock).Add(d)
	expire := func() { c.expire(version) }
	if c.clock == nil {
		c.timer = time.AfterFunc(d, expire)
	} else {
		c.timer = c.clock.AfterFunc(d, expire)
	}
}

// Elapsed is how long ago it was made.
func (c *Timeout) Elapsed() time.Duration { return Now(c.clock).Sub(c.began) }

// Detach lifts the limit, and lets the context outlive the caller's.
func (c *Timeout) Detach() {
	c.SetLimit(0)
	c.unlink()
}

// Cancel ends the context, stops its timer, and leaves the caller's context.
func (c *Timeout) Cancel() {
	c.SetLimit(0)
	c.unlink()
	c.end(context.Canceled)
}

func (c *Timeout) expire(version int) {
	c.mu.Lock()
	current := version == c.version
	c.expired = c.expired || current && c.err == nil
	c.mu.Unlock()
	if current {
		c.end(context.DeadlineExceeded)
	}
}

// Expired reports whether the limit ended it, and not the caller's context.
func (c *Timeout) Expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expired
}

func (c *Timeout) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.done()
}

func (c *Timeout) Done() <-chan struct{} { return c.inner.Done() }

func (c *Timeout) Err() error {
	if c.inner.Err() == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Timeout) Deadline() (time.Time, bool) {
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
func (c *Timeout) AfterFunc(f func()) func() bool { return context.AfterFunc(c.inner, f) }

// Cause returns the cause and the error of a context that is done. One that
// was written by hand may have none yet: it counts as cancelled.
func Cause(ctx context.Context) (cause, err error) {
	if err = ctx.Err(); err == nil {
		err = context.Canceled
	}
	if cause = context.Cause(ctx); cause == nil {
		cause = err
	}
	return cause, err
}

// Done reports whether ctx is done. It looks at the channel, because the Err of
// some contexts (clockwork's) blocks until they are done, and so does that of a
// context with a value around them. That of a cancelCtx or timerCtx does not,
// whatever it is derived from, and it is twice as fast.
func Done(ctx context.Context) bool {
	if t := reflect.TypeOf(ctx); t == typeCancelCtx || t == typeTimerCtx {
		return ctx.Err() != nil
	}
	if v := reflect.ValueOf(ctx); v.Kind() == reflect.Pointer && v.IsNil() { // a nil pointer is no context to go on with
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
