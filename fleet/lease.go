package fleet

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	margin     = 0.97                   // of the rate is handed out, for what is late or counted twice
	ahead      = 500 * time.Millisecond // how far a lease reaches
	askAgain   = 100 * time.Millisecond // the least time between two
	slotGrace  = 100 * time.Millisecond // a slot can be taken so late
	shareTime  = 2 * time.Second        // over which a process's share is measured
	shareHolds = 10 * time.Second       // without Redis; then all are equal
	namedTime  = 2 * time.Minute        // for which a rate that a process names holds for all
	rampTime   = 5 * time.Second        // in which a process comes back to a share by demand
)

func (f *Fleet) allRates() []*Rate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.rates))
}

// renewAll asks for the slots that are needed, and returns when it is to be called
// again: at next, or before.
func (f *Fleet) renewAll(next time.Time) time.Time {
	all := f.allRates()
	for len(all) > 0 {
		batch := all[:min(len(all), atOnce)]
		all = all[len(batch):]
		var tasks sync.WaitGroup
		for _, r := range batch {
			want, due := r.need(time.Now())
			if !due.IsZero() && due.Before(next) {
				next = due
			}
			if want > 0 {
				tasks.Go(func() { r.lease(want) })
			}
		}
		tasks.Wait()
		if f.connection.unanswered() > 0 {
			break // the rest would wait as long each
		}
	}
	return next
}

// need is how many slots are to be leased now, and when to see again; zero if only
// a call makes that necessary.
func (r *Rate) need(now time.Time) (want int, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.asked.Add(r.fleet.cfg.Lease)
	if len(r.waiting) > 0 {
		due = r.asked.Add(askAgain)
		if r.more.After(due) {
			due = r.more
		}
	}
	switch {
	case len(r.waiting) == 0 && r.calls == 0:
		return 0, time.Time{}
	case now.Before(due):
		return 0, due
	}
	want = r.wanted(now)
	r.calls, r.asked, r.asking = 0, now, want > 0
	return want, now.Add(askAgain)
}

// wanted is how many slots those who wait need, and those who are to be
// expected. r.mu must be held.
func (r *Rate) wanted(now time.Time) int {
	per := float64(r.calls) / max(now.Sub(r.asked), askAgain).Seconds()
	expected := math.Floor(min(per, r.perSecond) * ahead.Seconds())
	have := 0
	for _, s := range r.slots {
		have += s.n
	}
	return int(min(float64(len(r.waiting))+expected-float64(have), r.most()))
}

// most is how many slots a process may lease at once. When Redis is back, others may
// not know of it yet, and still give themselves slots: the process goes from its part,
// as it was without Redis, to all that it needs. r.mu must be held.
func (r *Rate) most() float64 {
	all := r.perSecond*ahead.Seconds() + 1
	done := r.fleet.connection.back().Seconds() / rampTime.Seconds()
	if done >= 1 {
		return all
	}
	part := max(min(r.share, r.agreed), r.equal()) / r.perSecond
	return all * (part + (1-part)*done)
}

// lease gets slots, or, for 0 of them, names the rate and learns the fleet's.
func (r *Rate) lease(want int) error {
	f := r.fleet
	got, err := f.run(leaseScript, 4, []string{f.store.key("turns", r.name), f.store.key("demand", r.name), f.store.key("rate", r.name)},
		[]string{f.id, ftoa(r.perSecond * margin), itoa(want), itoa(int(ahead.Milliseconds())), ms(namedTime)})
	var given, first, more int64
	var agreed float64
	if err == nil {
		given, first, more, agreed, err = r.decode(got, want)
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if want > 0 {
		r.asking, r.failed = false, err != nil
	}
	if err != nil {
		r.ahead = 0
		return err
	}
	if agreed != r.agreed {
		r.agreed = agreed
		if lower := agreed < r.perSecond*margin; lower {
			f.log.Warn("fleet: another process names a lower rate, which is taken", "rate", r.name, "named", r.perSecond, "lower", agreed/margin)
		} else {
			f.log.Info("fleet: no other process names a lower rate any more", "rate", r.name, "named", r.perSecond)
		}
	}
	if want == 0 {
		return nil
	}
	r.more = now.Add(time.Duration(more) * time.Millisecond)
	if given < int64(want) { // not always in the same order as the others
		r.more = r.more.Add(askAgain + rand.N(askAgain))
	}
	r.measure(now, int(given))
	if given > 0 {
		s := slots{got.at.Add(time.Duration(first) * time.Microsecond), r.gap(r.agreed), int(given)}
		r.own = s.first.Add(time.Duration(given) * s.gap)
		used := min(r.ahead, s.n) // in place of these
		r.ahead -= used
		s.first, s.n = s.first.Add(time.Duration(used)*s.gap), s.n-used
		r.slots = append(r.slots, s)
	}
	r.serve(now)
	return nil
}

// decode returns the answer of the lease script.
func (r *Rate) decode(got answer, want int) (given, first, more int64, agreed float64, err error) {
	var errs [4]error
	given, errs[0] = got.int(0, 0, int64(want))
	text, err := got.values[3].ToString()
	if err == nil {
		agreed, err = strconv.ParseFloat(text, 64)
	}
	if err == nil && !(agreed > 0 && agreed <= r.perSecond) {
		err = fmt.Errorf("fleet: Redis answered with a rate of %v a second, want at most %v", agreed, r.perSecond)
	}
	if errs[3] = err; err == nil { // no lease reaches further
		furthest := ahead + 2*r.gap(agreed) + 2*time.Second
		first, errs[1] = got.int(1, 0, furthest.Microseconds())
		more, errs[2] = got.int(2, 0, furthest.Milliseconds())
	}
	return given, first, min(more, 500), agreed, errors.Join(errs[:]...)
}

// equal is this process's part of the rate where all have the same. r.mu must be held.
func (r *Rate) equal() float64 { return r.agreed / float64(r.fleet.connection.sharers()) }

// gap is the time between two calls at that rate.
func (r *Rate) gap(perSecond float64) time.Duration {
	return time.Duration(min(float64(time.Second)/perSecond, float64(24*time.Hour)))
}

// due and send name the rate now and then, so that the lowest is that of all.
func (r *Rate) due() (urgent, question bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return false, r.question
}

func (r *Rate) send() error {
	r.ask(false)
	err := r.lease(0)
	if err != nil {
		r.ask(true)
	}
	return err
}

func (r *Rate) ask(question bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.question = question
}

// measure keeps the share up to date. r.mu must be held.
func (r *Rate) measure(now time.Time, given int) {
	if elapsed := now.Sub(r.counted); elapsed >= shareTime {
		if elapsed < 2*shareTime {
			r.share = float64(r.granted) / elapsed.Seconds()
		} else if r.fleet.connection.back() > rampTime {
			r.share = 0
		}
		r.counted, r.granted = now, 0
	}
	r.granted += given
}

// fallBack gives slots of this process's own to those who wait while Redis does
// not answer.
func (f *Fleet) fallBack() {
	for _, r := range f.allRates() {
		r.fallBack(time.Now(), f.connection.unanswered())
	}
}

func (r *Rate) fallBack(now time.Time, unanswered time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if unanswered == 0 && !r.failed && !(r.asking && now.Sub(r.asked) > 2*askAgain) {
		return
	}
	for len(r.waiting) > 0 && !r.own.After(now.Add(lookEvery)) {
		if r.asking {
			r.ahead++
		}
		r.slots = append(r.slots, slots{r.ownSlot(now), time.Second, 1})
		r.serve(now)
	}
}

// ownSlot is the next slot that this process may give itself: of the share that it
// had, or, after a while and where it never had one, of an equal share. r.mu must
// be held.
func (r *Rate) ownSlot(now time.Time) time.Time {
	equal, unanswered := r.equal(), r.fleet.connection.unanswered()
	per := equal
	if !r.counted.IsZero() && unanswered <= shareHolds && r.fleet.ctx.Err() == nil {
		per = max(min(r.share, r.agreed), equal/10)
	}
	gap := r.gap(per)
	at := r.own
	late := now.Sub(at)
	switch first := unanswered == 0 || late > unanswered; {
	case first && late > gap && r.fleet.ctx.Err() == nil: // not all processes at once
		at = now.Add(rand.N(gap))
	case late > 0:
		at = now
	}
	r.own = at.Add(gap)
	return at
}
