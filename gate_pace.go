package retry

import (
	"cmp"
	"math"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// pace is the rate at which a gate lets calls through after a pause, and what is
// known of the server's own. An epoch is the time from the end of a pause to the
// refusal that sets the next.
type pace struct {
	curve
	first *burst  // what was accepted before the first refusal
	burst float64 // what the server takes at once; 0: not known

	last         time.Time     // who passed last
	wanted       time.Time     // when somebody had to wait last
	count        float64       // calls that passed in this epoch
	marks        []mark        // of its beginning, and since
	apart        time.Duration // how far apart they are at least
	held         time.Duration // how long there was more demand than the pace
	calls, spent float64       // accepted, and in how many seconds, pauses included
	rounds       int           // how often the pace was set
	soon         int           // refusals in succession that came soon after a pause
	unprobed     int           // refusals in succession that came while the pace was only held
	high         float64       // the pace before those
	settled      bool          // a pace has held for a while
	margin       float64       // the share of what the server bears that is used
	end          epoch         // the last one that is over
}

const (
	gateStagger = 200.0 // calls per second, after a refusal of which no more is known
	gateRamp    = 3     // seconds of more demand than that, until it rises
	gateFastest = 1e6
	gateSlowest = 1.0 / 3600
	gateForget  = 10 * time.Minute
	gateIdle    = time.Minute // without anybody who had to wait
	gateMemory  = 20          // what is looked back at are so many pauses
	gateMinHold = 6 * time.Second
	maxMarks    = 64
	gateHold    = 24 // a pace is held for so many pauses before it is raised
)

func newPace(first *burst, at time.Time) pace {
	p := pace{curve: curve{base: gateStagger}, first: first, margin: largestMargin}
	p.begin(at)
	return p
}

// curve is how a pace rises while there is more demand.
type curve struct {
	learned bool          // from a refusal that came soon after another
	sure    bool          // base is what the server bears, and not less by guess
	base    float64       // calls per second, without the probe
	pause   time.Duration // how long the last one was
	hold    time.Duration // for so long it is held before it is probed
}

// unit is the time in which a probe rises by a step: several calls at least, and
// in proportion to what a refusal costs.
func (c *curve) unit() time.Duration {
	calls := time.Duration(4 / c.base * float64(time.Second))
	return max(calls, min(max(c.pause/2, 500*time.Millisecond), time.Minute))
}

// rateAt is the pace after a time of more demand than that: after a first pause
// it rises by two fifths a second, after a few; one that is a guess by a fifth in
// each unit; and one that is known is held, and probed with growing steps.
func (c *curve) rateAt(held time.Duration) float64 {
	grown := 1.0
	switch x := max(0, float64(held)) / float64(c.unit()); {
	case !c.learned:
		grown = math.Sqrt(math.Exp2(max(0, held.Seconds()-gateRamp)))
	case !c.sure:
		grown = math.Pow(1.2, x)
	default:
		if x -= float64(c.hold) / float64(c.unit()); x > 0 {
			grown = 1 + 0.02*(math.Exp2(min(x, 30))-1)
		}
	}
	return min(c.base*grown, gateFastest)
}

// rate is the present one.
func (p *pace) rate() float64 { return p.rateAt(p.held) }

func (p *pace) step() time.Duration { return time.Duration(float64(time.Second) / p.rate()) }

// begin starts an epoch.
func (p *pace) begin(at time.Time) {
	p.last, p.count, p.held = at, 0, 0
	p.marks, p.apart = append(p.marks[:0], mark{at, 0}), p.unit()/16
}

// mark is how many calls of an epoch had passed at a time.
type mark struct {
	at    time.Time
	count float64
}

// note keeps a mark of the calls so far. It thins the marks out rather than keep
// more than some.
func (p *pace) note(now time.Time) {
	if now.Sub(p.marks[len(p.marks)-1].at) < p.apart {
		return
	}
	if len(p.marks) == maxMarks {
		for i := range maxMarks / 2 {
			p.marks[i] = p.marks[2*i]
		}
		p.marks = p.marks[:maxMarks/2]
		p.apart *= 2
	}
	p.marks = append(p.marks, mark{now, p.count})
}

// passed notes a call that took its turn. waited tells whether it had to wait, and
// crowd whether it did so for the end of the pause: that many speak for a faster
// pace, but only once they are through.
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
}

// sent counts a call that goes to the server.
func (p *pace) sent(now time.Time) {
	if p.count == 0 && !p.learned { // the answers to all that went before the pause are here
		p.burst = cmp.Or(p.first.take(p.marks[0].at, p.pause), p.burst)
	}
	p.note(now)
	p.count++
}

// forget ends a pace that nobody needs any more.
func (p *pace) forget(now, until time.Time) {
	if p.learned && (now.Sub(until) >= gateForget || now.Sub(later(until, p.wanted)) >= gateIdle) {
		burst := p.burst
		*p = newPace(p.first, now)
		p.burst = burst
	}
}

// shift moves all times, with a clock that was set back.
func (p *pace) shift(by time.Duration) {
	p.last, p.wanted = p.last.Add(by), p.wanted.Add(by)
	for i := range p.marks {
		p.marks[i].at = p.marks[i].at.Add(by)
	}
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

// take returns the burst at the end of a pause of d: a refusal is often quicker
// than the answers to those who came before it. It is 0 if what was accepted
// before the pause took so long that it was no burst.
func (b *burst) take(until time.Time, d time.Duration) float64 {
	n := b.count.Load()
	if took := until.UnixNano() - b.began.Load(); n == 0 || n >= maxBurst || took > int64(d+max(d, time.Second)) {
		return 0
	}
	return float64(n)
}
