package retry

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// Gate pauses everybody who shares it when a server asks to be left alone: one
// 429 with a Retry-After holds back all calls, first attempts too. When the
// pause ends they are let through one by one, in the order in which they came:
// the first at that very moment, the others at intervals of 5ms. A pause that
// follows while they are at it doubles the interval, up to 1s; each call let
// through shortens it by a hundredth, and ten minutes without a pause bring it
// back to 5ms. Calls that come a second or more after a pause, with the interval
// back at 5ms, pass at once.
//
// A Gate is safe for concurrent use. The zero value is an open gate on the real
// clock.
type Gate struct {
	clock clockwork.Clock
	busy  atomic.Bool // false: open, and nobody need look further

	mu        sync.Mutex // guards the fields below
	queue     *queue     // nil until the first pause
	listeners []func(time.Time)
	by        error // what set the pause
}

const (
	gateInterval = 5 * time.Millisecond
	gateSlowest  = time.Second // the longest interval
	gateSpeedUp  = 100         // an interval is shorter by one in so many than the one before
	gateCalm     = time.Second // after a pause, until the gate stands open again
	gateForget   = 10 * time.Minute
)

// NewGate returns an open gate on the given clock; nil means the real one.
func NewGate(clock clockwork.Clock) *Gate { return &Gate{clock: clock} }

// Pause closes the gate for d from now on. It never shortens a longer pause. A
// d of 0 or less does nothing.
func (g *Gate) Pause(d time.Duration) { g.pause(d, nil) }

// pause is Pause with the failure that is its cause. It returns the end of the
// pause, and whether it is later than before.
func (g *Gate) pause(d time.Duration, cause error) (until time.Time, longer bool) {
	if d <= 0 {
		return time.Time{}, false
	}
	g.mu.Lock()
	q := g.line()
	until = addTime(q.seen, d)
	longer = until.After(q.until)
	if longer {
		q.slow()
		q.hold(until)
		g.by = cause
	}
	listeners := g.listeners
	g.mu.Unlock()
	if longer {
		for _, listener := range listeners {
			listener(until)
		}
	}
	return until, longer
}

// cause is the failure that set the pause; nil if none did.
func (g *Gate) cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.by
}

// line returns the queue, which is in use from now on. g.mu must be held, also
// so that one look at the clock is never later than the next.
func (g *Gate) line() *queue {
	if g.queue == nil {
		g.queue = &queue{step: gateInterval, gap: gateInterval}
	}
	g.queue.adjust(now(g.clock))
	g.busy.Store(true)
	return g.queue
}

// release makes those who come to the gate from now on pass one by one.
func (g *Gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.line(); q.seen.After(q.until) {
		q.hold(q.seen)
	}
}

// Wait returns nil as soon as the gate lets the caller through. If ctx is done
// before, it returns an error that matches its error and its cause; if the
// deadline of ctx is too early for that to happen, it returns at once, with an
// error that matches [ErrDeadline].
func (g *Gate) Wait(ctx context.Context) error {
	if ctx == nil {
		return invalid("Gate.Wait: ctx is nil")
	}
	if done(ctx) {
		return doneError(ctx)
	}
	return g.wait(ctx, func(ctx context.Context, wait time.Duration) error {
		if done(ctx) {
			return doneError(ctx)
		}
		if deadline, ok := ctx.Deadline(); ok && wait > 0 && wait >= deadline.Sub(now(g.clock)) {
			return ErrDeadline
		}
		return nil
	})
}

// wait is Wait for a caller with limits of its own: it waits only as long as
// fits has no objection.
func (g *Gate) wait(ctx context.Context, fits func(context.Context, time.Duration) error) error {
	if !g.busy.Load() {
		return nil
	}
	g.mu.Lock()
	w := g.line().join()
	if w == nil && g.queue.idle() {
		g.busy.Store(false)
	}
	g.mu.Unlock()
	if w == nil {
		return fits(ctx, 0)
	}
	return g.await(ctx, w, fits)
}

func (g *Gate) await(ctx context.Context, w *waiter, fits func(context.Context, time.Duration) error) error {
	var alarm alarm
	defer alarm.stop()
	passed := false
	defer func() {
		g.mu.Lock()
		g.queue.leave(w, passed)
		g.mu.Unlock()
	}()
	for {
		g.mu.Lock()
		left := w.at.Sub(g.line().seen)
		g.mu.Unlock()
		if err := fits(ctx, max(0, left)); err != nil {
			return err
		}
		if left <= 0 {
			passed = true
			return nil
		}
		select {
		case <-alarm.set(g.clock, left):
		case <-w.moved:
			alarm.stop()
		case <-ctx.Done():
		}
	}
}

// PausedUntil returns the end of the pause, and whether there is one.
func (g *Gate) PausedUntil() (time.Time, bool) {
	if !g.busy.Load() {
		return time.Time{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.line(); q.until.After(q.seen) {
		return q.until, true
	}
	return time.Time{}, false
}

// left is how much of the pause is left.
func (g *Gate) left() time.Duration {
	if !g.busy.Load() {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.line()
	return max(0, q.until.Sub(q.seen))
}

// OnPause adds a listener that is called after a pause was set or lengthened,
// outside of any lock. It may pass the pause on to other processes; a pause that
// comes back from there does not lengthen it, and so is not passed on again.
func (g *Gate) OnPause(fn func(until time.Time)) {
	if fn == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners = append(slices.Clip(g.listeners), fn)
}

// queue lets waiters through one by one, first come first served. Each knows
// the time of its turn and waits for it by itself; when turns move it is told.
// The gate's mu guards it.
type queue struct {
	seen    time.Time     // the clock, as last seen
	until   time.Time     // the end of the pause: the first turn
	next    time.Time     // the earliest turn that is not given away or used up
	step    time.Duration // the interval before the next who passes
	gap     time.Duration // the interval after the last turn given away
	waiters []*waiter
}

type waiter struct {
	at    time.Time     // its turn
	gap   time.Duration // the interval after it
	moved chan struct{} // receives when at has changed
}

// slow doubles the interval if a pause is over, but not its crowd: they were let
// through faster than the server likes.
func (q *queue) slow() {
	if !q.until.IsZero() && !q.seen.Before(q.until) && !q.idle() {
		q.step = min(2*q.step, gateSlowest)
	}
}

// hold moves the first turn, and with it all others.
func (q *queue) hold(until time.Time) {
	q.until, q.next, q.gap = until, until, q.step
	for _, w := range q.waiters {
		q.give(w)
	}
}

// give gives w the next turn.
func (q *queue) give(w *waiter) {
	w.at, w.gap = q.next, q.gap
	q.advance()
	select {
	case w.moved <- struct{}{}:
	default: // it has not looked since it was last told
	}
}

// advance uses up a turn.
func (q *queue) advance() {
	q.next = q.next.Add(q.gap)
	q.gap = max(q.gap-q.gap/gateSpeedUp, gateInterval)
}

// join returns nil if a newcomer may pass right now, or else the newcomer's
// place. Who comes when the pause is long over is not part of the crowd that it
// made: making all wait in line would limit a busy service for ever.
func (q *queue) join() *waiter {
	if q.calm() {
		return nil
	}
	if len(q.waiters) == 0 && !q.next.After(q.seen) {
		q.next, q.gap = q.seen, q.step
		q.advance()
		q.step = q.gap
		return nil
	}
	w := &waiter{moved: make(chan struct{}, 1)}
	q.give(w)
	<-w.moved
	q.waiters = append(q.waiters, w)
	return w
}

// calm reports whether the pause was over some time ago, and the server has
// not been seen to dislike the usual interval since.
func (q *queue) calm() bool { return q.seen.Sub(q.until) >= gateCalm && q.step == gateInterval }

// idle reports whether the crowd after the pause is gone as well.
func (q *queue) idle() bool { return q.calm() && len(q.waiters) == 0 }

// leave takes w out. If it did not pass, those behind it move up.
func (q *queue) leave(w *waiter, passed bool) {
	i := slices.Index(q.waiters, w)
	q.waiters = slices.Delete(q.waiters, i, i+1)
	if passed {
		q.step = max(w.gap-w.gap/gateSpeedUp, gateInterval)
		return
	}
	q.next, q.gap = w.at, w.gap
	for _, behind := range q.waiters[i:] {
		q.give(behind)
	}
}

// adjust keeps the pause in place when a clock without monotonic time is set
// back: what was left of it is still left, and not an hour more.
func (q *queue) adjust(now time.Time) {
	if back := q.seen.Sub(now); back > 0 {
		q.until, q.next = q.until.Add(-back), q.next.Add(-back)
		for _, w := range q.waiters {
			w.at = w.at.Add(-back)
		}
	}
	q.seen = now
	if now.Sub(q.until) >= gateForget {
		q.step = gateInterval
	}
}

// addTime adds d to t, or as much of it as a time.Time can hold and compare.
func addTime(t time.Time, d time.Duration) time.Time {
	const century = 100 * 365 * 24 * time.Hour
	return t.Add(min(d, century))
}
