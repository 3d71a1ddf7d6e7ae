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
// is for [retry.Config.Limiter]. The rate is above 0 and up to 1e6; one name is one
// Rate. A wrong name or rate, or another rate for a name of this process, makes
// every Wait return an error that matches [retry.ErrInvalidConfig]. Where processes
// name different rates, the lowest that was named in the last two minutes is that
// of all, and the others log a warning.
func (f *Fleet) Rate(name string, perSecond float64) *Rate {
	r := &Rate{fleet: f, name: name, perSecond: perSecond, agreed: perSecond * margin, asked: time.Now()}
	r.name, r.err = nameOf("rate", name)
	if !(perSecond > 0 && perSecond <= 1e6) {
		r.err = cmp.Or(r.err, invalid("rate %.80q is %v a second, want more than 0 and at most 1e6", name, perSecond))
	}
	if r.err != nil {
		return r
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.rates[r.name]; known == nil {
		f.rates[r.name] = r
		r.question = true
		f.sendDue.give()
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
// Slots are leased from Redis in the background, for half a second ahead. A
// call that finds none waits for the next lease, 100ms at most if there are slots
// to be had. An idle Rate leases none.
type Rate struct {
	fleet     *Fleet
	name      string
	perSecond float64
	err       error

	mu       sync.Mutex // guards the fields below
	agreed   float64    // calls a second that the fleet hands out
	question bool       // the rate is to be named, and the fleet's asked for
	slots    []slots    // in order
	waiting  []*caller  // in order of arrival
	calls    int        // since it last asked

	asking bool
	asked  time.Time // when it last did
	failed bool      // and got no answer
	more   time.Time // before that it need not ask
	ahead  int       // slots that it gave itself while it was asking

	counted time.Time // since when granted counts; zero: no lease was answered yet
	granted int
	share   float64   // calls a second that this process was given lately
	own     time.Time // the next slot that it may give itself, without Redis
}

// slots are some moments at which a call may pass.
type slots struct {
	first time.Time
	gap   time.Duration
	n     int
}

// caller waits for a slot.
type caller struct{ slot chan time.Time }

// Wait returns nil when the caller may pass. If ctx is done before, it returns its
// cause; if the slot that it is given comes after the deadline of ctx, it returns at
// once, with an error that matches [retry.ErrDeadline].
func (r *Rate) Wait(ctx context.Context) error {
	if r.err != nil {
		return r.err
	}
	r.mu.Lock()
	r.calls++
	r.mu.Unlock()
	for {
		at, err := r.slot(ctx)
		if err != nil {
			return err
		}
		if passed, err := r.await(ctx, at); passed || err != nil {
			return err
		}
	}
}

// slot returns the caller's slot, as soon as there is one.
func (r *Rate) slot(ctx context.Context) (time.Time, error) {
	if ctx.Err() != nil {
		return time.Time{}, context.Cause(ctx)
	}
	r.mu.Lock()
	at, ok := r.take(time.Now())
	if ok {
		r.mu.Unlock()
		return at, nil
	}
	c := &caller{make(chan time.Time, 1)}
	r.waiting = append(r.waiting, c)
	r.mu.Unlock()
	r.fleet.choresDue.give()
	select {
	case at = <-c.slot:
	case <-ctx.Done():
		r.leave(c)
		return time.Time{}, context.Cause(ctx)
	case <-r.fleet.ctx.Done():
		if at, ok = r.leaveClosed(c); !ok {
			at = <-c.slot
		}
	}
	return at, nil
}

// await waits for a slot that the caller has. It reports whether the caller may
// pass: where the process was stopped meanwhile the slot is over, and all that had
// one would pass at once.
func (r *Rate) await(ctx context.Context, at time.Time) (passed bool, err error) {
	d := time.Until(at)
	if d <= 0 {
		return true, nil
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(at) {
		r.giveBack(at)
		return false, fmt.Errorf("fleet: rate %s: the next slot is in %v: %w", r.name, d.Round(time.Millisecond), retry.ErrDeadline)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return since(at) < slotGrace, nil
	case <-ctx.Done():
		r.giveBack(at)
		return false, context.Cause(ctx)
	}
}

// take takes the next slot, unless others wait for it. r.mu must be held.
func (r *Rate) take(now time.Time) (time.Time, bool) {
	if len(r.waiting) > 0 {
		return time.Time{}, false
	}
	if r.fleet.ctx.Err() != nil {
		return r.ownSlot(now), true
	}
	return r.next(now)
}

// next takes the next slot. r.mu must be held.
func (r *Rate) next(now time.Time) (time.Time, bool) {
	for len(r.slots) > 0 {
		s := &r.slots[0]
		if late := now.Sub(s.first) - slotGrace; late > 0 { // those are lost
			lost := min(s.n, int(late/s.gap)+1)
			s.n, s.first = s.n-lost, s.first.Add(time.Duration(lost)*s.gap)
		}
		if s.n == 0 {
			r.slots = r.slots[1:]
			continue
		}
		at := s.first
		s.n, s.first = s.n-1, s.first.Add(s.gap)
		return at, true
	}
	return time.Time{}, false
}

// serve gives slots to those who wait. r.mu must be held.
func (r *Rate) serve(now time.Time) {
	for len(r.waiting) > 0 {
		at, ok := r.next(now)
		if !ok {
			return
		}
		r.waiting[0].slot <- at
		r.waiting = r.waiting[1:]
	}
}

// leave takes out a caller that waits no longer.
func (r *Rate) leave(c *caller) {
	r.mu.Lock()
	i := slices.Index(r.waiting, c)
	if i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	r.mu.Unlock()
	if i < 0 { // it was given one just now
		r.giveBack(<-c.slot)
	}
}

// leaveClosed takes out a caller that will get no slot from the fleet any more,
// and gives it one of this process.
func (r *Rate) leaveClosed(c *caller) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiting, c)
	if i < 0 {
		return time.Time{}, false
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	return r.ownSlot(time.Now()), true
}

// giveBack returns a slot that was not used.
func (r *Rate) giveBack(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearchFunc(r.slots, at, func(s slots, at time.Time) int { return s.first.Compare(at) })
	r.slots = slices.Insert(r.slots, i, slots{at, time.Second, 1})
	r.serve(time.Now())
}
