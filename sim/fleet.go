package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/retryutils/retry"
)

// fleet is a model of package fleet for one gate and one breaker of each
// process, which are the library's own. The decisions are those of the real
// code with its default settings, step by step: what a process reports, when the
// scripts in Redis agree, and what a process does that receives it. A test holds
// the constants to the real ones.
//
// Delays are modelled. Measured, a pause reached all of 20 processes 2 to 5ms
// after it began, and all of 100 after 14ms: messages go out one after the
// other. The line through these gives 115ms for 1,000. Redis is always there,
// no message is lost, all know from the beginning how many they are, and time
// is not rounded to whole milliseconds.
type fleet struct {
	world   *world
	random  *rand.Rand
	members []*member

	// What is in Redis.
	paused   time.Time
	findings []stored // by member
	episode  episode
	episodes int
	turn     time.Time
	sent     int // messages published
}

// stored is a finding in Redis.
type stored struct {
	weight int
	ends   time.Time // it holds until then
	opens  time.Time // and speaks for opening as long
}

// episode is a time for which all breakers open. Its id is 0 if there is none.
type episode struct {
	id, by  int
	until   time.Time
	expires time.Time
}

// The real code's constants and defaults.
const (
	fleetGateSpread    = 5 * time.Millisecond
	fleetMaxGateSpread = 5 * time.Second
	fleetProbeSpread   = 100 * time.Millisecond
	fleetProbesIn      = 5
	fleetCloseSpread   = time.Millisecond
	fleetWaiterTime    = 5 * time.Millisecond
	fleetFresh         = time.Second
	fleetSameTime      = 20 * time.Millisecond
	fleetLookEvery     = 100 * time.Millisecond
	fleetMaxTime       = time.Hour
	fleetKeep          = time.Minute // an episode that is over
	fleetOpenWeight    = 5
	fleetQuorum        = 2
	fleetQuorumShare   = 0.1
	fleetSuspicion     = 2
	fleetOpenTime      = 5 * time.Second
	fleetTimeout       = 500 * time.Millisecond
)

// The model's delays.
const (
	toStore    = time.Millisecond         // a command, and its answer as much again
	firstAfter = time.Millisecond         // a message, from Redis to the first member
	perMember  = 112500 * time.Nanosecond // between two members, and more for the first
	apart      = 750 * time.Microsecond
)

// fleet is the one that the processes of this world join.
func (e *env) fleet() *fleet {
	if e.joined == nil {
		e.joined = &fleet{world: e.world, random: rand.New(rand.NewPCG(e.random.Uint64(), 17))}
	}
	return e.joined
}

// join makes a process a member. Either of its gate and its breaker may be nil.
func (f *fleet) join(cfg retry.Config) {
	m := &member{fleet: f, id: len(f.members), breaker: cfg.Breaker, gate: cfg.Gate}
	f.members = append(f.members, m)
	f.findings = append(f.findings, stored{})
	if m.gate != nil {
		m.gate.OnPause(m.onPause)
	}
	if m.breaker != nil {
		if len(f.members) == 1 {
			f.watch(0)
		}
		m.breaker.OnStateChange(func(c retry.StateChange) {
			if c.From == retry.StateHalfOpen && c.To == retry.StateClosed && !m.resetting {
				m.recovered = true
			}
			f.world.after(0, m.look)
		})
	}
}

// watch has each member look at its breaker every 100ms, a tenth of them at a
// time, for as long as anything else is planned in this world.
func (f *fleet) watch(turn int) {
	const turns = 10
	f.world.after(fleetLookEvery/turns, func() {
		for i := turn; i < len(f.members); i += turns {
			f.members[i].look()
		}
		if len(f.world.events) > 0 {
			f.watch((turn + 1) % turns)
		}
	})
}

// forAll is so much for each member.
func (f *fleet) forAll(each time.Duration) time.Duration { return time.Duration(len(f.members)) * each }

// upTo is a random time below d.
func (f *fleet) upTo(d time.Duration) time.Duration {
	return time.Duration(f.random.Int64N(int64(max(1, d))))
}

// publish brings a message to the members at moments of their own.
func (f *fleet) publish(take func(*member)) {
	f.sent++
	last := apart + f.forAll(perMember)
	for _, m := range f.members {
		f.world.after(firstAfter+f.upTo(last), func() { take(m) })
	}
}

func (f *fleet) until(t time.Time) time.Duration { return t.Sub(f.world.now) }

// pauseScript is pause.lua.
func (f *fleet) pauseScript(id int, d time.Duration) time.Duration {
	if left := max(0, f.until(f.paused)); d <= left+slack(d) {
		return left
	}
	f.paused = f.world.now.Add(d)
	f.publish(func(m *member) {
		if m.id != id {
			m.learn(d)
		}
	})
	return d
}

// closeScript is close.lua. known is the episode that the member knows, or 0.
func (f *fleet) closeScript(id, known int, crowd time.Duration) {
	f.findings[id] = stored{}
	f.turnAfter(crowd)
	if f.episode.id == 0 || known != 0 && known != f.episode.id {
		return
	}
	clear(f.findings)
	f.episode = episode{}
	f.publish(func(m *member) { m.closed(id) })
}

// turnScript is turn.lua.
func (f *fleet) turnScript(crowd time.Duration) time.Duration {
	if f.until(f.turn) > fleetOpenTime {
		return -1
	}
	return f.until(f.turnAfter(crowd))
}

// turnAfter takes the next turn, and returns its begin.
func (f *fleet) turnAfter(crowd time.Duration) time.Time {
	begin := f.turn
	if begin.Before(f.world.now) {
		begin = f.world.now
	}
	f.turn = begin.Add(crowd)
	return begin
}

// findingScript is finding.lua.
func (f *fleet) findingScript(id int, found finding, holds, lasts time.Duration) (time.Duration, int) {
	now := f.world.now
	if !now.Before(f.episode.expires) {
		f.episode = episode{}
	}
	left := max(0, f.until(f.episode.until))
	if found.weight == 0 {
		f.findings[id] = stored{}
		return left, f.episode.id
	}
	f.findings[id] = stored{found.weight, now.Add(holds), now.Add(lasts)}
	open, by := f.agreed(), -1
	if found.open && f.episode.id != 0 && f.episode.by != id && holds > open {
		open, by = holds, id
	}
	if open <= left+slack(holds) {
		return left, f.episode.id
	}
	if f.episode.id == 0 {
		f.episodes++
		f.episode.id = f.episodes
	}
	name := f.episode.id
	f.episode = episode{name, by, now.Add(open), now.Add(open + fleetKeep)}
	f.publish(func(m *member) { m.opened(open, name, id) })
	return open, name
}

// agreed is for how long a quorum wants to open; 0 if there is none.
func (f *fleet) agreed() time.Duration {
	var opens []time.Duration
	total, thirds := 0, 0 // of voices
	for _, s := range f.findings {
		if s.weight == 0 || f.until(s.ends) <= 0 {
			continue
		}
		total += s.weight
		thirds++
		if s.weight >= fleetSuspicion {
			thirds += 2
		}
		opens = append(opens, f.until(s.opens))
	}
	needed := max(fleetQuorum, int(math.Ceil(float64(len(f.members))*fleetQuorumShare)))
	if thirds < 3*needed || total < fleetOpenWeight*min(fleetQuorum, 2) {
		return 0
	}
	slices.Sort(opens)
	return opens[len(opens)-needed]
}

func slack(left time.Duration) time.Duration {
	return min(max(left/10, 5*time.Millisecond), 100*time.Millisecond)
}

// inFleet is a policy whose processes join a fleet.
func inFleet(p policy) policy {
	return policy{p.name + ", in a fleet", p.recommended, func(e *env) retry.Config {
		cfg := p.config(e)
		e.fleet().join(cfg)
		return cfg
	}}
}

// fleetPolicies are for workers in several processes.
func fleetPolicies() []policy {
	policies := closedPolicies()[6:]
	for _, p := range slices.Clone(policies) {
		if p.name == "breaker 5s +20 %" || p.recommended {
			policies = append(policies, inFleet(p))
		}
	}
	return policies
}

var throttledFleet = throttledPolicy{"Gates in a fleet", func(e *env, t throttled) (cfgs []retry.Config) {
	for range t.processes {
		cfg := retry.Config{Gate: retry.NewGate(clock{e.world}), MaxRetryAfter: time.Hour}
		e.fleet().join(cfg)
		cfgs = append(cfgs, cfg)
	}
	return cfgs
}}
