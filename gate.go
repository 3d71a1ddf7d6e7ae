package retry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/pace"
)

// Gate holds back the calls that share it when a server refuses calls: when it
// answers 429 or 503, or an error is marked by [RetryAfter].
//
// A refused call always waits as long as the server asked. The others pause with it
// where nothing shows that the server accepts them: the first call is refused,
// several in succession, or most of the last ones. Where one is refused among many
// that are accepted, the others go on. The pause of the others ends as soon as a call
// that was sent after the refused one is accepted. When a pause ends, calls are let
// through in the order in which they came: the first at that very moment, the others
// 5ms apart or, after five seconds of it, ever faster.
//
// Where a rate explains the refusals, the gate paces calls: a little slower than the
// server was seen to accept them, with probes of a higher rate. Where lowering the pace
// does not reduce the share of calls that are refused, the gate doubles the pace again and
// again. A pace ends when no call has to wait for it.
//
// Before the first refusal a Gate holds no call back, and a success never does. A
// known rate is better kept by [Config.Limiter]. A pause is kept in full, up to an
// hour.
//
// A Gate is safe for concurrent use. The zero value is an open gate on the real
// clock.
type Gate struct {
	clock   clockwork.Clock
	busy    atomic.Bool   // false: open, with nothing to learn from outcomes
	accepts atomic.Int32  // calls accepted while it was not busy, up to gateRecent
	tickets atomic.Uint64 // of calls that were sent

	mu        sync.Mutex // guards the fields below
	queue     *queue     // nil until the first refusal
	listeners []func(time.Time)
	by        error // the refusal that set the last pause, or was no reason for one; nil if Pause set it
}

// maxPause is how long a server can pause a gate: one that is wrong about the
// time must not do so for a year. Calls that may not wait for so long
// (MaxRetryAfter) end instead.
const maxPause = time.Hour

// NewGate returns an open gate on the given clock; nil means the real one.
func NewGate(clock clockwork.Clock) *Gate { return &Gate{clock: clock} }

// Pause closes the gate for d from now on, to the end. It never shortens a longer
// pause. A d of 0 or less does nothing.
func (g *Gate) Pause(d time.Duration) {
	if d <= 0 {
		return
	}
	g.mu.Lock()
	q := g.current()
	until := addTime(q.seen, d)
	q.firm = later(q.firm, until)
	g.pauseUntil(until, nil)
}

// Refused notes a refusal that was seen elsewhere, by another process or by code that
// does not call through a [Config], with the wait that the server asked for. It pauses
// the gate for d, and yields to what becomes of the gate's own calls: as soon as one
// that is under way is accepted, and was not sent before one that was refused, the
// pause is over. A d of 0 or less does nothing.
func (g *Gate) Refused(d time.Duration) {
	if d <= 0 {
		return
	}
	g.mu.Lock()
	q := g.current()
	q.pace.Join()
	g.pauseUntil(q.seen.Add(min(d, maxPause)), errElsewhere)
}

// errElsewhere stands for a refusal of which no more is known.
var errElsewhere = errors.New("a refusal seen elsewhere")

// refusal is what a refusal leads to.
type refusal struct {
	until  time.Time // the end of the pause of all calls, if longer
	longer bool
	pace   string // what the log says of it, if that changed
}

// refused learns from the refusal of a call, which waits for d by itself. before is the
// number of its last attempt that was refused; 0 if none was.
func (g *Gate) refused(t pace.Call, before uint64, d time.Duration, err error) (v refusal) {
	d = min(max(d, 0), maxPause)
	shown, _ := sanitized(err) // to other callers
	g.mu.Lock()
	q := g.current()
	q.know(int(g.accepts.Swap(0)))
	if t.Sent.IsZero() {
		t.Sent = q.seen
	}
	if !q.until.After(q.seen) { // else it is what set the pause that is shown
		g.by = shown
	}
	again := q.again(before)
	all := q.refused(t, again)
	cause := q.pace.Refused(t, g.next(), d, q.rate(), again)
	if cause != "" {
		q.reason = cause
	}
	v.pace = q.paceChange(cause)
	if !all {
		g.mu.Unlock()
		return v
	}
	v.until = addTime(q.seen, d)
	v.longer = g.pauseUntil(v.until, shown)
	return v
}

// pauseUntil lengthens the pause, and notifies the listeners where it is longer than
// they know by more than it takes to pass it on to another gate and back. It unlocks
// g.mu, which must be held.
func (g *Gate) pauseUntil(until time.Time, by error) (longer bool) {
	q := g.queue
	fresh := by != errElsewhere && !q.until.After(q.seen) // though the listeners may think that the last one goes on
	if longer = until.After(later(q.until, q.seen)); longer {
		g.by = by
		q.hold(until)
		q.pace.Paused(q.seen, until)
	}
	var listeners []func(time.Time)
	echo := min(max(until.Sub(q.seen)/10, 5*time.Millisecond), 100*time.Millisecond)
	if longer && (fresh || until.Sub(q.notified) > echo || !q.notified.After(q.seen)) {
		listeners, q.notified = g.listeners, until
	}
	g.mu.Unlock()
	for _, listener := range listeners {
		listener(until)
	}
	return longer
}

// accepted learns from a call that the server did not refuse; before is as in refused. It
// returns what the log says of the pace, if that changed.
func (g *Gate) accepted(t pace.Call, before uint64) (paceChange string) {
	if !g.busy.Load() {
		if g.accepts.Load() < gateRecent {
			g.accepts.Add(1)
		}
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.current()
	if t.Sent.IsZero() {
		t.Sent = q.seen
	}
	q.pace.Accepted(t, g.next(), q.again(before))
	q.accepted(t)
	return q.paceChange("")
}

// next is the last call that was sent, as of now.
func (g *Gate) next() pace.Call { return pace.Call{Number: g.tickets.Load(), Sent: g.queue.seen} }

// sent gives out the ticket of a call that goes to the server, after all waits.
func (g *Gate) sent() (t pace.Call) {
	t.Number = g.tickets.Add(1)
	if g.busy.Load() {
		t.Sent = clock.Now(g.clock)
	}
	return t
}

// cause is the failure that set the pause; nil if none did.
func (g *Gate) cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.by
}

// current returns the queue as of now, which is in use from now on. g.mu must be held, also
// so that one reading of the clock is never later than the next.
func (g *Gate) current() *queue {
	if at := clock.Now(g.clock); g.queue == nil {
		g.queue = newQueue(at)
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
	if q := g.current(); q.seen.After(q.until) {
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
	err := g.wait(ctx, nil, func(ctx context.Context, wait time.Duration) error {
		if done(ctx) {
			return doneError(ctx)
		}
		if deadline, ok := ctx.Deadline(); ok && wait > 0 {
			if left := deadline.Sub(clock.Now(g.clock)); wait >= left {
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

// wait is Wait for a caller with limits of its own: it waits only as long as
// fits has no objection, which is asked at once when ctx is done or drain is closed, and
// then must have one to a wait.
func (g *Gate) wait(ctx context.Context, drain <-chan struct{}, fits func(context.Context, time.Duration) error) error {
	if !g.busy.Load() {
		return nil
	}
	g.mu.Lock()
	w := g.current().join()
	if g.queue.forgotten() {
		g.busy.Store(false)
	}
	g.mu.Unlock()
	if w == nil {
		return fits(ctx, 0)
	}
	return g.await(ctx, drain, w, fits)
}

func (g *Gate) await(ctx context.Context, drain <-chan struct{}, w *waiter, fits func(context.Context, time.Duration) error) error {
	var alarm clock.Alarm
	defer alarm.Stop()
	defer g.leave(w)
	for {
		g.mu.Lock()
		left, sleep := g.current().look(w)
		seen := g.queue.seen
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
		case <-alarm.Set(g.clock, sleep-max(0, clock.Since(g.clock, seen))): // a hook took time
		case <-w.moved:
			alarm.Stop()
		case <-ctx.Done(): // which does not fit
			alarm.Stop()
		case <-drain: // nor does a wait
			alarm.Stop()
		}
	}
}

// pass lets w through, if it still may.
func (g *Gate) pass(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.current()
	if q.head != w || q.next.After(q.seen) {
		return false
	}
	q.remove(w)
	q.advance(w)
	q.wakeHead()
	return true
}

// leave takes w out of the queue, if it is still there.
func (g *Gate) leave(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.gone {
		return
	}
	g.queue.remove(w)
	g.queue.wakeHead()
}

// GateSnapshot is a [Gate] at one moment.
type GateSnapshot struct {
	PausedUntil   time.Time // zero if it is not paused
	PacePerSecond float64   // 0: it does not pace
	Waiting       int       // calls in its queue
	Cause         string    // of its last pause or pace: "14 of 320 refused in 3s"
	LastRefusal   error     // what set the last pause, or was no reason for one; without body and header; nil if Pause set it
}

// Snapshot returns one consistent copy of the gate's state.
func (g *Gate) Snapshot() (s GateSnapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.LastRefusal = g.by; g.queue == nil {
		return s
	}
	q := g.current()
	if q.until.After(q.seen) {
		s.PausedUntil = q.until
	}
	s.PacePerSecond, s.Waiting, s.Cause = q.pace.Rate(), q.length, q.reason
	return s
}

// PausedUntil returns the end of the pause, and whether there is one.
func (g *Gate) PausedUntil() (time.Time, bool) {
	if !g.busy.Load() {
		return time.Time{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.current(); q.until.After(q.seen) {
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
	q := g.current()
	return max(0, q.until.Sub(q.seen))
}

// OnPause adds a listener that is called after a pause was set or lengthened,
// outside of any lock. It may pass the pause on to other processes; a pause that
// comes back from there is not passed on again. At the end of a pause the first of
// each gate goes at that very moment: where there are many, let each of the others
// end it a random part of its [Gate.Pace] later.
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
	if q := g.current(); !q.open() {
		return q.rate(), true
	}
	return 0, false
}

// addTime adds d to t, or as much of it as a time.Time can hold and compare.
func addTime(t time.Time, d time.Duration) time.Time {
	const century = 100 * 365 * 24 * time.Hour
	return t.Add(min(d, century))
}
