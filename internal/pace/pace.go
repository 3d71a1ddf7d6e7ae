// Package pace finds the rate of calls that a server accepts, from which calls it
// refuses. It reads no clock, and its caller locks it.
package pace

import (
	"fmt"
	"math"
	"time"
)

// Call is a call that was sent. Calls are numbered in the order in which they were.
type Call struct {
	Number uint64
	Sent   time.Time
}

// Pace is the rate at which calls may be sent, where refusals show that there is
// one. The zero value has none.
//
// It learns in rounds. A round begins with a change of the pace, or with a refused
// call, when the server has nothing to spare. It counts the calls that are sent in it,
// and which of them are refused. Without a pace it ends when no call comes for a while.
type Pace struct {
	rate float64 // calls per second; 0: none
	base float64 // the rate without the present probe
	safe float64 // the rate a step before base
	step float64 // by what share the last step of a probe raised it
	hold float64 // for so many calls it is held before it is probed

	first, last       Call // before the round, and the last in it whose outcome is known
	accepted, refused float64
	again, retried    float64       // without a pace: refused, and accepted, after they had been refused while others were accepted
	waited            bool          // calls had to wait for the pace
	stopped, resumed  time.Time     // the last pause of all calls
	idle              time.Duration // of those before it
	wait              time.Duration // that the last refused call was asked for

	before    trial   // the rate before it was lowered
	useless   int     // how often in succession lowering it was that
	lowered   int     // how often it was lowered since it was held without refusals
	gained    float64 // accepted calls per second, in the round before a probe
	tolerated float64 // the share of refusals that lowering it did not reduce
	joined    bool    // other processes are refused by the server as well
}

// trial is what came of a rate: accepted calls per second, and the share of calls that
// were refused.
type trial struct{ rate, accepted, share float64 }

// The figures of sim/RESULTS.md show what half and twice of each does.
const (
	few    = 0.2  // a share of refusals that is no reason for a pace: the refused calls alone wait
	slight = 0.04 // a share that is tolerated at a pace, its margin below what was accepted, and the first step of a probe
	enough = 3.0  // refusals that are more than chance
	some   = 8.0  // calls in a step of a probe, and the fewest that a rate is measured by
	held   = 150  // calls until a pace is probed: a failed probe costs two or three refusals
	out    = 2    // useless reductions until it is raised again; of one of many processes, twice as many
)

// Rate returns the pace in calls per second; 0 if there is none.
func (p *Pace) Rate() float64 { return p.rate }

// Waited notes that a call had to wait for the pace.
func (p *Pace) Waited() { p.waited = true }

// Paused notes that all calls pause from now until a time; now ends a pause.
func (p *Pace) Paused(now, until time.Time) {
	if now.After(p.resumed) {
		p.idle += p.resumed.Sub(p.stopped)
		p.stopped = now
	}
	p.resumed = until
}

// Join notes that other processes are refused by the server as well. A limit that they
// share is no process's own: what the server may accept in a pause is theirs, too, and to
// lower one pace changes little of the share that is refused.
func (p *Pace) Join() { p.joined = true }

// Accepted counts an accepted call; again is one that was refused before, while others
// were accepted. next is the last one that was sent, as of now.
func (p *Pace) Accepted(c, next Call, again bool) {
	if p.silent(c) {
		p.begin(Call{})
	}
	if p.first.Sent.IsZero() || c.Number <= p.first.Number {
		return
	}
	p.accepted++
	if again && p.rate == 0 {
		p.retried++
	}
	p.count(c)
	if p.rate > 0 {
		p.probe(next)
	}
}

// Refused counts a refused call that was asked to wait, while calls were let through
// at a rate; again is one that was refused before, while others were accepted. It
// returns why it set, lowered or raised the pace, if it did.
func (p *Pace) Refused(c, next Call, wait time.Duration, passing float64, again bool) (cause string) {
	p.wait = wait
	if p.silent(c) || p.first.Sent.IsZero() {
		p.begin(c)
	}
	if c.Number <= p.first.Number {
		return ""
	}
	if again && p.rate == 0 {
		p.again++
	} else {
		p.refused++
	}
	p.count(c)
	refused, calls := p.evidence()
	chance := p.tolerated*calls + 2*math.Sqrt(p.tolerated*calls)
	most := max(slight*calls, chance)
	switch {
	case p.rate == 0:
		expected := max(few, 2*p.tolerated) * calls
		if refused >= enough+expected+math.Sqrt(expected) && p.accepted >= enough {
			return p.lower(next, passing)
		}
		if calls >= some && refused <= expected {
			p.begin(c)
		}
	case p.rate > p.base && p.refused > most: // the probe has failed
		p.keep(p.safe)
		p.begin(c)
	case p.accepted < enough:
	case calls >= some && p.refused > enough+chance, calls >= enough*some && p.refused >= 2 && p.refused > most:
		return p.lower(next, passing)
	}
	return ""
}

// keep sets a rate, which is held before it is probed in small steps; in large ones, and
// soon, where lowering it was of no use.
func (p *Pace) keep(rate float64) {
	p.rate, p.base, p.safe = rate, rate, rate
	if p.hold, p.step = held, slight/2; p.tolerated > 0 {
		p.hold, p.step = enough*some, 1
	}
}

// begin begins a round after a call.
func (p *Pace) begin(first Call) {
	p.first, p.last = first, first
	p.accepted, p.refused, p.again, p.retried, p.waited = 0, 0, 0, 0, false
	p.stopped, p.resumed, p.idle = time.Time{}, time.Time{}, 0
}

// silent reports whether no call came for a second, or for longer than refused calls
// wait, before c: what the server accepted meanwhile says nothing of a rate. Where there
// is a pace it is what calls wait for.
func (p *Pace) silent(c Call) bool {
	since := p.last.Sent
	if p.resumed.After(since) {
		since = p.resumed
	}
	return p.rate == 0 && !p.first.Sent.IsZero() && c.Sent.Sub(since) > max(2*p.wait, time.Second)
}

func (p *Pace) count(c Call) {
	if c.Number > p.last.Number {
		p.last = c
	}
}

// calls is how many were sent in the round, up to the last whose outcome is known.
// Those before it whose outcome is not were most likely accepted: a refusal is quick.
func (p *Pace) calls() float64 { return float64(p.last.Number - p.first.Number) }

// evidence returns how many of how many calls were refused. Those that had been refused
// before count as far as they are accepted as others are: one that is refused again and
// again may be the only one that the server does not accept.
func (p *Pace) evidence() (refused, calls float64) {
	retried := max(0, p.retried-enough) // fewer may be chance
	others := p.calls() - p.again - p.retried
	again := min(p.again, retried*p.refused/max(1, others-p.refused))
	return p.refused + again, others + retried + again
}

// probe raises the pace after a round in which calls had to wait for it and no more
// were refused than it tolerates. Its steps double. Where it was of no use to lower the pace,
// a step at which no more are accepted is taken back, and there is no pace as soon as no
// call has to wait for it.
func (p *Pace) probe(next Call) {
	calls := p.accepted + p.refused
	took := next.Sent.Sub(p.first.Sent).Seconds()
	switch {
	case !p.waited:
		if calls >= some && p.tolerated > 0 {
			*p = Pace{tolerated: p.tolerated, joined: p.joined}
		}
		return
	case calls < some, took < some/p.rate, took < min(p.wait.Seconds()/2, 1), p.rate == p.base && calls < p.hold:
		return
	case p.rate == p.base:
		p.safe, p.before, p.useless = p.base, trial{}, 0
		if p.refused <= 1 {
			p.lowered, p.tolerated = 0, 0
		}
	case p.tolerated > 0 && p.accepted/took < (1+slight)*p.gained: // no more are accepted at it
		p.keep(p.safe)
		p.begin(next)
		return
	default:
		p.safe, p.base = p.base, p.rate
	}
	p.gained = p.accepted / took
	p.step = min(2*p.step, 1)
	p.rate = min(p.base*(1+p.step), 1e6)
	p.begin(next)
}

// lower sets the pace below the rate that was accepted in the round; or, where lowering
// it has not helped, raises it.
func (p *Pace) lower(next Call, passing float64) (cause string) {
	calls, took, idle := p.calls(), p.last.Sent.Sub(p.first.Sent), p.idle
	if p.resumed.Before(p.last.Sent) {
		idle += p.resumed.Sub(p.stopped)
	}
	refused := p.refused + p.again
	cause = fmt.Sprintf("%.0f of %.0f refused in %v", refused, calls, readable(took))
	now := trial{p.rate, max(1, calls-refused) / max(took.Seconds(), 1e-6), refused / calls}
	rate, paused := now.accepted, idle > took/4
	useless := out
	if p.joined {
		useless = 2 * out
	}
	switch {
	case paused:
		if !p.joined { // the server may have accepted more meanwhile: between that and what it refused
			most := max(rate, min(passing, calls/max((took-idle).Seconds(), 1e-6)))
			rate *= math.Pow(most/rate, 0.4)
		}
		p.useless, now.rate = 0, 0
	case p.rate > 0:
		p.lowered++
		if now.uselessAfter(p.before) {
			p.useless++
		} else {
			p.useless = 0
		}
		if p.useless >= useless || p.lowered >= 2*enough {
			p.tolerated, p.useless, p.lowered, p.before = now.share, 0, 0, trial{}
			p.keep(p.rate)
			p.gained = now.accepted
			p.rate = min(2*p.rate, 1e6)
			p.begin(next)
			return "it did not help to lower it, " + cause
		}
		rate = min(max(rate, p.rate/2), p.rate)
	}
	p.before = now
	if p.keep(min(max((1-slight)*rate, 1.0/3600), 1e6)); paused {
		p.hold, p.step = 0, few
	}
	p.begin(next)
	return cause
}

// uselessAfter reports whether a rate was lowered to t without use: fewer calls were
// accepted, and no fewer refused. Then it is not the rate that they are refused for.
func (t trial) uselessAfter(before trial) bool {
	return before.rate > 0 && t.share > before.share/2 && t.accepted < before.accepted*(1+t.rate/before.rate)/2
}

// Forget gives the pace up.
func (p *Pace) Forget() { *p = Pace{} }

// Shift moves all times, with a clock that was set back.
func (p *Pace) Shift(by time.Duration) {
	for _, t := range []*time.Time{&p.first.Sent, &p.last.Sent, &p.stopped, &p.resumed} {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
}

// readable leaves two or three digits of a duration.
func readable(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if d >= 10*unit {
			return d.Round(unit)
		}
	}
	return d
}
