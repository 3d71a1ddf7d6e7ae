package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/retryutils/retry"
)

// Rate returns this process's part of a rate that the whole fleet keeps to:
// perSecond calls a second in all processes together, shared out by demand. It
// is for [retry.Config.Limiter]. All processes must name the same rate, above 0
// and up to 1e6; one name is one Rate. A wrong name or rate makes every Wait
// return an error that matches [retry.ErrInvalidConfig].
func (f *Fleet) Rate(name string, perSecond float64) *Rate {
	r := &Rate{fleet: f, name: name, perSecond: perSecond, asked: time.Now()}
	r.err = checkName("rate", name)
	if !(perSecond > 0 && perSecond <= 1e6) {
		r.err = cmp.Or(r.err, invalid("rate %.80q is %v a second, want more than 0 and at most 1e6", name, perSecond))
	}
	if r.err != nil {
		return r
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.rates[name]; known == nil {
		f.rates[name] = r
	} else if known.perSecond == perSecond {
		return known
	} else {
		r.err = invalid("rate %q is %v a second already, want the same and not %v", name, known.perSecond, perSecond)
	}
	return r
}

// Rate is a limiter that many processes share, see [Fleet.Rate]. It has no
// burst: calls pass one by one, evenly spaced over the fleet, a little below the
// rate. It is safe for concurrent use.
//
// Turns are leased from Redis in the background, for half a second ahead. A
// call that finds none waits for the next lease, 100ms at most if there are turns
// to be had. An idle Rate asks nothing.
type Rate struct {
	fleet     *Fleet
	name      string
	perSecond float64
	err       error

	mu      sync.Mutex // guards the fields below
	turns   []turns    // in order
	waiting []*caller  // in order of arrival
	calls   int        // since it last asked

	asking bool
	asked  time.Time // when it last did
	failed bool      // and got no answer
	more   time.Time // before that it need not ask

	counted time.Time // since when granted counts
	granted int
	share   float64   // calls a second that this process was given lately
	own     time.Time // the next turn that it may give itself, without Redis
}

// turns are some moments at which a call may pass.
type turns struct {
	first time.Time
	gap   time.Duration
	n     int
}

// caller waits for a turn.
type caller struct{ turn chan time.Time }

// Wait returns nil when it is the caller's turn. If ctx is done before, it
// returns its cause; if the turn comes after the deadline of ctx, it returns at
// once, with an error that matches [retry.ErrDeadline].
func (r *Rate) Wait(ctx context.Context) error {
	if r.err != nil {
		return r.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	now := time.Now()
	r.mu.Lock()
	r.calls++
	at, ok := r.take(now)
	if ok {
		r.mu.Unlock()
		return r.await(ctx, at, now)
	}
	c := &caller{make(chan time.Time, 1)}
	r.waiting = append(r.waiting, c)
	r.mu.Unlock()
	r.fleet.choresDue.give()
	select {
	case at = <-c.turn:
	case <-ctx.Done():
		r.leave(c)
		return context.Cause(ctx)
	case <-r.fleet.ctx.Done():
		if at, ok = r.leaveClosed(c); !ok {
			at = <-c.turn
		}
	}
	return r.await(ctx, at, time.Now())
}

// await waits for a turn that the caller has.
func (r *Rate) await(ctx context.Context, at, now time.Time) error {
	d := at.Sub(now)
	if d <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(at) {
		r.giveBack(at)
		return fmt.Errorf("fleet: rate %s: the next turn is in %v: %w", r.name, d.Round(time.Millisecond), retry.ErrDeadline)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		r.giveBack(at)
		return context.Cause(ctx)
	}
}

// take takes the next turn, unless others wait for it. r.mu must be held.
func (r *Rate) take(now time.Time) (time.Time, bool) {
	if len(r.waiting) > 0 {
		return time.Time{}, false
	}
	if r.fleet.ctx.Err() != nil {
		return r.ownTurn(now), true
	}
	return r.next(now)
}

// next takes the next turn. r.mu must be held.
func (r *Rate) next(now time.Time) (time.Time, bool) {
	for len(r.turns) > 0 {
		t := &r.turns[0]
		if late := now.Sub(t.first) - turnGrace; late > 0 { // those are lost
			lost := min(t.n, int(late/t.gap)+1)
			t.n, t.first = t.n-lost, t.first.Add(time.Duration(lost)*t.gap)
		}
		if t.n == 0 {
			r.turns = r.turns[1:]
			continue
		}
		at := t.first
		t.n, t.first = t.n-1, t.first.Add(t.gap)
		return at, true
	}
	return time.Time{}, false
}

// serve gives turns to those who wait. r.mu must be held.
func (r *Rate) serve(now time.Time) {
	for len(r.waiting) > 0 {
		at, ok := r.next(now)
		if !ok {
			return
		}
		r.waiting[0].turn <- at
		r.waiting = r.waiting[1:]
	}
}

// leave takes out a caller who waits no longer.
func (r *Rate) leave(c *caller) {
	r.mu.Lock()
	i := slices.Index(r.waiting, c)
	if i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	r.mu.Unlock()
	if i < 0 { // it was given one just now
		r.giveBack(<-c.turn)
	}
}

// leaveClosed takes out a caller who will get no turn from the fleet any more,
// and gives it one of this process.
func (r *Rate) leaveClosed(c *caller) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiting, c)
	if i < 0 {
		return time.Time{}, false
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	return r.ownTurn(time.Now()), true
}

// giveBack returns a turn that was not used.
func (r *Rate) giveBack(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearchFunc(r.turns, at, func(t turns, at time.Time) int { return t.first.Compare(at) })
	r.turns = slices.Insert(r.turns, i, turns{at, time.Second, 1})
	r.serve(time.Now())
}
