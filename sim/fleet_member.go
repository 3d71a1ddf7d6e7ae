package main

import (
	"cmp"
	"time"

	"github.com/retryutils/retry"
)

// member is a process of the fleet. The fields are those of the real code's
// sharedGate and sharedBreaker.
type member struct {
	fleet      *fleet
	id         int
	publishing bool // a command is under way: there is one at a time

	gate     *retry.Gate
	known    time.Time // the end of the longest pause that the fleet has
	mine     time.Time // the end of the longest that began here
	due      bool      // to be published
	applying bool      // a pause from outside is being set

	breaker   *retry.CircuitBreaker
	resetting bool // the fleet closes it right now
	recovered bool // a probe of this process closed it
	finding   *finding
	closing   bool
	published finding
	at        time.Time
	episode   int
	openUntil time.Time
	tripped   time.Time
	resetAt   time.Time
	closedAt  time.Time
	turnDue   bool
	ended     bool
	failures  int
	successes int
	lastGood  time.Time
}

// finding is what a process thinks of the server.
type finding struct {
	weight int
	open   bool
	until  time.Time
	lasts  time.Duration
}

// command runs a script in Redis, and hands its answer to the member.
func (m *member) command(script, answer func()) {
	m.publishing = true
	w := m.fleet.world
	w.after(toStore, func() {
		script()
		w.after(toStore, func() {
			m.publishing = false
			answer()
			m.publish()
		})
	})
}

// publish announces what is due, one after the other.
func (m *member) publish() {
	switch {
	case m.publishing:
	case m.due:
		m.due = false
		m.publishPause()
	case m.closing:
		m.closing = false
		m.command(func() { m.fleet.closeScript(m.id, m.episode, m.crowd()) }, func() {})
	case m.turnDue:
		m.turnDue = false
		m.takeTurn()
	case m.finding != nil:
		found := *m.finding
		m.finding = nil
		m.publishFinding(found)
	}
}

// onPause is called by the gate when it was paused.
func (m *member) onPause(until time.Time) {
	left := min(m.fleet.until(until), fleetMaxTime)
	if m.applying || left <= 0 || until.Sub(m.known) <= slack(left) {
		return
	}
	m.known = m.fleet.world.now.Add(left)
	m.mine, m.due = m.known, true
	m.fleet.world.after(0, m.publish)
}

func (m *member) publishPause() {
	left := m.fleet.until(m.mine)
	if left <= 0 {
		return
	}
	var there time.Duration
	m.command(func() { there = m.fleet.pauseScript(m.id, left) }, func() {
		if m.fleet.world.now.Add(there).Sub(m.known) > slack(left) {
			m.learn(there)
		}
	})
}

// learn sets a pause that began elsewhere.
func (m *member) learn(left time.Duration) {
	until := m.fleet.world.now.Add(left)
	if until.After(m.known) {
		m.known = until
	}
	until = until.Add(m.fleet.upTo(min(max(m.fleet.forAll(fleetGateSpread), m.turn()), fleetMaxGateSpread)))
	if has, paused := m.gate.PausedUntil(); !paused || until.Sub(has) > time.Millisecond {
		m.applying = true
		m.gate.Refused(m.fleet.until(until))
		m.applying = false
	}
}

// turn is the time between two calls of a gate that keeps a pace.
func (m *member) turn() time.Duration {
	rate, paced := m.gate.Pace()
	if !paced || rate <= 0 {
		return 0
	}
	return seconds(min(1/rate, fleetMaxGateSpread.Seconds()))
}

// look takes the breaker's state in.
func (m *member) look() {
	if m.breaker == nil {
		return
	}
	if now := m.fleet.world.now; !m.resetAt.IsZero() && !now.Before(m.resetAt) {
		m.resetAt = time.Time{}
		if m.breaker.State() != retry.StateClosed {
			m.resetting = true
			m.breaker.Reset()
			m.resetting = false
		}
	}
	adopt := m.judge(m.breaker.Snapshot())
	m.publish()
	if adopt {
		left := m.fleet.until(m.openUntil)
		m.trip(left, left)
	}
}

// judge decides what to publish, and whether to open because the fleet has.
func (m *member) judge(b retry.Snapshot) (adopt bool) {
	now := m.fleet.world.now
	if !now.Before(m.published.until) {
		m.published = finding{}
	}
	if b.Successes > m.successes && b.State == retry.StateClosed {
		m.lastGood = now
	}
	worse := b.ConsecutiveFailures > m.failures
	m.successes, m.failures = b.Successes, b.ConsecutiveFailures
	if m.recovered {
		m.recovered = false
		m.published, m.finding, m.closing, m.ended = finding{}, nil, true, true
		m.openUntil, m.resetAt = time.Time{}, time.Time{}
	}
	found := finding{}
	switch {
	case b.State == retry.StateOpen:
		if b.OpenUntil.Sub(m.tripped).Abs() < fleetSameTime {
			return false
		}
		m.resetAt = time.Time{}
		found = finding{fleetOpenWeight, true, b.OpenUntil, 0}
	case b.State != retry.StateClosed:
		return false
	case b.ConsecutiveFailures > 0 && now.Before(m.openUntil):
		return true
	case b.ConsecutiveFailures >= fleetSuspicion:
		found = finding{min(b.ConsecutiveFailures, fleetOpenWeight), false, now.Add(fleetOpenTime), fleetOpenTime}
	case b.ConsecutiveFailures > 0 && worse:
		found = finding{1, false, now.Add(fleetFresh), fleetOpenTime}
	case b.ConsecutiveFailures > 0:
		return false
	}
	if m.worthTelling(found) {
		m.published, m.at, m.finding = found, now, &found
	}
	return false
}

func (m *member) worthTelling(found finding) bool {
	switch {
	case found.weight == 0:
		return m.published.weight > 0
	case found.weight > m.published.weight || found.open != m.published.open:
		return true
	case found.open:
		return found.until.Sub(m.published.until) > slack(m.fleet.until(found.until))
	}
	return m.fleet.world.now.Sub(m.at) > fleetOpenTime/2
}

func (m *member) publishFinding(found finding) {
	asked := m.fleet.world.now
	left := max(0, m.fleet.until(found.until))
	if left == 0 {
		found = finding{}
	}
	var there time.Duration
	var episode int
	m.command(func() { there, episode = m.fleet.findingScript(m.id, found, left, cmp.Or(found.lasts, left)) }, func() {
		if found.weight > 0 && m.finding == nil && m.closedAt.After(asked) {
			m.finding = &finding{}
		}
		until := asked.Add(there)
		if there > 0 && !m.closedAt.After(asked) && until.Sub(m.openUntil) > slack(m.fleet.until(until)) {
			m.opened(m.fleet.until(until), episode, m.id)
		}
	})
}

// opened is called when it is known that the breaker is open for the fleet.
func (m *member) opened(left time.Duration, episode, by int) {
	if m.breaker == nil || left <= 0 {
		return
	}
	now := m.fleet.world.now
	m.look()
	b := m.breaker.Snapshot()
	first := left
	if episode == m.episode {
		first /= fleetProbesIn
	}
	m.episode, m.resetAt, m.openUntil, m.ended = episode, time.Time{}, now.Add(left), false
	good := b.State == retry.StateClosed && b.ConsecutiveFailures == 0 && now.Sub(m.lastGood) < fleetFresh
	if good || by == m.id && b.State == retry.StateOpen {
		return
	}
	m.trip(left, first)
}

// trip opens the breaker until its first probe is due, and a while longer.
func (m *member) trip(left, first time.Duration) {
	if left <= 0 {
		return
	}
	d := first + m.fleet.upTo(min(m.fleet.forAll(fleetProbeSpread), left))
	if b := m.breaker.Snapshot(); b.State == retry.StateOpen && m.fleet.until(b.OpenUntil) >= d {
		return
	}
	m.published = finding{}
	m.openFor(d)
}

func (m *member) openFor(d time.Duration) {
	m.tripped = m.fleet.world.now.Add(d)
	m.breaker.Trip(d)
	if b := m.breaker.Snapshot(); b.State == retry.StateOpen {
		m.tripped = b.OpenUntil
	}
}

// closed is called when it is known that a probe of some process has succeeded.
func (m *member) closed(by int) {
	now := m.fleet.world.now
	m.episode, m.openUntil, m.closedAt = 0, time.Time{}, now
	m.published, m.finding = finding{}, nil
	ended := m.ended && by == m.id
	m.ended = false
	b := m.breaker.Snapshot()
	if ended || b.State == retry.StateClosed {
		return
	}
	m.tripped = b.OpenUntil
	each := fleetCloseSpread + time.Duration(m.breaker.Waiting())*fleetWaiterTime
	wait := m.fleet.upTo(min(m.fleet.forAll(each), fleetOpenTime))
	if m.turnDue = m.breaker.Waiting() > 0; m.turnDue {
		wait += fleetTimeout
	}
	m.resetIn(wait)
	m.publish()
}

func (m *member) resetIn(wait time.Duration) {
	m.resetAt = m.fleet.world.now.Add(wait)
	m.fleet.world.after(wait, m.look)
}

// crowd is how long the calls take that wait, one after the other.
func (m *member) crowd() time.Duration {
	return min(time.Duration(m.breaker.Waiting())*fleetWaiterTime, fleetOpenTime)
}

// takeTurn asks when the calls that wait here may go.
func (m *member) takeTurn() {
	asked, crowd := m.fleet.world.now, m.crowd()
	var wait time.Duration
	m.command(func() { wait = m.fleet.turnScript(crowd) }, func() {
		if wait < 0 || m.resetAt.IsZero() || m.closedAt.After(asked) {
			return
		}
		m.resetIn(wait)
		b := m.breaker.Snapshot()
		if b.State == retry.StateHalfOpen || b.State == retry.StateOpen && m.fleet.until(b.OpenUntil) < wait {
			m.openFor(wait)
		}
	})
}
