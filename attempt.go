package retry

import (
	"context"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// RetryCount returns how many attempts went before the one that ctx was given
// to: 0 in the first attempt of a [Do] or a request, and outside of any; 1 in
// the first retry. It is what OpenTelemetry calls http.request.resend_count.
func RetryCount(ctx context.Context) int {
	if ctx == nil {
		return 0
	}
	retry, _ := ctx.Value(retryKey{}).(int)
	return retry
}

type retryKey struct{}

// retryContext tells a retry its number.
type retryContext struct {
	context.Context
	retry int
}

func (c *retryContext) Value(key any) any {
	if key == (retryKey{}) {
		return c.retry
	}
	return c.Context.Value(key)
}

// retryContexts hands out the contexts of a call's retries. They are made a few
// at a time, to spare a call with several retries some allocations, and never
// reused: the function may keep one.
type retryContexts struct{ spare []retryContext }

func (r *retryContexts) next(ctx context.Context, retry int) context.Context {
	if len(r.spare) == 0 {
		r.spare = make([]retryContext, 4)
	}
	c := &r.spare[0]
	r.spare = r.spare[1:]
	c.Context, c.retry = ctx, retry
	return c
}

// timeoutContext is a context with a time limit on any clock, which can be
// moved or lifted while it is in use. Neither package context nor clockwork has
// one: the first knows no clock but the real one and no second thoughts, the
// second makes contexts whose Err blocks until they are done.
type timeoutContext struct {
	context.Context // the caller's, for its values
	clock           clockwork.Clock
	began           time.Time
	inner           context.Context // done when this one is
	done            context.CancelFunc
	unlink          func() bool // from the caller's context

	mu       sync.Mutex // guards the fields below
	timer    interface{ Stop() bool }
	deadline time.Time
	turn     int // of the limit: an older one that is just expiring has no say
	err      error
}

// withTimeout returns a context that ends after d at the latest. It must be
// cancelled.
func withTimeout(ctx context.Context, clock clockwork.Clock, d time.Duration) *timeoutContext {
	c := &timeoutContext{Context: ctx, clock: clock, began: now(clock)}
	c.inner, c.done = context.WithCancel(context.Background())
	c.setLimit(d)
	c.unlink = context.AfterFunc(ctx, func() { c.end(ctx.Err()) })
	return c
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
