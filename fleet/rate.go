package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
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

const (
	margin     = 0.97                   // of the rate is handed out, for what is late or counted twice
	ahead      = 500 * time.Millisecond // how far a lease reaches
	askAgain   = 100 * time.Millisecond // the least time between two
	turnGrace  = 100 * time.Millisecond // a turn can be taken so late
	shareTime  = 2 * time.Second        // over which a process's share is measured
	shareHolds = 10 * time.Second       // without Redis; then all are equal
)

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

func (f *Fleet) allRates() []*Rate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.rates))
}

// renew asks for turns if they are needed, and returns when it is to be called
// again; zero if only a call makes that necessary.
func (r *Rate) renew() time.Time {
	now := time.Now()
	r.mu.Lock()
	due := r.asked.Add(r.fleet.cfg.Lease)
	if len(r.waiting) > 0 {
		due = r.asked.Add(askAgain)
		if r.more.After(due) {
			due = r.more
		}
	}
	idle := len(r.waiting) == 0 && r.calls == 0
	if idle || now.Before(due) {
		r.mu.Unlock()
		if idle {
			return time.Time{}
		}
		return due
	}
	want := r.wanted(now)
	r.calls, r.asked, r.asking = 0, now, want > 0
	r.mu.Unlock()
	if want > 0 {
		r.ask(want)
	}
	return time.Now().Add(askAgain)
}

// wanted is how many turns those who wait need, and those who are to be
// expected. r.mu must be held.
func (r *Rate) wanted(now time.Time) int {
	per := float64(r.calls) / max(now.Sub(r.asked), askAgain).Seconds()
	expected := math.Floor(min(per, r.perSecond) * ahead.Seconds())
	have := 0
	for _, t := range r.turns {
		have += t.n
	}
	most := r.perSecond*ahead.Seconds() + 1
	return int(min(float64(len(r.waiting))+expected-float64(have), most))
}

// ask leases turns.
func (r *Rate) ask(want int) {
	f := r.fleet
	per := r.perSecond * margin
	answer, err := f.run(leaseScript, []string{f.store.key("turns", r.name), f.store.key("demand", r.name)},
		[]string{f.id, ftoa(per), itoa(want), itoa(int(ahead.Milliseconds()))})
	var number [3]int64
	for i := range answer {
		if err == nil && i < len(number) {
			number[i], err = answer[i].AsInt64()
		}
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking, r.failed = false, err != nil
	if err != nil {
		return
	}
	given := int(min(max(number[0], 0), int64(want)))
	first := now.Add(time.Duration(min(max(number[1], 0), maxTime.Microseconds())) * time.Microsecond)
	r.more = now.Add(time.Duration(min(max(number[2], 0), 500)) * time.Millisecond)
	if given < want { // not always in the same order as the others
		r.more = r.more.Add(askAgain + rand.N(askAgain))
	}
	r.measure(now, given)
	if given > 0 {
		gap := time.Duration(float64(time.Second) / per)
		r.turns = append(r.turns, turns{first, gap, given})
		r.own = first.Add(time.Duration(given) * gap)
	}
	r.serve(now)
}

// measure keeps the share up to date. r.mu must be held.
func (r *Rate) measure(now time.Time, given int) {
	if elapsed := now.Sub(r.counted); elapsed >= shareTime {
		r.share = 0
		if elapsed < 2*shareTime {
			r.share = float64(r.granted) / elapsed.Seconds()
		}
		r.counted, r.granted = now, 0
	}
	r.granted += given
}

// fallBack gives turns of this process's own to those who wait while Redis does
// not answer.
func (f *Fleet) fallBack() {
	for _, r := range f.allRates() {
		r.fallBack(time.Now(), f.link.lost())
	}
}

func (r *Rate) fallBack(now time.Time, lost time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	unanswered := r.failed || r.asking && now.Sub(r.asked) > 2*askAgain
	if lost == 0 && !unanswered {
		return
	}
	for len(r.waiting) > 0 && !r.own.After(now.Add(lookEvery)) {
		r.turns = append(r.turns, turns{r.ownTurn(now), time.Second, 1})
		r.serve(now)
	}
}

// ownTurn is the next turn that this process may give itself. r.mu must be held.
func (r *Rate) ownTurn(now time.Time) time.Time {
	equal := r.perSecond * margin / float64(r.fleet.link.members())
	per := max(min(r.share, r.perSecond*margin), equal/10)
	lost := r.fleet.link.lost()
	if lost > shareHolds || r.fleet.ctx.Err() != nil {
		per = equal
	}
	gap := time.Duration(min(float64(time.Second)/per, float64(24*time.Hour)))
	at := r.own
	switch {
	case lost > 0 && now.Sub(at) > lost: // the first one: not all processes at once
		at = now.Add(rand.N(gap))
	case at.Before(now):
		at = now
	}
	r.own = at.Add(gap)
	return at
}
