package fleet

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	margin     = 0.97                   // of the rate is handed out, for what is late or counted twice
	ahead      = 500 * time.Millisecond // how far a lease reaches
	askAgain   = 100 * time.Millisecond // the least time between two
	turnGrace  = 100 * time.Millisecond // a turn can be taken so late
	shareTime  = 2 * time.Second        // over which a process's share is measured
	shareHolds = 10 * time.Second       // without Redis; then all are equal
)

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
