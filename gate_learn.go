package retry

import (
	"cmp"
	"math"
	"time"
)

// epoch is what an epoch was like when it ended.
type epoch struct {
	curve
	held         time.Duration
	calls, spent float64  // of those before, by their age
	burst        float64  // as known at its beginning
	refused      float64  // of those that passed
	back         []sample // what passed in ever shorter times until it ended
	previous     *sample
	chance       bool // that it ended seems to be nothing but that
}

// sample is how many calls passed in a time.
type sample struct{ calls, seconds float64 }

const (
	largestMargin = 0.97
	sharedMargin  = 0.88 // with other processes
	leastMargin   = 0.85
	firstRounds   = 4 // in which a pace may still be far off
	fewCalls      = 8 // too few to tell a rate by
	manyCalls     = 30
	chanceRounds  = 8 // refusals in succession, while a pace was only held and lowered
)

// refused learns from a refusal. again tells that it came soon after another,
// own that it was a call of this gate.
func (p *pace) refused(now, until time.Time, d time.Duration, own, again bool) {
	if !again {
		p.pause, p.end = d, epoch{}
		return
	}
	if now.Before(until) { // of a call that was under way when the pause began
		p.pause = max(p.pause, d)
		if own && len(p.end.back) > 0 {
			p.end.refused++
			p.learn() // anew: a little higher at times, but not than before the pause
		}
		return
	}
	p.rounds++
	p.soon++
	if now.Sub(until) > 3*p.unit() {
		p.soon = 1
		p.settled = p.learned
	}
	p.adapt(own)
	p.end = epoch{
		curve: p.curve, held: p.held, calls: p.calls, spent: p.spent, burst: p.burst,
		back: p.lookBack(now), previous: p.end.accepted(), chance: p.unprobed >= chanceRounds,
	}
	if p.end.chance { // it was lowered so often, and refused nevertheless
		p.unprobed = 0
	}
	if own {
		p.end.refused = 1
	}
	p.pause = d
	p.learn()
}

// lookBack returns what was sent until now, since each mark that is not too old.
func (p *pace) lookBack(now time.Time) (back []sample) {
	oldest := now.Add(-max(time.Second, gateMemory*p.pause))
	for i, m := range p.marks {
		if took := now.Sub(m.at); i == len(p.marks)-1 || m.at.After(oldest) && took > 0 {
			back = append(back, sample{p.count - m.count, max(1e-9, took.Seconds())})
		}
	}
	return back
}

// adapt sets the share of what the server bears that is used. A refusal while the
// pace was only held shows that it was too much, and one of a probe that it was
// not. Others who share the limit and come at moments of their own take more room.
func (p *pace) adapt(own bool) {
	if !own {
		p.margin = min(p.margin, sharedMargin)
	}
	switch {
	case !p.sure:
		p.unprobed = 0
	case p.held > p.hold:
		p.unprobed = 0
		p.margin = min(largestMargin, p.margin+0.005)
	default:
		p.unprobed++
		if p.unprobed == 1 {
			p.high = p.base
		}
		if own {
			p.margin = max(leastMargin, p.margin-0.03)
		}
	}
}

// learn sets the pace by the last epoch.
func (p *pace) learn() {
	e := &p.end
	accepted := e.accepted()
	p.burst = cmp.Or(e.burst, e.bucket())
	p.calls, p.spent = accepted.calls+0.8*e.calls, accepted.seconds+p.pause.Seconds()+0.8*e.spent
	p.learned = true
	least := p.least()
	steady, sure := p.steady(least)
	base := max(gateSlowest, least, steady)
	p.hold = max(gateHold*p.pause, gateMinHold)
	if floor := p.floor(); p.settled && base < floor { // it was about right before
		base, sure = floor, true
	}
	solid := least > 0.9*e.base && p.rounds > firstRounds && p.calls >= manyCalls // what the least is reckoned from
	rough := p.burst == 0 || solid && !sure || p.rounds <= firstRounds && !e.long() && accepted.calls-p.burst < fewCalls
	if rough || base > 1.2*e.base { // it may well be higher
		p.hold /= 8
	}
	p.base, p.sure = base, sure || solid
	if e.chance {
		p.base, p.sure = p.high, true
		p.hold /= 8
	}
}

// least is what the server bore at least: what it accepted, spread over the time in
// which that passed and the pauses that it asked for.
func (p *pace) least() float64 {
	least := min(p.calls/p.spent, p.end.rate())
	if p.burst == 0 {
		least = min(least, 1) // too few calls to tell
	}
	if p.end.sure { // and yet it refused
		least *= p.margin
	}
	return least
}

// steady is what the server seems to bear: what passed less the burst that it
// takes at once; and if the pace rose slowly, what it was a little before. After a
// handful of calls that is not known: the pace is halved, then quartered and so on
// for as long as refusals come soon after pauses; or, when the burst is known, set
// to a little more than the least. sure tells whether it is known.
func (p *pace) steady(least float64) (steady float64, sure bool) {
	e, all, accepted := &p.end, p.end.back[0], p.end.accepted()
	switch {
	case p.burst > 0 && accepted.calls < fewCalls && p.rounds > 2:
		return min(e.rate()*math.Exp2(-float64(p.soon)), 2*least), false
	case !e.long() && (p.burst == 0 || accepted.calls < fewCalls):
		return e.rate() * math.Exp2(-float64(p.soon)), false
	}
	steady = min(e.borne(p.burst, p.unprobed == 0), e.rate())
	if !e.long() { // many of those that passed were refused afterwards
		steady = min(steady, (all.calls-max(0, e.refused-1)-p.burst)/all.seconds)
	}
	steady *= p.margin
	return steady, steady > 0.9*least
}

// accepted is what passed in it and was not refused; nil if there was none yet.
func (e *epoch) accepted() *sample {
	if len(e.back) == 0 {
		return nil
	}
	return &sample{max(0.5, e.back[0].calls-e.refused), e.back[0].seconds}
}

// long tells whether it was long enough for its rate to show.
func (e *epoch) long() bool { return e.back[0].seconds > 2*e.unit().Seconds() }

// rate is the pace at its end.
func (e *epoch) rate() float64 { return e.rateAt(e.held) }

// bucket is the burst that a server takes at once, by two epochs of different
// length: in each it took that, and its rate times the time, if the pace was above
// that rate from the beginning. 0 if they do not tell.
func (e *epoch) bucket() float64 {
	if e.previous == nil {
		return 0
	}
	now, before := e.accepted(), e.previous
	more, longer := now.calls-before.calls, now.seconds-before.seconds
	if more*longer <= 0 || math.Abs(longer) < min(now.seconds, before.seconds) || more/longer > 1.05*e.base {
		return 0
	}
	return max(0, now.calls-more/longer*now.seconds)
}

// floor is how far a refusal lowers a pace that has held for a while: the
// farther, the more often it was refused soon after a pause.
func (p *pace) floor() float64 {
	return math.Pow(0.95, float64(p.soon)) * min(p.end.rate(), p.end.base, p.end.back[0].rate())
}

// borne is the pace that the server has borne: the highest, over any time up to
// the end, of what passed less a burst, and, if slow, what it was a little before.
// What passed is reckoned from the pace for as long as there was more demand, as
// a handful of calls tells little; else it is counted.
func (e *epoch) borne(burst float64, slow bool) float64 {
	all := e.back[0]
	if burst == 0 {
		burst, slow = all.rate()/2, true
	}
	lag := e.unit()
	if !e.learned || e.held.Seconds() < 0.8*all.seconds {
		best := 0.0
		for _, s := range e.back {
			best = max(best, (s.calls-burst)/s.seconds)
		}
		if slow && all.seconds > 3*lag.Seconds() {
			late, early := e.within(lag.Seconds()), e.within(3*lag.Seconds())
			best = max(best, (early.calls-late.calls)/max(lag.Seconds(), early.seconds-late.seconds))
		}
		return best
	}
	best := (all.calls - burst) / all.seconds
	if slow && e.held > 2*lag {
		best = max(best, e.rateAt(e.held-lag))
	}
	dt := min(e.held, 10*lag) / 64
	passed, took := -burst, 1e-9
	for i := range 64 {
		passed += e.rateAt(e.held-time.Duration(i)*dt) * dt.Seconds()
		took += dt.Seconds()
		best = max(best, passed/took)
	}
	return best
}

// within is what passed in some seconds before the end, or a little more.
func (e *epoch) within(seconds float64) sample {
	for i, s := range e.back[1:] {
		if s.seconds < seconds {
			return e.back[i]
		}
	}
	return e.back[len(e.back)-1]
}

func (s sample) rate() float64 { return s.calls / s.seconds }
