package retry

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// pace is the rate at which a gate lets calls through after a pause, and what is
// known of the server's own. An epoch is the time from the end of a pause to the
// refusal that sets the next.
type pace struct {
	learned bool    // from a refusal that came soon after another
	base    float64 // calls per second, without the probe
	sure    bool    // base is what the server bears, and not less by guess
	burst   float64 // what the server took at once; 0: not known

	pause        time.Duration // how long the last one was
	since        time.Time     // the beginning of what is counted here
	last         time.Time     // who passed last
	wanted       time.Time     // when somebody had to wait last
	count        float64       // calls that passed since
	before       float64       // count of the time before that
	spell        time.Duration // and how long that was
	held         time.Duration // how long there was more demand than the pace
	hold         time.Duration // for so long it is held before it is probed
	calls, spent float64       // accepted, and in how many seconds, pauses included
	rounds       int           // how often the pace was set
	soon         int           // how often in succession a refusal came soon after a pause
	settled      bool          // a pace has held for a while
	end          epoch         // the last one that is over
}

// epoch is what an epoch was like when it ended.
type epoch struct {
	count, refused float64
	lasted         time.Duration
	calls, spent   float64 // of those before, by their age
	base           float64 // of the pace at its beginning
	rate, borne    float64 // the pace at its end, and what was borne before
}

const (
	gateStagger = 200.0 // calls per second, after a refusal of which no more is known
	gateRamp    = 3     // seconds of more demand than that, until it rises
	gateFastest = 1e6
	gateSlowest = 1.0 / 3600
	gateMargin  = 0.97 // the share of what the server bears that is used
	gateForget  = 10 * time.Minute
	gateIdle    = time.Minute // without anybody who had to wait
	gateMemory  = 20          // what is counted goes back so many pauses
	gateMinHold = 12 * time.Second
	gateHold    = 24 // a pace is held for so many pauses before it is raised
)

func newPace() pace { return pace{base: gateStagger} }

// unit is the time in which a probe rises by a step: several calls at least, and
// in proportion to what a refusal costs.
func (p *pace) unit() time.Duration {
	calls := time.Duration(4 / p.base * float64(time.Second))
	return max(calls, min(max(p.pause/2, 500*time.Millisecond), time.Minute))
}

// rate is the present one.
func (p *pace) rate() float64 { return p.rateAt(p.held) }

// rateAt is the pace after a time of more demand than that: after a first pause
// it rises by two fifths a second, after a few; one that is a guess by a fifth in
// each unit; and one that is known is held, and probed with growing steps.
func (p *pace) rateAt(held time.Duration) float64 {
	grown := 1.0
	switch x := max(0, float64(held)) / float64(p.unit()); {
	case !p.learned:
		grown = math.Sqrt(math.Exp2(max(0, held.Seconds()-gateRamp)))
	case !p.sure:
		grown = math.Pow(1.2, x)
	default:
		if x -= float64(p.hold) / float64(p.unit()); x > 0 {
			grown = 1 + 0.02*(math.Exp2(min(x, 30))-1)
		}
	}
	return min(p.base*grown, gateFastest)
}

func (p *pace) step() time.Duration { return time.Duration(float64(time.Second) / p.rate()) }

// begin starts an epoch.
func (p *pace) begin(at time.Time) {
	p.since, p.last = at, at
	p.count, p.before, p.spell, p.held = 0, 0, 0, 0
}

// passed counts a call. waited tells whether it had to wait, and crowd whether it
// did so for the end of the pause: that many speak for a faster pace, but only once
// they are through.
func (p *pace) passed(now time.Time, waited, crowd bool) {
	if waited {
		p.wanted = now
		held := p.held + max(0, min(now.Sub(p.last), 2*p.step()))
		if crowd && !p.learned {
			held = min(held, gateRamp*time.Second)
		}
		p.held = max(p.held, held)
	}
	p.last = now
	p.count++
	if took := now.Sub(p.since); took > max(time.Second, gateMemory*p.pause) {
		p.before, p.spell = p.count, took
		p.since, p.count = now, 0
	}
}

// refused learns from a refusal. again tells that it came soon after another,
// own that it was a call of this gate.
func (p *pace) refused(now, until time.Time, d time.Duration, own, again bool, burst float64) {
	if burst > 0 && !p.learned && (!again || now.Before(until)) {
		p.burst = burst
	}
	if !again {
		p.pause, p.end = d, epoch{}
		return
	}
	if now.Before(until) { // of a call that was under way when the pause began
		if own && p.end.lasted > 0 {
			p.end.refused++
			p.learn()
		}
		return
	}
	p.pause = d
	p.rounds++
	p.soon++
	if now.Sub(until) > 3*p.unit() {
		p.soon = 1
		p.settled = p.learned
	}
	p.end = epoch{count: p.count + p.before, lasted: max(1, now.Sub(p.since)+p.spell), base: p.base, rate: p.rate(), calls: p.calls, spent: p.spent}
	p.end.borne = p.borne(p.end.count, p.end.lasted)
	if own {
		p.end.refused = 1
	}
	p.learn()
}

// learn sets the pace by the last epoch. The server bore at least what passed in
// it, spread over the pause before it as well. It bears what passed less the
// burst that it takes at once; and if the pace rose slowly, what it was a little
// before. After a handful of calls that is not known: the pace is halved, then
// quartered and so on for as long as refusals come soon after pauses, down to the
// least; or, when the burst is known, set to a little more than the least.
func (p *pace) learn() {
	e := &p.end
	accepted := max(0.5, e.count-e.refused)
	took := (e.lasted + p.pause).Seconds()
	least := min((accepted+0.8*e.calls)/(took+0.8*e.spent), e.rate)
	p.calls, p.spent = accepted+0.8*e.calls, took+0.8*e.spent
	if p.burst == 0 {
		least = min(least, 1) // too few calls to tell
	}
	long := e.lasted > 2*p.unit()
	p.learned, p.sure = true, false
	steady := e.rate * math.Exp2(-float64(p.soon))
	switch {
	case p.burst > 0 && accepted < fewCalls && p.rounds > 2:
		steady = min(steady, 2*least)
	case long || p.burst > 0 && accepted >= fewCalls:
		steady = gateMargin * min(e.borne, e.rate)
		if !long { // many of those that passed were refused afterwards
			steady = min(steady, gateMargin*(e.count-max(0, e.refused-1)-p.burst)/e.lasted.Seconds())
		}
		p.sure = steady > least
	}
	base := max(gateSlowest, least, steady)
	p.hold = max(gateHold*p.pause, gateMinHold)
	if floor := p.floor(); p.settled && base < floor { // it was about right before
		base, p.sure = floor, true
		p.hold /= 2
	}
	rough := p.rounds <= firstRounds && !long && accepted-p.burst < fewCalls
	if rough || base > 1.05*e.base { // it may well be higher
		p.hold /= 8
	}
	p.base = base
}

// floor is how far a refusal lowers a pace that has held for a while: the
// farther, the more often it was refused soon after a pause.
func (p *pace) floor() float64 {
	return math.Pow(0.95, float64(p.soon)) * min(p.end.rate, p.end.base)
}

const firstRounds = 4

// fewCalls are too few to tell a rate by.
const fewCalls = 8

// borne is the pace that the server has borne: the highest, over any time up to
// now, of what passed less a burst, and what it was a little before.
func (p *pace) borne(passed float64, lasted time.Duration) float64 {
	burst := p.burst
	if burst == 0 {
		burst = p.rate() / 2
	}
	best := (passed - burst) / lasted.Seconds()
	if !p.learned || p.held < 4*lasted/5 { // it did not keep to the pace
		return best
	}
	if lag := p.unit(); p.held > 2*lag {
		best = max(best, p.rateAt(p.held-lag))
	}
	dt := min(p.held, 10*p.unit()) / 64
	sum, took := -burst, 1e-9
	for i := range 64 {
		sum += p.rateAt(p.held-time.Duration(i)*dt) * dt.Seconds()
		took += dt.Seconds()
		best = max(best, sum/took)
	}
	return best
}

// forget ends a pace that nobody needs any more.
func (p *pace) forget(now, until time.Time) {
	if p.learned && (now.Sub(until) >= gateForget || now.Sub(later(until, p.wanted)) >= gateIdle) {
		burst := p.burst
		*p = newPace()
		p.burst = burst
	}
}

// shift moves all times, with a clock that was set back.
func (p *pace) shift(by time.Duration) {
	p.since, p.last, p.wanted = p.since.Add(by), p.last.Add(by), p.wanted.Add(by)
}

// burst counts the calls that a server accepted before it first refused one. It
// takes its first look at the clock only then, and ends soon, so that a call in
// good times costs next to nothing.
type burst struct {
	count atomic.Int64
	began atomic.Int64 // Unix time in ns
}

// maxBurst is how many are counted: who has taken more was not refused for a
// burst.
const maxBurst = 1000

func (b *burst) add(clock clockwork.Clock) {
	if b.count.Add(1) == 1 {
		b.began.Store(now(clock).UnixNano())
	}
}

// take returns the burst at a refusal that asks for a pause of d; 0 if what was
// accepted took so long that it was none.
func (b *burst) take(now time.Time, d time.Duration) float64 {
	n := b.count.Load()
	if took := now.UnixNano() - b.began.Load(); n == 0 || n >= maxBurst || took > int64(max(d, time.Second)) {
		return 0
	}
	return float64(n)
}
