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
// pause ends they are let through in the order in which they came: the first at
// that very moment, the others 5ms apart or, after three seconds of it, ever
// faster, until nobody is left in line.
//
// If the server refuses again within ten pauses, or a minute if that is less, the
// gate learns a pace: a little less than what the server has borne, which is what
// passed between the two refusals, less the burst that it takes at once. While
// calls have to wait for it the pace is held, for 24 pauses or at least 6s, then
// raised by growing steps until nobody waits or the server refuses again. It is
// forgotten when nobody is in line and either nobody had to wait for a minute or the
// last pause ended ten minutes ago.
//
// A server that refuses at random, whatever the rate, is called too slowly so: a
// Config without a Gate, or [NoSharedPause], lets each call wait for itself.
//
// Before the first refusal a Gate holds nobody back, except when the headers of a
// response say that the server's quota is nearly used up: the rest is spread over
// the time until it is restored. A known rate is better kept by [Config.Limiter].
// What a server asks for is kept in full, up to an hour.
//
// A Gate is safe for concurrent use. The zero value is an open gate on the real
// clock.
type Gate struct {
	clock  clockwork.Clock
	busy   atomic.Bool  // false: open, and nobody need look further
	beyond atomic.Int32 // those who passed, and now wait for a Limiter
	burst  burst        // what was accepted before the first refusal

	mu        sync.Mutex // guards the fields below
	queue     *queue     // nil until the first pause
	listeners []func(time.Time)
	by        error // what set the pause
}

// maxPause is how long a server can pause a gate: one that is wrong about the
// time must not do so for a year. Calls that may not wait for so long
// (MaxRetryAfter) end instead. Nothing is learned from what a longer one adds.
const maxPause = time.Hour

// NewGate returns an open gate on the given clock; nil means the real one.
func NewGate(clock clockwork.Clock) *Gate { return &Gate{clock: clock} }

// Pause closes the gate for d from now on. It never shortens a longer pause. A
// d of 0 or less does nothing.
func (g *Gate) Pause(d time.Duration) { g.pause(d, nil) }

// pause is Pause with the failure that is its cause; nil if it was not a call
// of this gate that failed. It returns the end of the pause, and whether it is
// later than before.
func (g *Gate) pause(d time.Duration, cause error) (until time.Time, longer bool) {
	if d <= 0 {
		return time.Time{}, false
	}
	if cause != nil {
		d = min(d, maxPause)
		cause = kept(cause) // others are shown it
	}
	g.mu.Lock()
	q := g.line()
	until = addTime(q.seen, d)
	longer = until.After(q.until)
	q.refused(min(d, maxPause), cause != nil)
	if longer {
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

// accepted notes that a call succeeded.
func (g *Gate) accepted() {
	if g.burst.count.Load() < maxBurst {
		g.burst.add(g.clock)
	}
}

// line returns the queue, which is in use from now on. g.mu must be held, also
// so that one look at the clock is never later than the next.
func (g *Gate) line() *queue {
	if at := now(g.clock); g.queue == nil {
		g.queue = newQueue(&g.burst, at)
	} else {
		g.queue.adjust(at)
	}
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
	err := g.wait(ctx, func(ctx context.Context, wait time.Duration) error {
		if done(ctx) {
			return doneError(ctx)
		}
		if deadline, ok := ctx.Deadline(); ok && wait > 0 {
			if left := deadline.Sub(now(g.clock)); wait >= left {
				return &lateError{shortage{wait, left}}
			}
		}
		return nil
	})
	if err == nil {
		g.sent()
	}
	return err
}

// sent counts a call that goes to the server, after all waits.
func (g *Gate) sent() {
	if g.busy.Load() {
		g.mu.Lock()
		defer g.mu.Unlock()
		q := g.line()
		q.pace.sent(q.seen)
	}
}

// wait is Wait for a caller with limits of its own: it waits only as long as
// fits has no objection.
func (g *Gate) wait(ctx context.Context, fits func(context.Context, time.Duration) error) error {
	if !g.busy.Load() {
		return nil
	}
	g.mu.Lock()
	w := g.line().join()
	if w == nil && g.queue.forgotten() {
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
	defer g.leave(w)
	for {
		g.mu.Lock()
		left, sleep := g.line().look(w)
		g.mu.Unlock()
		if err := fits(ctx, left); err != nil {
			return err
		}
		if sleep <= 0 {
			if g.pass(w) {
				return nil
			}
			continue // a pause has begun meanwhile
		}
		select {
		case <-alarm.set(g.clock, sleep):
		case <-w.moved:
			alarm.stop()
		case <-ctx.Done():
			if err := fits(ctx, left); err != nil {
				return err
			}
		}
	}
}

// pass lets w through, if it still may.
func (g *Gate) pass(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.line()
	if q.head != w || q.next.After(q.seen) {
		return false
	}
	q.remove(w)
	q.advance(w, g.beyond.Load() > 1)
	q.wakeHead()
	return true
}

// leave takes w out of the line, if it is still there.
func (g *Gate) leave(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.gone {
		return
	}
	first := w == g.queue.head
	g.queue.remove(w)
	if first {
		g.queue.wakeHead()
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
// comes back from there does not lengthen it, and so is not passed on again. At
// the end of a pause the first of each gate goes at that very moment: where there
// are many, let each of the others end it a random part of its [Gate.Pace] later.
func (g *Gate) OnPause(fn func(until time.Time)) {
	if fn == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners = append(slices.Clip(g.listeners), fn)
}

// Pace returns how many calls a second the gate lets through at present, or
// will when its pause is over, and whether it limits them at all.
func (g *Gate) Pace() (perSecond float64, paced bool) {
	if !g.busy.Load() {
		return 0, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.line(); !q.open() {
		return float64(time.Second) / float64(q.step()), true
	}
	return 0, false
}

// addTime adds d to t, or as much of it as a time.Time can hold and compare.
func addTime(t time.Time, d time.Duration) time.Time {
	const century = 100 * 365 * 24 * time.Hour
	return t.Add(min(d, century))
}
